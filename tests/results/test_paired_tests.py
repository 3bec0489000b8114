import itertools
import math

import numpy as np
import pandas as pd
import pytest

from s2utils.evaluation.leaderboard import evaluate
from s2utils.results import paired_tables, paired_tests, protocol_tables
from s2utils.workflow import params, steps

METRICS = [*evaluate.COLUMNS.values(), "average"]


@pytest.fixture
def smoke():
    return params.load("smoke", "text_metrics.resamples=5000")  # exact for twelve signs


def sheet(values: dict[str, list[list[float]]]) -> pd.DataFrame:
    """Documents of one model: task → subject → values."""
    rows = [
        {"task": t, "subject": f"{t}-{s}", "doc_id": i, "value": v, "log_likelihoods": [v, -v], "prompt": "p"}
        for t, subjects in values.items()
        for s, documents in enumerate(subjects)
        for i, v in enumerate(documents)
    ]
    return pd.DataFrame(rows)


BASE = {"arc": [[0] * 12], "hellaswag": [[0, 1] * 6], "mmlu": [[1, 0, 1], [0, 0], [1]], "truthfulqa": [[0.3, 0.6] * 6]}


def row(id: str, train_set: str = "", mode: str = "none") -> steps.ModelRow:
    variant = "sft" if train_set else id
    return steps.ModelRow(id, f"m-{train_set or id}", "m", variant, train_set, mode)


def against(p, **models) -> pd.DataFrame:
    """One row per model against the base (BASE)."""
    scores = {"base": sheet(BASE)} | {id: sheet(BASE | values) for id, values in models.items()}
    compared = [(row(id, id, "bf16"), row("base")) for id in models]
    return paired_tests.of_documents(scores, compared, evaluate.COLUMNS, p)


def test_who_is_compared(smoke):
    tuned = [row("x.bf16", "x", "bf16"), row("x.dq", "x", "dequantized"), row("y.bf16", "y", "bf16")]
    rows = [row("base"), row("chat"), *tuned]
    found = [(a.id, b.id) for a, b in paired_tests.pairs(rows)]
    assert found == [*((id, "base") for id in ("chat", "x.bf16", "x.dq", "y.bf16")), ("x.dq", "x.bf16")]
    assert paired_tests.pairs(rows[:1]) == paired_tests.pairs([]) == []
    empty = paired_tests.of_documents({}, [], evaluate.COLUMNS, smoke)
    assert empty.empty and {"p_holm", "verdict", "d_z"} <= set(empty)
    assert "There is no comparison" in paired_tests.reading(empty, "average", "m-base")


def test_a_model_against_itself_is_no_difference(smoke):
    found = against(smoke, same={})
    assert found["metric"].tolist() == METRICS and (found["difference"] == 0).all()
    assert (found["p"] == 1).all() and (found["p_holm"] == 1).all() and set(found["verdict"]) == {"no evidence"}
    assert found["n"].tolist() == [12, 12, 6, 12, 42] and (found["n_changed"] == 0).all() and found["d_z"].isna().all()


def test_a_task_gained_whole_is_different_and_the_rest_is_not(smoke):
    found = against(smoke, better={"arc": [[1] * 12]}).set_index("metric")
    assert found.at["arc_acc_norm", "difference"] == 100 and found.at["average", "difference"] == 25
    assert found.at["arc_acc_norm", "p"] == pytest.approx(2 / 2**12)
    assert found.loc[["arc_acc_norm", "average"], "verdict"].tolist() == ["different"] * 2
    assert set(found.loc[["hellaswag_acc_norm", "mmlu_acc", "truthfulqa_mc2"], "verdict"]) == {"no evidence"}
    text = paired_tests.reading(against(smoke, better={"arc": [[1] * 12]}), "arc_acc_norm", "m-base")
    assert text.startswith(
        "ARC. Of one comparison of a fine-tune with the base, in one it is higher. Different: m-better · bf16 +100.00"
    )
    text = paired_tests.reading(against(smoke, same={}), "arc_acc_norm", "m-base")
    assert text == "ARC. The one comparison of a fine-tune with the base gives no evidence that it is higher or lower."


def test_holm_counts_every_row_of_the_table(smoke):
    lost = {"hellaswag": [[0, 0] * 6]}  # 6 documents: p = 2 / 64
    one, many = against(smoke, a=lost), against(smoke, a=lost, b={}, c={})
    assert one.at[1, "p"] == many.at[1, "p"] == pytest.approx(2 / 2**6)
    assert one.at[1, "p_holm"] == pytest.approx(5 / 32) and many.at[1, "p_holm"] == pytest.approx(15 / 32)
    assert one.at[1, "verdict"] == "no evidence"  # 0.03 is below 0.05, five times that is not


