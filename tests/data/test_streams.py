import bz2
import gzip
import lzma

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from s2utils.data import streams
from s2utils.data.streams import SourceError

PACK = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}
TEXT = "".join(f"line {i} {i * i * 2654435761 % 2**32:08x}\n" for i in range(60_000))


@pytest.mark.parametrize("suffix", ["", *PACK])
def test_lines_are_numbered_and_whole(tree, suffix):
    path = tree / f"a.txt{suffix}"
    data = "\ufeffone\r\ntwo\u2028still two\x85\n\nfour".encode()
    path.write_bytes(PACK[suffix](data) if suffix else data)
    assert list(streams.lines(path)) == [(1, "one\r"), (2, "two\u2028still two\x85"), (3, ""), (4, "four")]


@pytest.mark.parametrize("suffix", PACK)
def test_a_file_of_several_streams_is_read_to_its_end(tree, suffix):
    path = tree / f"a.txt{suffix}"
    path.write_bytes(b"".join(PACK[suffix](part) for part in (b"a\nb", b"", b"c\n", TEXT.encode())) + b"\0" * 8)
    found = [line for _, line in streams.lines(path)]
    assert found[:2] == ["a", "bc"] and "\n".join(found[2:]) + "\n" == TEXT


def test_the_window_of_reddit_dumps_and_skippable_frames(tree):
    path = tree / "a.txt.zst"
    long = zstandard.ZstdCompressionParameters.from_level(3, window_log=31, enable_ldm=True)
    stream = zstandard.ZstdCompressor(compression_params=long).compressobj()
    skippable = (0x184D2A50).to_bytes(4, "little") + (3).to_bytes(4, "little") + b"abc"
    path.write_bytes(skippable + stream.compress(TEXT.encode()) + stream.flush() + skippable)
    assert sum(1 for _ in streams.lines(path)) == 60_000


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("share", [0.0, 0.0001, 0.3, 0.5, 0.9, 0.99999])
def test_a_cut_file_gives_the_lines_before_the_cut_and_then_says_so(tree, suffix, share):
    whole = PACK[suffix](TEXT.encode())
    path = tree / f"a.txt{suffix}"
    path.write_bytes(whole[: int(len(whole) * share)])
    found = []
    with pytest.raises(
        SourceError, match=rf"^a.txt{suffix}: the file is cut .* after line \d+; fetch it again"
    ) as error:
        found.extend(streams.lines(path))
    assert f"after line {len(found)};" in str(error.value)
    assert [line for _, line in found] == TEXT.split("\n")[: len(found)]
    assert found or share < 0.9, "the last block, bzip2's of 900 kB, is all that a decompressor holds back"


@pytest.mark.parametrize("suffix", PACK)
def test_a_cut_between_the_last_bytes_is_seen(tree, suffix):
    whole = PACK[suffix](b"a\nb\n")
    for n in range(1, min(8, len(whole))):
        (tree / f"a{suffix}").write_bytes(whole[:-n])
        with pytest.raises(SourceError, match="fetch it again"):
            list(streams.lines(tree / f"a{suffix}"))


@pytest.mark.parametrize("suffix", PACK)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_lines_or_a_named_error(tmp_path_factory, suffix, data):
    path = tmp_path_factory.mktemp("bytes") / f"a.txt{suffix}"
    path.write_bytes(data)
    try:
        list(streams.lines(path))
    except SourceError as error:
        assert path.name in str(error)
