"""Lines of files, plain or packed: whole to the end of the last stream, and a cut file says so."""

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from source_files import LINES, PACK, packed

from s2utils.data import streams
from s2utils.data.streams import SourceError


@pytest.mark.parametrize("suffix", ["", *PACK])
def test_lines_are_numbered_and_whole(root, suffix):
    path = root / f"a.txt{suffix}"
    path.write_bytes(packed(path, "\ufeffone\r\ntwo\u2028still two\x85\n\nfour"))
    assert list(streams.lines(path)) == [(1, "one\r"), (2, "two\u2028still two\x85"), (3, ""), (4, "four")]


@pytest.mark.parametrize("suffix", PACK)
def test_a_file_of_several_streams_is_read_to_its_end(root, suffix):
    path = root / f"a.txt{suffix}"
    path.write_bytes(b"".join(packed(path, part) for part in ("a\nb", "", "c\n", LINES)) + b"\0" * 8)
    assert [line for _, line in streams.lines(path)] == ["a", "bc", *LINES.splitlines()]


def test_the_window_of_reddit_dumps_and_skippable_frames(root):
    path = root / "a.txt.zst"
    long = zstandard.ZstdCompressionParameters.from_level(3, window_log=31, enable_ldm=True)
    stream = zstandard.ZstdCompressor(compression_params=long).compressobj()
    skippable = (0x184D2A50).to_bytes(4, "little") + (3).to_bytes(4, "little") + b"abc"
    path.write_bytes(skippable + stream.compress(LINES.encode()) + stream.flush() + skippable)
    assert sum(1 for _ in streams.lines(path)) == 60_000


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("share", [0.0, 0.0001, 0.3, 0.5, 0.9, 0.99999])
def test_a_cut_file_gives_the_lines_before_the_cut_and_then_says_so(root, suffix, share):
    path = root / f"a.txt{suffix}"
    whole = packed(path, LINES)
    path.write_bytes(whole[: int(len(whole) * share)])
    read = []
    message = rf"^a.txt{suffix}: the file is cut .* after line \d+; fetch it again"
    with pytest.raises(SourceError, match=message) as error:
        read.extend(streams.lines(path))
    assert f"after line {len(read)};" in str(error.value)
    assert [line for _, line in read] == LINES.split("\n")[: len(read)]
    assert read or share < 0.9, "the last block, bzip2's of 900 kB, is all that a decompressor holds back"


@pytest.mark.parametrize("suffix", PACK)
def test_a_cut_between_the_last_bytes_is_seen(root, suffix):
    whole = PACK[suffix](b"a\nb\n")
    for n in range(1, min(8, len(whole))):
        (root / f"a{suffix}").write_bytes(whole[:-n])
        with pytest.raises(SourceError, match="fetch it again"):
            list(streams.lines(root / f"a{suffix}"))


@pytest.mark.parametrize("suffix", PACK)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_lines_or_a_named_error(tmp_path_factory, suffix, data):
    path = tmp_path_factory.mktemp("bytes") / f"a.txt{suffix}"
    path.write_bytes(data)
    try:
        list(streams.lines(path))
    except SourceError as error:
        assert path.name in str(error)
