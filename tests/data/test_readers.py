import gzip
import json
import tracemalloc

import datasets
import pyarrow as pa
import pytest
from test_sources import ROWS, source
from test_streams import PACK, TEXT

from s2utils.data import readers
from s2utils.data.streams import SourceError, Unreadable


def test_mixed_encodings_are_read_to_the_end(tree):
    kinds = [json.dumps({"q": "Café?"}, ensure_ascii=False).encode(e) for e in ("utf-8", "latin-1", "cp1252", "utf-16")]
    (tree / "a.jsonl").write_bytes(b"\n".join([*kinds, b'{"q": "last"}']))
    found = list(readers.rows(source("a.jsonl")))
    assert found[:2] == [{"q": "Café?"}, {"q": "Caf\ufffd?"}] and found[-1] == {"q": "last"}
    assert Unreadable("broken row") in found  # UTF-16 is no JSON line


@pytest.mark.parametrize("suffix", ["", *PACK])
@pytest.mark.parametrize("kind", ["json", "jsonl", "ndjson", "csv"])
def test_every_text_format_is_read_packed_or_plain(tree, kind, suffix):
    written = ROWS["qa"]
    text = "".join(json.dumps(row) + "\n" for row in written)
    if kind == "json":
        text = json.dumps(written, indent=1)
    elif kind == "csv":
        text = 'id,q,a\r\n1,Why?,Because.\r\n2,"How, ""so""?","Like\nthis."\r\n'
    path = tree / f"a.{kind}{suffix}"
    path.write_bytes(PACK[suffix](text.encode()) if suffix else text.encode())
    assert list(readers.rows(source(path.name))) == written


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "xml"])
def test_a_cut_file_of_any_kind_is_named_once(tree, kind, suffix):
    whole = PACK[suffix](TEXT.encode())
    (tree / f"a.{kind}{suffix}").write_bytes(whole[: len(whole) // 10])
    with pytest.raises(SourceError, match=rf"^a.{kind}{suffix}: ") as error:
        list(readers.rows(source(f"a.{kind}{suffix}")))
    assert str(error.value).count("a." + kind) == 1


def test_one_json_line_is_one_row(tree):
    (tree / "a.json").write_text('{"id": "1", "q": "Why?", "a": "So."}\n')
    assert list(readers.rows(source("a.json"))) == [{"id": "1", "q": "Why?", "a": "So."}]


def test_an_arrow_file_with_a_footer_is_read_too(tree):
    table = pa.Table.from_pylist(ROWS["qa"] * 1500)
    with pa.OSFile(str(tree / "a.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as written:
        written.write_table(table)
    assert list(readers.rows(source("a.arrow"))) == ROWS["qa"] * 1500


def test_a_packed_parquet_file_and_a_broken_csv_are_named(tree):
    (tree / "a.parquet.gz").write_bytes(gzip.compress(b"PAR1"))
    with pytest.raises(
        SourceError, match=r"a.parquet.gz: cannot read '.parquet.gz' files; known: .*but parquet and arrow"
    ):
        list(readers.rows(source("a.parquet.gz")))


def test_a_hub_set_that_needs_a_loading_script_is_refused_with_the_remedy(tree, monkeypatch):
    """The refusal is the library's own, of a folder with such a script."""
    (tree / "eli5").mkdir()
    (tree / "eli5" / "eli5.py").write_text("import datasets\n")
    load = datasets.load_dataset
    monkeypatch.setattr(
        datasets, "load_dataset", lambda path, *args, **options: load(str(tree / "eli5"), *args, **options)
    )
    wanted = "hub data set defunct/eli5 could not be loaded .*eli5.py.*revision: refs/convert/parquet.* a local file"
    with pytest.raises(SourceError, match=wanted) as error:
        list(readers.rows(source("defunct/eli5")))
    assert "\n" not in str(error.value)


def test_a_sample_is_uniform_and_holds_no_more_than_it_keeps():
    hits = [0] * 20
    for seed in range(4000):
        for row in readers.sample(({"i": i} for i in range(20)), 5, seed):
            hits[row["i"]] += 1
    assert all(abs(n - 1000) < 150 for n in hits), "5 of 20: each row in a quarter of the samples (5 sigma)"

    tracemalloc.start()
    kept = list(readers.sample(({"i": i, "text": "x" * 1000} for i in range(50_000)), 10, 0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(kept) == 10 and peak < 1_000_000


def test_a_sample_is_of_usable_rows_and_sums_the_others():
    held = [Unreadable("broken row"), {"i": 1}, Unreadable("redirect", 5), {"i": 2}, Unreadable("broken row"), {"i": 3}]
    found = list(readers.sample(held, 2, 0))
    assert found[2:] == [Unreadable("broken row", 2), Unreadable("redirect", 5)]
    assert [row["i"] for row in found[:2]] == sorted(row["i"] for row in found[:2])


def test_memory_does_not_grow_with_the_rows(tree):
    line = json.dumps({"id": "1", "q": "Why?", "a": "So. " * 250}).encode() + b"\n"
    (tree / "a.jsonl.zst").write_bytes(b"".join(PACK[".zst"](line * 1000) for _ in range(40)))
    tracemalloc.start()
    assert sum(1 for _ in readers.rows(source("a.jsonl.zst"))) == 40_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12_000_000, "of 41 MB of text"