@pytest.mark.parametrize("protocol", ["v1", "harness"])
def test_flips_and_means_weigh_a_document_as_the_table_does(protocol):
    """p by all sign flips of the leaderboard's own mean; the difference is that of the table."""
    p = params.load("smoke", f"leaderboard.protocol={protocol} text_metrics.resamples=5000")
    other = {"mmlu": [[1, 1, 0], [1, 1], [0]], "arc": [[1, 1, 0] + [0] * 9]}
    found = against(p, other=other).set_index("metric")
    sides = [sheet(BASE), sheet(BASE | other)]
    tables = [evaluate.summary(side, p) for side in sides]
    for metric in METRICS:
        assert found.at[metric, "difference"] == pytest.approx(tables[1][metric] - tables[0][metric])
    apart = (sides[1]["value"] - sides[0]["value"]).to_numpy()

    def mean(apart: np.ndarray, tasks: list[str]) -> float:
        parts = [sides[0].assign(value=apart)[sides[0]["task"] == task] for task in tasks]
        plain = [part.groupby("subject")["value"].mean().mean() for part in parts]
        return np.mean([part["value"].mean() for part in parts] if protocol == "harness" else plain)

    for metric, tasks in (("mmlu_acc", ["mmlu"]), ("average", list(evaluate.TASKS))):
        places = np.flatnonzero(apart * sides[0]["task"].isin(tasks))
        means = []
        for signs in itertools.product([1, -1], repeat=len(places)):
            flipped = apart.copy()
            flipped[places] *= signs
            means.append(mean(flipped, tasks))
        assert 100 * means[0] == pytest.approx(found.at[metric, "difference"])
        assert found.at[metric, "p"] == pytest.approx(np.mean(np.abs(means) >= abs(means[0]) - 1e-9)), metric


def test_the_effect_is_the_mean_over_the_spread(smoke):
    found = against(smoke, other={"truthfulqa": [[0.4, 0.6] * 6]}).set_index("metric")
    apart = np.array([0.1, 0] * 6)
    assert found.at["truthfulqa_mc2", "d_z"] == pytest.approx(apart.mean() / apart.std(ddof=1))


def test_merges_are_told_apart_as_in_the_paired_table(smoke):
    sides = {"bf16": BASE, "dequantized": BASE | {"arc": [[1] * 3 + [0] * 9], "mmlu": [[1, 1, 1], [0, 1], [0]]}}
    scores = {f"x.{mode}": sheet(values) for mode, values in sides.items()}
    rows = [row(f"x.{mode}", "x", mode) for mode in sides]
    found = paired_tests.of_documents(scores, paired_tests.pairs(rows), evaluate.COLUMNS, smoke).set_index("metric")
    joined = pd.concat(scores[f"x.{mode}"].assign(train_set="x", merge_mode=mode) for mode in sides)
    paired = paired_tables.tasks(joined, evaluate.COLUMNS, smoke).iloc[0]
    for metric, end in itertools.product(METRICS, ("", "_ci_low", "_ci_high")):
        wanted = pytest.approx(paired[f"{metric}_difference{end}"], nan_ok=True)
        assert found.at[metric, f"difference{end}"] == wanted


def test_a_document_without_a_value_is_counted(smoke):
    found = against(smoke, other={"truthfulqa": [[math.nan, 0.6] * 6]}).set_index("metric")
    assert found.at["truthfulqa_mc2", "n_failed"] == 6 and found.at["average", "n_failed"] == 6
    assert found.at["truthfulqa_mc2", "difference"] == 0


