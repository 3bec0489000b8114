"""The result file of a benchmark: rows with a ratio against a named peer, and the machine."""

import json
import sys

import pytest
from conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
import measure


def test_a_row_holds_its_share_of_a_known_limit_and_the_machine():
    row = measure.row("ours against hf", ours=2.0, peer=9.0, ratio=4.5, limit=6.0, unit="s", n=7, documents=3)
    assert (row["ratio"], row["share_of_limit"], row["documents"]) == (4.5, 0.75, 3) and "cores" in row["machine"]
    assert measure.row("a", ours=1.0, peer=2.0, ratio=2.0, unit="s", n=1)["share_of_limit"] is None


def test_results_are_written_by_script(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measure, "RESULTS", tmp_path / "results")
    rows = [measure.row(name, ours=1.0, peer=2.0, ratio=2.0, unit="s", n=1) for name in ("a", "b")]
    measure.write("dedup", rows, quick=True, curve=[1])
    held = json.loads((tmp_path / "results" / "dedup.json").read_text())
    assert [row["name"] for row in held["rows"]] == ["a", "b"] and held["quick"] is True and held["curve"] == [1]
    assert {"name", "ratio", "share_of_limit", "machine"} <= set(held["rows"][0])
    assert "ratio" in capsys.readouterr().out


def test_every_script_has_a_short_form():
    chosen = measure.arguments("what it does").parse_args(["--quick"])
    assert chosen.quick and not measure.arguments("").parse_args([]).quick


@pytest.mark.slow
def test_the_short_form_of_a_benchmark_runs(tmp_path, monkeypatch):
    import dedup

    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["dedup.py", "--quick"])
    monkeypatch.setattr(dedup, "SIZES", (2000, 4000))
    dedup.main()
    rows = json.loads((tmp_path / "dedup.json").read_text())["rows"]
    assert len(rows) == 3 and all(row["ratio"] > 0 and row["ours"] > 0 for row in rows)
