"""Components of a corpus as documents, read lazily: what packages carry, hub data sets, files and folders of texts.

A file is JSON lines, each with a text (and a domain, where it has several), or one text; packed ones (.gz .bz2 .xz
.zst) are unpacked while they are read. What cannot be used is counted by reason: not UTF-8, no text, empty, no domain,
too long. Trap: a sample of files reads them twice, to count and to draw, so that memory does not grow with it; a
sample of a hub set is drawn from its stream and never downloaded whole, in other words not drawn from all of it.
"""

from __future__ import annotations

import hashlib
import io
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from s2utils.data import packaged_corpora, readers
from s2utils.data.parameters import Component
from s2utils.data.streams import PACKED, SourceError, Unreadable, parsed, shown, unpacked, writable
from s2utils.workflow import artefacts, packaged, paths
from s2utils.workflow.errors import ParameterError

LINES, TEXTS = (".jsonl", ".ndjson", ".json"), (".txt", ".md")
LONGEST = 50_000_000  # bytes of a line or a text: more is no document and would be held in memory


@dataclass(frozen=True, slots=True)
class Document:
    """One text; ids are unique in their component."""

    id: str
    domain: str
    component: str
    text: str


def documents(name: str, component: Component, seed: int, left_out: Counter | None = None) -> Iterator[Document]:
    """Documents of a component in the order of its source, or a seeded sample of `max_documents` of them in it.

    What cannot be used, or is not drawn, is added to `left_out` by reason. Raises SourceError where nothing can be
    read, NotAtHand where the user must bring the source (see `at_hand`).
    """
    left_out = Counter() if left_out is None else left_out
    chosen = None
    if component.max_documents and _sampled_here(component):
        usable = sum(isinstance(document, Document) for document in _all(name, component, seed))
        if usable > component.max_documents:
            chosen = set(random.Random(f"{seed} {name}").sample(range(usable), component.max_documents))
    position = -1
    for document in _all(name, component, seed):
        if isinstance(document, Unreadable):
            left_out[document.reason] += document.n
            continue
        position += 1
        if chosen is None or position in chosen:
            yield document
        else:
            left_out["not drawn"] += 1
    if position < 0 and not left_out:
        raise SourceError(f"corpus.components.{name}: {component.path} holds no documents")


def at_hand(components: dict[str, Component]) -> dict[str, Component]:
    """The components that can be read here; a line says of each other what is missing, and where it belongs."""
    there = {}
    for name, component in components.items():
        key = component.path.removeprefix("embedded:")
        try:
            if key != component.path and key not in packaged.MADE_HERE:
                packaged.resolve(key)
            there[name] = component
        except packaged.NotAtHand as missing:
            print(f"component {name} is left out: {missing}", flush=True)
    return there


def trainable(components: dict[str, Component]) -> dict[str, Component]:
    """The components themselves; ParameterError where one must not be trained on."""
    if barred := [name for name, component in components.items() if not component.train]:
        raise ParameterError(
            f"corpus.components: {', '.join(barred)} must not be trained on ('train: false': a test set, or a canary "
            "is in it); leave it out of what is trained on"
        )
    return components


def split(folder: Path, components: dict[str, Component], kept: Iterator[Document], share: float, seed: int) -> None:
    """Write `folder`/held_out.parquet and train.parquet of the distinct documents of a corpus, in its order.

    Held out are all documents of components that must not be trained on, and a seeded `share` of the others'. A text
    that is held out is not in train, whatever its component. Columns: component, domain, id, text.
    """
    frame = pd.DataFrame(kept, columns=["id", "domain", "component", "text"]).drop_duplicates(["component", "id"])
    trained = frame["component"].map(lambda name: components[name].train)
    marks = (f"{seed}/{name}/{id}" for name, id in zip(frame["component"], frame["id"]))
    chance = [int(hashlib.sha256(mark.encode()).hexdigest()[:8], 16) / 16**8 for mark in marks]
    held = ~trained | (np.array(chance) < share)
    held_out, left = frame[held], frame[~held & ~frame["text"].isin(frame.loc[held, "text"])]
    for name, part in (("held_out", held_out), ("train", left)):
        with artefacts.replacing(folder / f"{name}.parquet", "wb") as file:
            part[["component", "domain", "id", "text"]].to_parquet(file, index=False)