def test_protocols_stand_side_by_side_on_the_documents_both_scored(smoke):
    v1 = sheet(BASE)
    other = sheet(BASE | {"arc": [[1, 1] + [0] * 10], "mmlu": [[1, 0, 1], [0]]})
    other = other[~((other["task"] == "arc") & (other["doc_id"] > 3))]
    found = protocol_tables.protocols(v1, other, evaluate.COLUMNS, smoke, bos=True).set_index("metric")
    arc, mmlu = found.loc["arc_acc_norm"], found.loc["mmlu_acc"]
    assert (arc["n"], arc["n_changed"], arc["v1"], arc["harness"], arc["difference"]) == (4, 2, 0, 50, 50)
    assert arc["largest_change"] == 1 and arc["difference_ci_low"] < 50 < arc["difference_ci_high"]
    # three and one document: v1 takes the mean of 2/3 and 0, harness 2 of 4; no document changes
    assert mmlu["n"] == 4 and mmlu["n_changed"] == 0 and mmlu["v1"] == pytest.approx(100 / 3) and mmlu["harness"] == 50
    assert mmlu["difference"] == pytest.approx(50 - 100 / 3) and mmlu["largest_change"] == 0
    whole = found.loc["average"]
    assert whole["difference"] == pytest.approx(whole["harness"] - whole["v1"]) and whole["n_changed"] == 2
    assert whole["n"] == 4 + 12 + 4 + 12
    text = protocol_tables.between(found.reset_index())
    assert "asks 32 of 32 documents otherwise" in text and "2 of 4 on ARC" in text and "more than 1 nat" in text


def test_documents_that_are_asked_the_same_show_rounding_and_no_difference(smoke):
    v1, other = sheet(BASE), sheet(BASE | {"truthfulqa": [[0.4, 0.6] * 6], "arc": [[1] + [0] * 11]})
    other.loc[other["task"] == "arc", "prompt"] = "other shots"
    found = protocol_tables.protocols(v1, other, evaluate.COLUMNS, smoke, bos=False).set_index("metric")
    arc, mc2, whole = (found.loc[m] for m in ("arc_acc_norm", "truthfulqa_mc2", "average"))
    assert (arc["n_asked_otherwise"], arc["n_changed"], arc["largest_change"]) == (12, 1, 1)
    assert math.isnan(arc["rounding"])
    assert (mc2["n_asked_otherwise"], mc2["n_changed"], mc2["difference"], mc2["largest_change"]) == (0, 0, 0, 0)
    assert mc2["rounding"] == pytest.approx(0.1) and whole["rounding"] == pytest.approx(0.1)
    text = protocol_tables.between(found.reset_index())
    assert "asks 12 of 42 documents otherwise" in text and "asked the same by up to 0.1 nat" in text
    with_bos = protocol_tables.protocols(v1, other, evaluate.COLUMNS, smoke, bos=True).set_index("metric")
    assert with_bos.loc["truthfulqa_mc2", ["n_changed", "largest_change"]].tolist() == [6, pytest.approx(0.1)]
    same = protocol_tables.between(protocol_tables.protocols(v1, v1, evaluate.COLUMNS, smoke, bos=False))
    assert "changes the score of none" in same and "Rounding" not in same


# Text metrics


MODELS = [row("B"), row("C"), row("T.bf16", "T", "bf16"), row("T.deq", "T", "dequantized")]


def answers(n: int) -> pd.DataFrame:
    """Answers to `n` questions by base, chat and two merges.

    The second merge is always one better, the others alike.
    """
    keys = {"dataset": "sciq", "metric": "rouge_l_f1"}
    rows = [
        keys | {"model": m.model, "merge_mode": m.merge_mode, "question": i, "value": i % 3 + float(m.id == "T.deq")}
        for m in MODELS
        for i in range(n)
    ]
    return pd.DataFrame(rows)


def of_questions(scores: pd.DataFrame) -> pd.DataFrame:
    base = MODELS[0]
    compared = [(model, base) for model in MODELS[1:]] + [(MODELS[3], MODELS[2])]
    return paired_tests.of_questions(scores, compared, ["rouge_l_f1"], params.load("smoke"))


def test_questions_are_compared_with_the_base_and_merges_with_each_other(tree):
    found = of_questions(answers(12))
    assert list(found) == paired_tests.COLUMNS and found["minus_merge_mode"].tolist() == ["none"] * 3 + ["bf16"]
    assert found["difference"].tolist() == [0, 0, 1, 1] and (found["n"] == 12).all() and (found["n_failed"] == 0).all()
    assert found["verdict"].tolist() == ["no evidence", "no evidence", "different", "different"]
    assert found["n_changed"].tolist() == [0, 0, 12, 12]
    assert found.at[1, "p"] == 1 and (found["p_holm"] >= found["p"]).all()


def test_a_question_that_failed_under_either_is_counted(tree):
    scores = answers(12)
    scores.loc[0, "value"] = math.nan
    assert of_questions(scores)["n_failed"].tolist() == [1, 1, 1, 0]
