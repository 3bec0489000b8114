"""Two reports compared.

Nothing where nothing changed, a difference where there is one, and no more than can be said.
"""

import shutil

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_build import HOSTILE, Page, fill

from s2utils.__main__ import main
from s2utils.evaluation import sample_scores
from s2utils.report import compare
from s2utils.workflow import artefacts, paths, provenance


def run(profile: str, ease: float = 0.0, noise: float = 0.0, overrides: str = "", names=("rouge", "flesch")) -> None:
    """A run with tables, a record, and 40 questions under two models; fine-tuning adds `ease`, chance adds `noise`."""
    fill(profile, "base", names=names, notebooks=())
    provenance.write(profile, overrides)
    rows = [
        {"dataset": "sciq", "source": "s", "id": str(i), "question": f"{HOSTILE} {i}?", "model_id": model,
            "rouge_l_f1": 0.5,
         "flesch_reading_ease": 50.0 + i % 7 + (ease + i / 100) * (model == "tuned") + noise * (-1) ** i}
        for i in range(40) for model in ("base", "tuned")
    ]  # fmt: skip
    with artefacts.replacing(paths.artefacts(profile) / "text_metrics" / "scores.parquet", "wb") as file:
        pd.DataFrame(rows).to_parquet(file)
    documents = [{"task": "arc", "subject": "", "doc_id": i, "value": float(i % 2)} for i in range(10)]
    artefacts.append_jsonl(paths.artefacts(profile) / "leaderboard" / "base" / "arc.jsonl", documents)


def told(a: str, b: str) -> tuple[str, str]:
    page, lines = compare.write(compare.side(a), compare.side(b))
    return "\n".join(lines), "".join(Page(page).text)


@pytest.mark.slow
def test_a_run_and_itself_are_the_same(tree):
    run("cpu")
    summary, page = told("cpu", "cpu")
    assert "Parameters: 0 differ." in summary and "Tables: 0 of 2 differ" in summary
    assert "of 5 paired comparisons (Holm-corrected), 5 the same" in summary
    assert "Nothing recorded differs" in page and "different" not in summary


def test_claims_are_compared_claim_by_claim():
    one = pd.DataFrame(
        {"claim": ["1a", "2"], "statement": "s", "measured_value": [1.0, None], "measured_verdict": ["holds", "x"]}
    )
    other = one.assign(measured_value=[3.0, None], measured_verdict=["does not", "x"])
    assert compare._changes(one, other, "claims") == {
        "both": 2, "changed": 1, "only A": 0, "only B": 0, "largest": "measured value: 1 → 3 (1a)",
    }  # fmt: skip


@pytest.mark.slow
def test_what_changed_is_told_with_its_significance(tree):
    run("cpu")
    other = tree.parent / "other"  # another checkout, other parameters, a better fine-tune
    shutil.copytree(tree / "reports" / "cpu", other / "reports" / "cpu")
    shutil.copytree(tree / "artefacts" / "cpu", other / "artefacts" / "cpu")
    shutil.rmtree(tree / "artefacts" / "cpu")
    run("cpu", ease=8.0, overrides="sft.max_steps=5", names=("rouge", "flesch", "mtbench"))
    table = tree / "reports" / "cpu" / "tables" / "rouge.csv"
    table.write_text(table.read_text().replace(",0.5,", ",0.625,", 1))
    summary, page = told(str(other / "reports" / "cpu"), "cpu")
    assert "Parameters: 1 differ: sft.max_steps" in summary and "→ 5" in summary
    assert "Tables: 1 of 3 differ in rows that both hold: rouge." in summary
    assert "of 5 paired comparisons (Holm-corrected), 1 different, 4 the same" in summary
    assert "tuned on sciq: Reading ease +8 [" in summary and "n 40" in summary
    assert "only in B" in page and "ROUGE-1: 0.5 → 0.625 (ELI5 · base)" in page


def test_noise_is_no_evidence(tree):
    run("cpu")
    run("smoke", noise=5.0)
    summary, _ = told("cpu", "smoke")
    assert "2 no evidence, 2 the same" in summary
    assert "Not paired: leaderboard, whose questions were chosen by other parameters." in summary


def test_other_questions_are_not_paired(tree):
    run("cpu")
    frame = sample_scores.read(paths.artefacts("cpu"))
    moved = frame.assign(question=frame["question"] + "!")
    both, _ = compare.shared(frame, moved, ({}, {}))
    assert len(both) == 0 and len(compare.paired(both)) == 0
    assert set(frame.query("metric == 'arc_acc_norm'")["value"]) == {0, 100}


def test_ratings_of_repeats_are_averaged_and_failures_stay_missing(tree):
    rows = [{"question_id": q, "turn": 1, "rating": r} for q, r in ((1, 4.0), (1, 6.0), (2, None))]
    artefacts.append_jsonl(paths.artefacts("cpu") / "mtbench" / "base" / "judged.jsonl", rows)
    found = sample_scores.read(paths.artefacts("cpu")).set_index("question")["value"]
    assert found["1"] == 5.0 and pd.isna(found["2"])


@pytest.mark.slow
@settings(max_examples=5)  # each is two permutation tests
@given(st.lists(st.integers(-50, 50).map(float), min_size=1, max_size=6))
def test_b_minus_a_is_minus_a_minus_b(values):
    keys = {"table": "t", "metric": "m", "dataset": "d", "model": "x"}
    both = pd.DataFrame([keys | {"question": str(i), "value_a": 0.0, "value_b": v} for i, v in enumerate(values)])
    other = both.rename(columns={"value_a": "value_b", "value_b": "value_a"})
    one, back = compare.paired(both).iloc[0], compare.paired(other).iloc[0]
    assert one["difference"] == pytest.approx(-back["difference"]) and one["n"] == back["n"] == len(values)
    assert one["verdict"] in ("the same", "different", "no evidence")


@pytest.mark.parametrize("given", ["nothing", "", "it's", "x" * 300])
def test_a_report_that_is_not_there_is_named(tree, capsys, given):
    assert main(["compare", given, "cpu"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and given in told
    assert "no report with tables; give a profile" in told or len(given) > 255