def folder(path: Path | str, **facts) -> Component:
    """A component of a user's own folder or file: its column text, domain from its column domain or the subfolder."""
    given = {
        "config": "", "split": "", "revision": "", "text": "text", "domain": "{domain}", "epochs": 1.0,
        "max_documents": 0, "train": True, "show": True, "licence": "not stated", "terms": "unknown",
        "consent": "unknown",
    }  # fmt: skip
    return Component(path=str(path), **given | facts)


def _sampled_here(component: Component) -> bool:
    """Whether a sample is drawn by place: not from a hub's stream, nor of what is made in the number asked for."""
    return component.path != "embedded:dm-mathematics" and not _on_hub(component)


def _on_hub(component: Component) -> bool:
    return not component.path.startswith("embedded:") and not (paths.root() / component.path).exists()


def _all(name: str, component: Component, seed: int) -> Iterator[Document | Unreadable]:
    column = component.domain[1:-1] if component.domain.startswith("{") else ""
    for number, row in enumerate(_rows(component, seed)):
        if isinstance(row, Unreadable):
            yield row
            continue
        text, domain = _value(row, component.text), _value(row, column) if column else component.domain
        if not isinstance(text, str):
            yield Unreadable("no text")
        elif not text.strip():
            yield Unreadable("empty")
        elif len(text) > LONGEST:
            yield Unreadable("too long")
        elif not isinstance(domain, str) or not domain.strip():
            yield Unreadable("no domain")
        else:
            yield Document(str(row.get("id", number)), domain.strip(), name, writable(text))


def _rows(component: Component, seed: int) -> Iterator[dict | Unreadable]:
    if component.path.startswith("embedded:"):
        key = component.path.removeprefix("embedded:")
        return packaged_corpora.rows(key, component.max_documents, seed)
    path = paths.root() / component.path
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return _file(path, path.parent)
    if component.path.startswith((".", "/")) or _kind(path):
        raise SourceError(f"{component.path}: there is no such file or folder (paths start at the repository's root)")
    return readers.hub_rows(component, component.max_documents, seed)


def _kind(path: Path) -> str:
    """Suffix of a file that is read, without that of its packing; "" for any other."""
    suffix = Path(path.stem).suffix if path.suffix in PACKED else path.suffix
    return suffix if suffix in (*LINES, *TEXTS) else ""


def _folder(path: Path) -> Iterator[dict | Unreadable]:
    files = sorted(file for file in path.rglob("*") if file.is_file() and _kind(file))
    if not files:
        known = f"{' '.join((*LINES, *TEXTS))}, all but packed ones also {' '.join(PACKED)}"
        raise SourceError(f"{shown(path)}: no file in this folder is one of {known}")
    for file in files:
        yield from _file(file, path)


def _file(path: Path, top: Path) -> Iterator[dict | Unreadable]:
    """Rows of a file: id and domain are its place below `top` and its folder, where a row has none of its own."""
    place = path.relative_to(top)
    domain = place.parts[0] if len(place.parts) > 1 else top.name
    if not (kind := _kind(path)):
        raise SourceError(f"{shown(path)}: cannot read '{''.join(path.suffixes)}' files")
    with unpacked(path) as file:
        if kind in TEXTS:
            data = file.read(LONGEST + 1)
            text = Unreadable("too long") if len(data) > LONGEST else _decoded(data)
            yield text if isinstance(text, Unreadable) else {"id": str(place), "domain": domain, "text": text}
            return
        for number, data in enumerate(_lines(file), start=1):
            line = Unreadable("too long") if data is None else _decoded(data)
            if isinstance(line, Unreadable):
                yield line
            elif line.strip():
                row = parsed(line)
                facts = {"id": f"{place}:{number}", "domain": domain}
                yield facts | row if isinstance(row, dict) else Unreadable("broken row")


def _lines(file: io.BufferedReader) -> Iterator[bytes | None]:
    """Lines of at most `LONGEST` bytes; None for a longer one, which is read to its end and not held."""
    while line := file.readline(LONGEST + 1):
        if len(line) <= LONGEST:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(LONGEST)
        yield None


def _decoded(data: bytes) -> str | Unreadable:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Unreadable("not UTF-8")


def _value(row: dict, column: str) -> object:
    """What a dotted path leads to; a name that holds the dots itself counts first."""
    if column in row:
        return row[column]
    for part in column.split("."):
        row = row.get(part) if isinstance(row, dict) else None
    return row
