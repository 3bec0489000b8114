"""Small pictures for the map of the notebooks, one a notebook, from the figures of a run that is there.

    python -m thumbnails cpu

Each says in its PNG text which profile it is from. Trap: they do not follow a new run by themselves.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

from PIL import Image, PngImagePlugin

from s2utils.workflow import artefacts, declared, paths

FIGURES = {notebook.name: notebook.figure for notebook in declared.notebooks() if notebook.figure}
WIDTH, HEIGHT = 360, 200  # pixels, at most
BYTES = 20_000  # at most


def folder() -> Path:
    """Where the pictures lie, beside the notebooks."""
    return paths.root() / "notebooks" / "thumbnails"


def small(picture: Path, profile: str) -> bytes:
    """A PNG of at most `BYTES` bytes, with as many colours as fit, white where `picture` is clear."""
    image = Image.open(picture).convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    image.thumbnail((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    note = PngImagePlugin.PngInfo()
    note.add_text("Comment", f"profile {profile}, figure {picture.stem}")
    for colours in (128, 64, 32, 16, 8, 4, 2):
        made = io.BytesIO()
        image.quantize(colours).save(made, "PNG", optimize=True, pnginfo=note)
        if len(made.getvalue()) <= BYTES:
            return made.getvalue()
    raise ValueError(f"{picture} does not fit into {BYTES:,} bytes")


def main(arguments: list[str] | None = None) -> int:
    """Make the pictures whose figure the profile has, and name those it has not."""
    parser = argparse.ArgumentParser(prog="python -m thumbnails", description=__doc__.split("\n")[0])
    parser.add_argument("profile")
    profile = parser.parse_args(arguments).profile
    lacking = []
    for notebook, figure in FIGURES.items():
        picture = paths.reports(profile) / "figures" / f"{figure}.png"
        if not picture.is_file():
            lacking.append(f"{figure}.png of {notebook}")
            continue
        with artefacts.replacing(folder() / f"{notebook}.png", "wb") as file:
            file.write(small(picture, profile))
    if lacking:
        print(f"reports/{profile}/figures lacks {', '.join(lacking)}; those pictures stay as they are", file=sys.stderr)
    return int(len(lacking) == len(FIGURES))


if __name__ == "__main__":
    sys.exit(main())
