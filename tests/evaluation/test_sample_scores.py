"""Items: a row's mean is its table's, and differences are taken question by question."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.evaluation import metrics, sample_scores
from s2utils.evaluation.judge import judge_prompts, mtbench
from s2utils.evaluation.leaderboard import evaluate
from s2utils.results import best_rows
from s2utils.stats import stratified
from s2utils.workflow.notebook import Run
from s2utils.workflow.params import load

WAYS = (500, 0.95, 0)


@pytest.fixture
def run(tree) -> Run:
    """A finished smoke run: every answer, document and rating is there, made up."""
    run, rng = Run("report", "smoke", load("smoke"), {}), np.random.default_rng(0)
    columns = [m for table in ("rouge", "bertscore", "flesch", "manner") for m in metrics.columns(table)]
    rows = []
    for row in run.models:
        keys = {"model": row.model, "merge_mode": row.merge_mode}
        rows += [
            keys | {"dataset": d, "source": d, "id": str(i)} | dict(zip(columns, rng.random(len(columns))))
            for d in ("sciq", "full")
            for i in range(3)
        ]
        with run.artefact(row.id, "leaderboard").making():
            for task in evaluate.TASKS:
                lines = [
                    {
                        "task": task,
                        "subject": f"{task}_{s}",
                        "doc_id": i,
                        "value": float(rng.random()),
                        "log_likelihoods": [],
                    }
                    for s in range(2 if task == "mmlu" else 1)
                    for i in range(2 + s)
                ]
                (run.artefact(row.id, "leaderboard").folder / f"{task}.jsonl").write_text(
                    "\n".join(map(json.dumps, lines)) + "\n"
                )
        with run.artefact(row.id, "mtbench").making():
            judged = [
                {"question_id": q, "turn": t, "repeat": r, "rating": None if q == 1 else q + t + r}
                for q in (1, 2, 3)
                for t in (1, 2)
                for r in (0, 1)
            ]
            (run.artefact(row.id, "mtbench").folder / "judged.jsonl").write_text(
                "\n".join(map(json.dumps, judged)) + "\n"
            )
    with run.artefact(step="judged").making():
        validation = [
            {"question_id": q, "model": row.id, "repeat": 0}
            | dict.fromkeys(judge_prompts.DIMENSIONS, 4.0)
            | {"overall": 9.0}
            for row in run.models
            for q in ("a", "b")
        ]
        (run.artefact(step="judged").folder / "validation.jsonl").write_text(
            "\n".join(map(json.dumps, validation)) + "\n"
        )
    with run.artefact(step="text_metrics").making():
        pd.DataFrame(rows).to_parquet(run.artefact(step="text_metrics").folder / "scores.parquet")
    return run


def means(frame: pd.DataFrame) -> pd.Series:
    weighed = frame.assign(share=frame["value"] * frame["weight"])
    return weighed.groupby(["model", "merge_mode", "metric"])["share"].sum()


def test_a_rows_mean_is_its_tables(run):
    found = sample_scores.of(run)
    assert set(found) == {"rouge", "bertscore", "flesch", "manner", "leaderboard", "mtbench", "judge"}
    assert all(list(frame) == sample_scores.COLUMNS for frame in found.values())
    board = means(found["leaderboard"])
    for row in run.models:
        if row.variant != "chat":
            folder = run.artefact(row.id, "leaderboard").folder
            lines = [json.loads(line) for task in evaluate.TASKS for line in (folder / f"{task}.jsonl").open()]
            truthful = [line["value"] for line in lines if line["task"] == "truthfulqa"]
            assert board[row.model, row.merge_mode, "truthfulqa_mc2"] == pytest.approx(100 * np.mean(truthful))
            mmlu = pd.DataFrame([line for line in lines if line["task"] == "mmlu"]).groupby("subject")["value"].mean()
            assert board[row.model, row.merge_mode, "mmlu_acc"] == pytest.approx(100 * mmlu.mean())
            tasks = [board[row.model, row.merge_mode, metric] for metric in evaluate.COLUMNS.values()]
            assert board[row.model, row.merge_mode, "average"] == pytest.approx(np.mean(tasks))
    base, chat = (board[f"SmolLM2-135M{end}", "none"] for end in ("", "-chat"))
    assert base.tolist() == chat.tolist()  # the same weights, scored once


def test_ratings_are_read_as_in_the_notebook(run):
    frame = sample_scores.of(run, "mtbench")["mtbench"]
    first = frame[(frame["metric"] == mtbench.TURNS[1]) & (frame["model"] == "SmolLM2-135M")].set_index("question")[
        "value"
    ]
    assert math.isnan(first["1"]) and first[["2", "3"]].tolist() == [3.5, 4.5]


def test_the_rubrics_ratings_are_read_by_part(run):
    found = means(sample_scores.of(run, "judged")["judge"])
    assert found.unstack()["judge_rating"].eq(9).all() and found.unstack()["judge_depth"].eq(4).all()


def test_subjects_weigh_by_their_size_under_the_harness_protocol(run):
    by_size = Run("report", "smoke", load("smoke", "leaderboard.protocol=harness"), {})
    for row in run.models:
        (lines := run.artefact(row.id, "leaderboard").folder / "mmlu.jsonl").write_text(
            "\n".join(
                json.dumps({"task": "mmlu", "subject": s, "doc_id": i, "value": v})
                for s, values in {"a": [1.0], "b": [0.0, 0.0, 0.0]}.items()
                for i, v in enumerate(values)
            )
            + "\n"
        )
        assert lines.is_file()
    frames = {
        p: sample_scores._leaderboard(r, {run.models[0].id: run.artefact(run.models[0].id, "leaderboard").folder})
        for p, r in (("v1", run), ("harness", by_size))
    }
    mmlu = {p: means(f["leaderboard"]).xs("mmlu_acc", level="metric").iloc[0] for p, f in frames.items()}
    assert mmlu == {"v1": 50, "harness": 25}


def test_the_best_of_a_table_can_be_marked_from_them(run):
    found = best_rows.best(sample_scores.of(run, "leaderboard")["leaderboard"], run.params)
    assert set(found["metric"]) == {*evaluate.COLUMNS.values(), "average"} and "dataset" not in found
    board = means(sample_scores.of(run, "leaderboard")["leaderboard"]).unstack()
    for row in found.to_dict("records"):
        assert board.loc[(row["model"], row["merge_mode"]), row["metric"]] == pytest.approx(board[row["metric"]].max())
    assert "dataset" in best_rows.best(sample_scores.of(run, "text_metrics")["rouge"], run.params)


def test_what_is_not_made_for_all_models_is_left_out(run):
    (run.artefact("SmolLM2-135M-sciq.bf16", "mtbench").folder / "manifest.json").unlink()
    assert "mtbench" not in sample_scores.of(run) and "leaderboard" in sample_scores.of(run)


def series(groups: dict[tuple[str, str], list[float]]) -> pd.Series:
    rows = [(g, s, str(i), v) for (g, s), values in groups.items() for i, v in enumerate(values)]
    return pd.DataFrame(rows, columns=["group", "stratum", "question", "value"]).set_index(
        ["group", "stratum", "question"]
    )["value"]


def test_terms_of_one_question_are_taken_together():
    one, other = series({("", ""): [1, 5, 9, 2]}), series({("", ""): [0, 4, 8, 1]})
    assert sample_scores.summed([(1, one), (-1, other)], *WAYS) == (1, 1, 1, 4, 0)
    assert sample_scores.summed([(1, other), (-2, other), (1, other)], *WAYS)[:3] == (0, 0, 0)


def test_tasks_are_averaged_and_subjects_weigh_alike():
    average = series({("arc", ""): [1, 1], ("mmlu", "a"): [1, 1, 1, 1], ("mmlu", "b"): [0, 0]})
    none = average * 0
    assert sample_scores.summed([(1, average), (-1, none)], *WAYS)[:3] == (0.75, 0.75, 0.75)


def test_tasks_without_common_questions_are_drawn_apart():
    arc, mmlu = series({("arc", ""): [0, 1] * 10}), series({("mmlu", "a"): [0, 1] * 10})
    value, low, high, n, failed = sample_scores.summed([(1, arc), (-1, mmlu)], *WAYS)
    assert (value, n, failed) == (0, 40, 0) and low < -0.2 and high > 0.2


def test_other_questions_cannot_be_paired():
    assert sample_scores.summed([(1, series({("", ""): [1, 2]})), (-1, series({("", ""): [1, 2, 3]}))], *WAYS) is None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=9))
def test_the_value_is_that_of_the_paired_differences(pairs):
    one, other = (series({("", ""): list(map(float, side))}) for side in zip(*pairs))
    value, low, high, n, _ = sample_scores.summed([(1, one), (-1, other)], *WAYS)
    apart = np.array([a - b for a, b in pairs], dtype=float)
    mean, drawn = stratified.resampled([apart], WAYS[0], np.random.default_rng(0))
    assert value == pytest.approx(mean) and n == len(pairs)
    assert (low, high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))
