"""Raw rows, streamed: every format packed or plain, cut files named, samples uniform, memory flat."""

import gzip
import json
import tracemalloc

import datasets
import pyarrow as pa
import pytest
from source_files import LINES, PACK, ROWS, packed, put, source

from s2utils.data import readers
from s2utils.data.streams import SourceError, Unreadable


def rows(name: str) -> list:
    return list(readers.rows(source(name)))


def test_mixed_encodings_are_read_to_the_end(root):
    kinds = [json.dumps({"q": "Café?"}, ensure_ascii=False).encode(e) for e in ("utf-8", "latin-1", "cp1252", "utf-16")]
    (root / "a.jsonl").write_bytes(b"\n".join([*kinds, b'{"q": "last"}']))
    read = rows("a.jsonl")
    assert read[:2] == [{"q": "Café?"}, {"q": "Caf\ufffd?"}] and read[-1] == {"q": "last"}
    assert Unreadable("broken row") in read  # UTF-16 is no JSON line


@pytest.mark.parametrize("suffix", ["", *PACK])
@pytest.mark.parametrize("kind", ["json", "jsonl", "ndjson", "csv"])
def test_every_text_format_is_read_packed_or_plain(root, kind, suffix):
    assert rows(put(root, f"a.{kind}{suffix}", ROWS["qa"])) == ROWS["qa"]


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "xml"])
def test_a_cut_file_of_any_kind_is_named_once(root, kind, suffix):
    name = f"a.{kind}{suffix}"
    whole = packed(name, LINES)
    (root / name).write_bytes(whole[: len(whole) // 10])
    with pytest.raises(SourceError, match=f"^{name}: ") as error:
        rows(name)
    assert str(error.value).count("a." + kind) == 1


def test_one_json_line_is_one_row(root):
    (root / "a.json").write_text('{"id": "1", "q": "Why?", "a": "So."}\n')
    assert rows("a.json") == [{"id": "1", "q": "Why?", "a": "So."}]


def test_an_arrow_file_with_a_footer_is_read_too(root):
    table = pa.Table.from_pylist(ROWS["qa"] * 1500)
    with pa.OSFile(str(root / "a.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as written:
        written.write_table(table)
    assert rows("a.arrow") == ROWS["qa"] * 1500


def test_a_packed_parquet_file_is_named(root):
    (root / "a.parquet.gz").write_bytes(gzip.compress(b"PAR1"))
    with pytest.raises(SourceError, match=r"cannot read '.parquet.gz' files; known: .*but parquet and arrow"):
        rows("a.parquet.gz")


def test_a_hub_set_that_needs_a_loading_script_is_refused_with_the_remedy(root, monkeypatch):
    """The refusal is the library's own, of a folder with such a script."""
    (root / "eli5").mkdir()
    (root / "eli5" / "eli5.py").write_text("import datasets\n")
    load, folder = datasets.load_dataset, str(root / "eli5")
    monkeypatch.setattr(datasets, "load_dataset", lambda path, *args, **options: load(folder, *args, **options))
    wanted = "hub data set defunct/eli5 could not be loaded .*eli5.py.*revision: refs/convert/parquet.* a local file"
    with pytest.raises(SourceError, match=wanted) as error:
        rows("defunct/eli5")
    assert "\n" not in str(error.value)


def peak_memory(work) -> int:
    """Bytes."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_a_sample_is_uniform_and_holds_no_more_than_it_keeps():
    hits = [0] * 20
    for seed in range(4000):
        for row in readers.sample(({"i": i} for i in range(20)), 5, seed):
            hits[row["i"]] += 1
    assert all(abs(n - 1000) < 150 for n in hits), "5 of 20: each row in a quarter of the samples (5 sigma)"
    many = ({"i": i, "text": "x" * 1000} for i in range(50_000))
    assert peak_memory(lambda: list(readers.sample(many, 10, 0))) < 1_000_000


def test_a_sample_is_of_usable_rows_and_sums_the_others():
    given = [
        Unreadable("broken row"),
        {"i": 1},
        Unreadable("redirect", 5),
        {"i": 2},
        Unreadable("broken row"),
        {"i": 3},
    ]
    sample = list(readers.sample(given, 2, 0))
    assert sample[2:] == [Unreadable("broken row", 2), Unreadable("redirect", 5)]
    assert [row["i"] for row in sample[:2]] == sorted(row["i"] for row in sample[:2])


def test_memory_does_not_grow_with_the_rows(root):
    line = json.dumps({"id": "1", "q": "Why?", "a": "So. " * 250}).encode() + b"\n"
    (root / "a.jsonl.zst").write_bytes(b"".join(PACK[".zst"](line * 1000) for _ in range(40)))

    def read() -> None:
        assert sum(1 for _ in readers.rows(source("a.jsonl.zst"))) == 40_000

    assert peak_memory(read) < 12_000_000, "of 41 MB of text"
