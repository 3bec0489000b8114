"""Where things lie: the repository's root, the user's cache, and the folders of a profile."""

from __future__ import annotations

import os
from pathlib import Path


def root() -> Path:
    """The repository: `S2_ROOT`, else the nearest parent of the working directory that holds `params/`."""
    if "S2_ROOT" in os.environ:
        return Path(os.environ["S2_ROOT"]).resolve()
    here = Path.cwd().resolve()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[2]):
        if (folder / "params").is_dir() and (folder / "notebooks").is_dir():
            return folder
    raise FileNotFoundError(f"no repository with params/ and notebooks/ above {here}; set S2_ROOT")


def cache() -> Path:
    """Downloads and converted models, shared by all checkouts: `S2_CACHE`, else the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("S2_CACHE") or Path(base) / "s2").resolve()


def artefacts(profile: str) -> Path:
    """Data, adapters, answers and scores of a profile."""
    return root() / "artefacts" / profile


def reports(profile: str) -> Path:
    """Tables, figures and pages of a profile."""
    return root() / "reports" / profile
