"""Blocks that find exact copies in a corpus: of whole documents, and of paragraphs long enough to mean something.

Each task keeps 64-bit fingerprints, one task marks those that stood before in the order of the corpus, and each drops
by its marks, so the result is the same however many tasks there are. Trap: two texts of one fingerprint by chance are
one in 2⁶⁴ a pair, in a corpus of 10⁹ paragraphs about one in forty.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.writers.disk_base import DiskWriter

from s2utils.workflow import artefacts

Verdict = bool | tuple[bool, str]


def paragraphs(text: str, least: int) -> list[tuple[str, bool]]:
    """(paragraph with its line end, whether it has `least` words or more), in order."""
    return [(line, least > 0 and len(line.split(None, least)) >= least) for line in text.splitlines(keepends=True)]


def fingerprint(text: str) -> int:
    """64 bits of a text, white space at its ends aside."""
    return int.from_bytes(blake2b(text.strip().encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class Fingerprints(PipelineStep):
    """Passes documents on and keeps the fingerprints of each and of its long paragraphs."""

    type, name = "🫂 - DEDUP", "fingerprints"

    def __init__(self, folder: Path, paragraph_words: int):
        super().__init__()
        self.folder, self.paragraph_words = folder, paragraph_words

    def run(self, data, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Take them."""
        whole, parts = array("Q"), array("Q")
        for doc in data:
            whole.append(fingerprint(doc.text))
            parts.extend(fingerprint(line) for line, long in paragraphs(doc.text, self.paragraph_words) if long)
            yield doc
        with artefacts.replacing(self.folder / f"{rank:05d}.npz", "wb") as file:
            np.savez(file, whole=np.array(whole, np.uint64), parts=np.array(parts, np.uint64))


class FindCopies(PipelineStep):
    """Marks every fingerprint that stood before, in the order of tasks; run it as one task."""

    type, name = "🫂 - DEDUP", "find copies"

    def __init__(self, folder: Path, marks: Path):
        super().__init__()
        self.folder, self.marks = folder, marks

    def run(self, data=None, rank: int = 0, world_size: int = 1) -> None:
        """Mark them."""
        files = sorted(self.folder.glob("*.npz"))
        marks = {}
        for kind in ("whole", "parts"):
            each = [np.load(file)[kind] for file in files]
            joined = np.concatenate(each)
            again = np.ones(len(joined), dtype=bool)
            again[np.unique(joined, return_index=True)[1]] = False
            marks[kind] = np.split(again, np.cumsum([len(part) for part in each])[:-1])
        for i, file in enumerate(files):
            with artefacts.replacing(self.marks / file.name, "wb") as sink:
                np.savez(sink, whole=marks["whole"][i], parts=marks["parts"][i])


class Copies(BaseFilter):
    """Drops documents that stood before, and takes away long paragraphs that did."""

    name = "copies"

    def __init__(self, marks: Path, paragraph_words: int, exclusion_writer: DiskWriter | None = None):
        super().__init__(exclusion_writer)
        self.marks, self.paragraph_words = marks, paragraph_words

    def run(self, data, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """As any filter, with the marks of its task."""
        marks = np.load(self.marks / f"{rank:05d}.npz")
        self._whole, self._parts = iter(marks["whole"]), iter(marks["parts"])
        yield from super().run(data, rank, world_size)

    def filter(self, doc: Document) -> Verdict:
        """Whether it, or something of it, is new."""
        lines = paragraphs(doc.text, self.paragraph_words)
        new = [line for line, long in lines if not (long and next(self._parts))]
        if next(self._whole):
            return False, "document seen before"
        if len(new) < len(lines):
            doc.text = "".join(new).strip()
        return True if doc.text.strip() else (False, "every paragraph seen before")
