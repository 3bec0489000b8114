import os

import pytest

from s2utils.workflow import artefacts, paths, timings

HEAD = "s\th:m:s\tmax_rss\n"


def record(profile: str, name: str, seconds: float) -> None:
    file = paths.artefacts(profile) / "benchmarks" / f"{name}.tsv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{HEAD}{seconds}\t0:00:00\t10\n")
    os.utime(file, (1_700_000_000,) * 2)


def test_a_notebook_that_never_ran_says_what_would_tell(tree):
    assert timings.recorded("smoke", "03_sft") is None and timings.estimated("smoke", "03_sft") is None
    assert "`make preflight PROFILE=smoke`" in timings.sentence("smoke", "03_sft")
    assert "PROFILE=smoke`" in timings.sentence("smoke@sft.seed=2", "03_sft")


def test_an_estimate_stands_in_until_a_run_is_recorded(tree):
    rules = {"sft_one": ["03_sft", 3, 2000.0], "sft": ["03_sft", 1, 1300.0], "eda": ["01_eda", 1, 9.0]}
    artefacts.write_json(paths.artefacts("smoke") / "preflight" / "estimates.json", {"rules": rules})
    assert "about 2 h 2 min here" in timings.sentence("smoke", "03_sft")
    record("smoke", "03_sft.sciq", 40.2)
    assert timings.sentence("smoke", "03_sft").startswith("Took 40 s here (recorded 2023-11-")


def test_jobs_add_up_and_a_choice_counts_its_own(tree):
    for name, seconds in {"03_sft": 5, "03_sft.sciq": 50, "03_sft.sciq-wikilead": 70, "04_generate.m": 9}.items():
        record("smoke", name, seconds)
    assert timings.recorded("smoke", "03_sft")[:2] == (125, 3)
    assert timings.recorded("smoke", "03_sft", ["sciq"])[:2] == (50, 1)
    record("smoke", "04_generate.merges-of-sciq", 30)
    record("smoke", "04_generate.merges-sciq", 2)
    assert timings.recorded("smoke", "04_generate", ["sciq"])[:2] == (32, 2)
    assert timings.recorded("smoke", "04_generate", ["m"])[:2] == (9, 1)
    assert timings.recorded("cpu", "03_sft") is None, "profiles mix"
    assert "2 min here" in timings.sentence("smoke", "03_sft") and "all 3 jobs" in timings.sentence("smoke", "03_sft")


@pytest.mark.parametrize("text", ["", "s\n", HEAD, "h:m:s\n0:01\n", f"{HEAD}-\t\n"])
def test_half_a_record_counts_as_none(tree, text):
    record("smoke", "03_sft", 1)
    (paths.artefacts("smoke") / "benchmarks" / "03_sft.tsv").write_text(text)
    assert timings.recorded("smoke", "03_sft") is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (89.4, "89 s"), (90, "2 min"), (5000, "83 min"), (5400, "1 h 30 min"), (7200, "2 h 0 min")],
)
def test_durations_are_read_by_people(seconds, text):
    assert timings.shown(seconds) == text
