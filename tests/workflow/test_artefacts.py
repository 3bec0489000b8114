import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.workflow import artefacts

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=5
)
records = st.lists(st.dictionaries(st.text(), values, max_size=4), max_size=5)


def test_a_replaced_file_is_whole(tmp_path):
    with artefacts.replacing(tmp_path / "deep" / "a.txt") as file:
        file.write("näïve\n")
    assert {p.name: p.read_bytes() for p in (tmp_path / "deep").iterdir()} == {"a.txt": "näïve\n".encode()}


@pytest.mark.parametrize("old", [b"old", None])
@pytest.mark.parametrize("trouble", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_replacement_leaves_what_was_there(tmp_path, trouble, old):
    if old:
        (tmp_path / "a.txt").write_bytes(old)
    with pytest.raises(trouble), artefacts.replacing(tmp_path / "a.txt", "wb") as file:
        file.write(b"half of the ne")
        raise trouble
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([old] if old else [])


def test_json_that_cannot_be_written_leaves_the_old_and_torn_json_reads_as_none(tmp_path):
    path = tmp_path / "a.json"
    assert artefacts.read_json(path) is None
    artefacts.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        artefacts.write_json(path, {("a", "b"): 1})
    assert artefacts.read_json(path) == {"a": 1}
    path.write_text('{"a": [1, 2')
    assert artefacts.read_json(path) is None


@given(rows=records)
def test_rows_come_back_as_they_were_whatever_their_text(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    assert artefacts.read_jsonl(path) == []
    artefacts.append_jsonl(path, rows[:2])
    artefacts.append_jsonl(path, rows[2:])
    assert artefacts.read_jsonl(path) == rows


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0c", "\x1e", "\r"])
def test_characters_that_python_splits_lines_at_do_not_tear_a_row(tmp_path, mark):
    rows = [{"text": f"one{mark}two"}, {"text": "three"}]
    artefacts.append_jsonl(tmp_path / "a.jsonl", rows)
    assert artefacts.read_jsonl(tmp_path / "a.jsonl") == rows


def test_half_a_surrogate_pair_can_be_written(tmp_path):
    artefacts.append_jsonl(tmp_path / "a.jsonl", [{"text": "half \ud83d"}, {"text": "whole 😀"}])
    assert artefacts.read_jsonl(tmp_path / "a.jsonl")[1] == {"text": "whole 😀"}


@given(rows=records, cut=st.integers(min_value=0))
def test_a_torn_last_line_is_cut_off_and_the_rest_kept(tmp_path_factory, rows, cut):
    path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    artefacts.append_jsonl(path, rows)
    data = path.read_bytes()
    path.write_bytes(data[: cut % (len(data) + 1)])
    whole = artefacts.read_jsonl(path)
    assert whole == rows[: len(whole)]
    artefacts.append_jsonl(path, [{"after": 1}])
    assert artefacts.read_jsonl(path) == [*whole, {"after": 1}]


def test_a_made_artefact_is_ready_for_its_own_key_only(tmp_path):
    folder = tmp_path / "sft"
    with artefacts.making(folder, "k1", {"model": "m"}) as record:
        (folder / "deep").mkdir()
        (folder / "deep" / "weights.bin").write_bytes(b"abc")
        (folder / "a.txt").touch()
        record["rows"] = 3
    assert artefacts.ready(folder, "k1") and not artefacts.ready(folder, "k2")
    manifest = artefacts.require(folder, "k1", "03_sft", "make 03_sft")
    assert (manifest["key"], manifest["model"], manifest["rows"]) == ("k1", "m", 3)
    assert list(manifest["files"]) == ["a.txt", "deep/weights.bin"] and manifest["seconds"] >= 0
    assert manifest["files"]["deep/weights.bin"]["sha256"] == artefacts.sha256(folder / "deep" / "weights.bin")
    assert not (folder / "making.json").exists()


@pytest.mark.parametrize("manifest", [None, "", "{", "null", '{"files": {}}'])
def test_without_a_whole_manifest_nothing_is_ready(tmp_path, manifest):
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    assert not artefacts.ready(tmp_path, "k1")


@pytest.mark.parametrize("trouble", [RuntimeError, KeyboardInterrupt])
def test_a_killed_making_is_not_taken_for_done_and_resumes(tmp_path, trouble):
    folder = tmp_path / "answers"
    with pytest.raises(trouble), artefacts.making(folder, "k1"):
        (folder / "rows.jsonl").write_text("half\n")
        raise trouble
    assert not artefacts.ready(folder, "k1")
    with artefacts.making(folder, "k1"):
        assert (folder / "rows.jsonl").read_text() == "half\n"
        (folder / "rows.jsonl").write_text("half\nwhole\n")
    assert artefacts.ready(folder, "k1")


def test_what_another_key_left_behind_is_removed(tmp_path):
    folder = tmp_path / "answers"
    with pytest.raises(RuntimeError), artefacts.making(folder, "k1"):
        (folder / "rows.jsonl").write_text("other parameters\n")
        raise RuntimeError
    with artefacts.making(folder, "k2"):
        assert not (folder / "rows.jsonl").exists()
    with artefacts.making(folder, "k3"):
        assert [p.name for p in folder.iterdir()] == ["making.json"]


def test_remaking_takes_the_old_manifest_away_first(tmp_path):
    folder = tmp_path / "answers"
    for key in ("k1", "k1", "k2"):
        with artefacts.making(folder, key):
            assert not (folder / "manifest.json").exists()
    with pytest.raises(RuntimeError), artefacts.making(folder, "k2"):
        raise RuntimeError
    assert not artefacts.ready(folder, "k2")


@pytest.mark.parametrize(("file", "left"), [("weights.bin", b"01234"), ("weights.bin", None), ("manifest.json", None)])
def test_a_truncated_or_missing_file_is_not_ready(tmp_path, file, left):
    """The power may go just before the manifest is written."""
    with artefacts.making(tmp_path / "sft", "k1"):
        (tmp_path / "sft" / "weights.bin").write_bytes(b"0123456789")
    (tmp_path / "sft" / file).unlink()
    if left:
        (tmp_path / "sft" / file).write_bytes(left)
    assert not artefacts.ready(tmp_path / "sft", "k1")


def test_a_missing_artefact_says_what_to_run(tmp_path):
    folder = tmp_path / "sft"
    said = r"is not there yet: run notebooks/03_sft.ipynb first[^$]*make 03_sft PROFILE=cpu"
    with pytest.raises(artefacts.MissingArtefact, match=said):
        artefacts.require(folder, "k1", "03_sft", "make 03_sft PROFILE=cpu")
    with artefacts.making(folder, "k1"):
        pass
    with pytest.raises(artefacts.MissingArtefact, match="made with other parameters or code"):
        artefacts.require(folder, "k2", "03_sft", "make 03_sft PROFILE=cpu")


def test_what_a_kill_left_half_written_is_not_part_of_the_artefact(tmp_path):
    folder = tmp_path / "step"
    with pytest.raises(KeyboardInterrupt), artefacts.making(folder, "k"):
        (folder / "whole.txt").write_text("a")
        (folder / ".train.parquet.x1y2z3").write_text("half")
        raise KeyboardInterrupt
    with artefacts.making(folder, "k"):
        pass
    assert set(artefacts.read_json(folder / "manifest.json")["files"]) == {"whole.txt"}
    assert not list(folder.glob(".train*"))
