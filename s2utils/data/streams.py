"""Lines and bytes of files, plain or packed, streamed: memory does not grow with the file.

Text is UTF-8 and bytes that are not become U+FFFD, so old dumps of mixed encodings are read to the end.
Trap: most decompressors take the end of a cut file for its end (zstandard always does), so the end of
every stream is checked here.
"""

from __future__ import annotations

import bz2
import io
import json
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

from s2utils.workflow import paths
from s2utils.workflow.errors import UserError

PACKED = {  # suffix → what it is called, a decompressor of one stream
    ".gz": ("gzip", lambda: zlib.decompressobj(wbits=31)),
    ".bz2": ("bzip2", bz2.BZ2Decompressor),
    ".xz": ("xz", lzma.LZMADecompressor),
    # reddit's dumps were written with --long=31, more than the library allows by default
    ".zst": ("zstandard", lambda: zstandard.ZstdDecompressor(max_window_size=2**31).decompressobj()),
}
PIECE = 2**16  # bytes read at a time: at the highest ratios a piece unpacks to tens of megabytes


class SourceError(UserError, ValueError):
    """A source that cannot be read at all; the message names it, the trouble and the remedy."""


@dataclass(frozen=True)
class Unreadable:
    """A row that cannot be used, or `n` of them, with the reason."""

    reason: str
    n: int = 1


def lines(path: Path) -> Iterator[tuple[int, str]]:
    r"""Numbered lines of a text file, plain or packed (.gz .bz2 .xz .zst), without their "\n".

    Only "\n" ends a line. Raises SourceError where a packed file is cut or damaged, after the lines before it.
    """
    with io.TextIOWrapper(unpacked(path), encoding="utf-8-sig", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            yield number, line.removesuffix("\n")


def parsed(line: str) -> object:
    """The line's JSON value, None where there is none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def unpacked(path: Path) -> io.BufferedReader:
    """The file's bytes, unpacked while they are read."""
    return io.BufferedReader(_Pieces(_pieces(path)), 2**18)


def writable(text: str) -> str:
    """Half a surrogate pair, which JSON can spell and no file can hold, becomes "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")


def shown(path: Path) -> str:
    """Path as a reader would write it."""
    return str(path.relative_to(paths.root())) if path.is_relative_to(paths.root()) else str(path)


class _Pieces(io.RawIOBase):
    """An iterator of bytes as a file."""

    def __init__(self, pieces: Iterator[bytes]):
        self.pieces, self.rest = pieces, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while not self.rest and (piece := next(self.pieces, None)) is not None:
            self.rest = memoryview(piece)
        n = min(len(buffer), len(self.rest))
        buffer[:n], self.rest = self.rest[:n], self.rest[n:]
        return n

    def close(self) -> None:
        self.pieces.close()
        super().close()


def _pieces(path: Path) -> Iterator[bytes]:
    """The unpacked bytes of a file of one or more streams."""
    label, start = PACKED.get(path.suffix, ("", None))
    with open(path, "rb") as file:
        if start is None:
            yield from iter(lambda: file.read(2**18), b"")
            return
        stream, count = start(), 0
        try:
            while data := file.read(PIECE):
                while data:
                    if stream.eof:
                        data = data.lstrip(b"\0")  # padding between streams
                        if not data:
                            break
                        stream = start()
                    piece = stream.decompress(data)
                    count += piece.count(b"\n")
                    yield piece
                    data = stream.unused_data if stream.eof else b""
            if not stream.eof:
                raise EOFError("the end of its last stream is missing")
        except (EOFError, OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
            raise SourceError(
                f"{shown(path)}: the file is cut or not {label} ({error}) after line {count}; fetch it again"
            ) from error
