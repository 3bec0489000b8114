"""The chart of a run: idle time is cut out and counted, order and lengths are kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.report import provenance_page
from s2utils.workflow import artefacts, paths


def run(start: str, end: str, failed: bool = False) -> dict:
    return {"start": f"2026-01-{start}", "end": f"2026-01-{end}", "failed": failed, "seconds": 1.0}


def test_a_night_between_two_runs_is_cut_out():
    runs = {
        "01": run("01T10:00:00", "01T10:10:00"), "02": run("02T10:00:00", "02T10:10:00"),
        "02.a": run("01T10:05:00", "01T10:10:00", failed=True), "half": {"start": None, "end": None, "failed": False},
    }  # fmt: skip
    chart = provenance_page.chart(runs)
    assert [b["name"] for b in chart["bars"]] == ["01", "02.a", "02"] and chart["bars"][1]["failed"]
    assert chart["idle"] == pytest.approx(23 * 3600 + 50 * 60 - 0.03 * 1200)
    assert chart["length"] == pytest.approx(1200 * 1.03)
    assert provenance_page.chart({"half": runs["half"]}) is None


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**4)), min_size=1, max_size=30))
def test_squeezing_keeps_lengths_and_order(spans):
    spans = sorted((s, s + d) for s, d in spans)
    place, length, idle = provenance_page._squeezed(spans)
    assert idle >= 0 and place(spans[0][0]) == 0
    for start, end in spans:
        assert 0 <= place(start) <= place(end) <= length + 1e-6
        assert place(end) - place(start) == pytest.approx(end - start)
    starts = [place(s) for s, _ in spans]
    assert starts == sorted(starts)


def test_jobs_and_energy_are_read_and_what_was_not_measured_is_missing(tree):
    held = paths.artefacts("cpu") / "benchmarks"
    held.mkdir(parents=True)
    (held / "01_eda.tsv").write_text("s\th:m:s\tmax_rss\tcpu_time\n35.7\t0:00:35\t715.48\t9.66\n")
    (held / "02.tsv").write_text("s\th:m:s\tmax_rss\tcpu_time\n0.4\t0:00:00\tNA\t-\n")
    eda, two = provenance_page.jobs("cpu", {"01_eda": {"seconds": 33.0, "failed": False}})
    assert (eda["seconds"], eda["memory"], eda["cpu"]) == (33.0, 715.5, 9.7)
    assert (two["seconds"], two["memory"], two["cpu"]) == (0.4, None, None)
    assert provenance_page.energy("cpu") == ""
    for name, kwh in (("a", 0.5), ("b", 0.25)):
        artefacts.write_json(paths.artefacts("cpu") / "sft" / name / "result.json", {"kwh": kwh, "co2_kg": kwh / 2})
    assert provenance_page.energy("cpu") == "0.75 kWh, 0.375 kg CO₂, over 2 trainings"
