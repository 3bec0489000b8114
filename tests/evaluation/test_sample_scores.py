"""Items: a row's mean is its table's, and differences are taken question by question."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from conftest import write_jsonl
from hypothesis import given
from hypothesis import strategies as st

from s2utils.evaluation import metrics, sample_scores
from s2utils.evaluation.judge import judge_prompts, mtbench
from s2utils.evaluation.leaderboard import evaluate
from s2utils.results import best_rows
from s2utils.stats import stratified
from s2utils.workflow import steps
from s2utils.workflow.notebook import Run
from s2utils.workflow.params import load

WAYS = (500, 0.95, 0)


def documents(task: str, subjects: dict[str, list[float]]) -> list[dict]:
    return [
        {"task": task, "subject": s, "doc_id": i, "value": v} for s, of in subjects.items() for i, v in enumerate(of)
    ]


@pytest.fixture
def run(tree) -> Run:
    """A finished smoke run: every answer, document and rating is there, made up."""
    run, rng = Run("report", "smoke", load("smoke"), {}), np.random.default_rng(0)
    columns = [m for table in ("rouge", "bertscore", "flesch", "manner") for m in metrics.columns(table)]
    judged = [
        {"question_id": q, "turn": t, "repeat": r, "rating": None if q == 1 else q + t + r, "ended": q < 3}
        for q in (1, 2, 3) for t in (1, 2) for r in (0, 1)
    ]  # fmt: skip
    answers, validation = [], []
    for row in run.models:
        about = {"model_id": row.id, "question": "Why?", "ended": True, "looping": False}
        answers += [
            about | {"dataset": d, "source": d, "id": str(i)} | dict(zip(columns, rng.random(len(columns))))
            for d in ("sciq", "full") for i in range(3)
        ]  # fmt: skip
        ratings = dict.fromkeys(judge_prompts.DIMENSIONS, 4.0) | {"overall": 9.0, "turn": 1, "repeat": 0}
        validation += [ratings | {"question_id": q, "model": row.id, "ended": q == "a"} for q in ("a", "b")]
        with (made := run.artefact(row.id, "leaderboard")).making():
            for task in evaluate.TASKS:
                sizes = (2, 3) if task == "mmlu" else (2,)
                subjects = {f"{task}_{s}": rng.random(n).tolist() for s, n in enumerate(sizes)}
                write_jsonl(made.folder / f"{task}.jsonl", *documents(task, subjects))
        with (made := run.artefact(row.id, "mtbench")).making():
            write_jsonl(made.folder / "judged.jsonl", *judged)
    with (made := run.artefact(step="judged")).making():
        write_jsonl(made.folder / "validation.jsonl", *validation)
    with (made := run.artefact(step="text_metrics")).making():
        pd.DataFrame(answers).to_parquet(made.folder / "scores.parquet")
    return run


def means(frame: pd.DataFrame) -> pd.Series:
    weighed = frame.assign(share=frame["value"] * frame["weight"])
    return weighed.groupby(["model", "merge_mode", "metric"])["share"].sum()


def test_a_rows_mean_is_its_tables(run):
    found = sample_scores.of(run)
    assert set(found) == {"rouge", "bertscore", "flesch", "manner", "leaderboard", "mtbench", "judge"}
    assert all(list(frame)[: len(sample_scores.COLUMNS)] == sample_scores.COLUMNS for frame in found.values())
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


def test_repeats_are_averaged_and_their_spread_is_known(run):
    frame = sample_scores.of(run, "mtbench")["mtbench"]
    single = frame[(frame["metric"] == mtbench.TURNS[1]) & (frame["model"] == "SmolLM2-135M")].set_index("question")
    assert math.isnan(single.at["1", "value"]) and single.loc[["2", "3"], "value"].tolist() == [3.5, 4.5]
    table = sample_scores.summary(frame, run.params)
    assert (table[["n", "n_cut", "single_turn_rating_n_failed"]] == [3, 2, 1]).all(axis=None)
    assert table["single_turn_rating_spread"].tolist() == pytest.approx([math.sqrt(0.5)] * len(run.models))
    assert table["model"].tolist() == [row.model for row in run.models] and "dataset" not in table


def test_the_rubrics_ratings_are_read_by_part(run):
    table = sample_scores.summary(sample_scores.of(run, "judged")["judge"], run.params)
    assert table["judge_rating"].eq(9).all() and table["judge_depth"].eq(4).all()
    assert table[["n", "n_cut"]].eq([2, 1]).all(axis=None), "an answer counts once, not a dimension"
    assert table["judge_rating_spread"].isna().all(), "each was asked once"


def test_a_run_of_one_model_reads_that_model_alone(run):
    one = Run("mtbench", "smoke", run.params, {}, {"model": "SmolLM2-135M-sciq.bf16"})
    found = sample_scores.of(one, "mtbench", "judged")
    assert list(found) == ["mtbench"] and set(found["mtbench"]["model"]) == {"SmolLM2-135M-sciq"}


def test_a_folder_alone_gives_the_same_values(run):
    found = sample_scores.read(run.artefact(step="text_metrics").folder.parent)
    assert set(found["metric"]) == {*metrics.METRICS} - {"average", *metrics.columns("judge"), *metrics.columns("fit")}
    of_run = pd.concat(sample_scores.of(run, "text_metrics", "mtbench").values())
    same = found[found["metric"].isin(of_run["metric"])]
    assert sorted(same["value"].dropna()) == sorted(of_run["value"].dropna()) and len(same) == len(of_run)
    assert sample_scores.read(run.artefact(step="eda").folder).empty


def test_documents_of_fit_are_read_by_domain(run):
    rows = [("law", "1", 2.0, 4), ("law", "2", 6.0, 4), ("code", "1", 3.0, 3)]
    scored = pd.DataFrame(rows, columns=["domain", "id", "bits", "n_bytes"])
    scored = scored.assign(nats=scored["bits"] * math.log(2))
    names = steps.collected("fit", run.params)
    for name in names[1:]:
        with (made := run.artefact(name, "fit")).making():
            scored.to_parquet(made.folder / "documents.parquet")
    assert not sample_scores.of(run, "fit"), "one model's is not made"
    with (made := run.artefact(names[0], "fit")).making():
        scored.to_parquet(made.folder / "documents.parquet")
    frame = sample_scores.of(run, "fit")["fit"]
    base = frame[frame["model"] == "SmolLM2-135M"]
    assert base[["dataset", "question", "metric"]].to_numpy().tolist() == [
        [domain, id, "bits_per_byte"] for domain, id, *_ in rows
    ]
    assert base["value"].tolist() == pytest.approx([0.5, 1.5, 1.0])
    assert base["weight"].tolist() == [0.5, 0.5, 1.0], "a domain's documents share its mean"
    alone = sample_scores.read(run.artefact(names[0], "fit").folder.parents[1])
    assert sorted(alone.loc[alone["metric"] == "bits_per_byte", "value"]) == sorted(frame["value"])


@pytest.mark.parametrize(("protocol", "wanted"), [("v1", 50), ("harness", 25)])
def test_subjects_weigh_alike_or_by_their_size(tree, protocol, wanted):
    run = Run("report", "smoke", load("smoke", f"leaderboard.protocol={protocol}"), {})
    subjects = dict.fromkeys(evaluate.TASKS, {"": [1.0]}) | {"mmlu": {"a": [1.0], "b": [0.0, 0.0, 0.0]}}
    for row in run.models:
        with (scored := run.artefact(row.id, "leaderboard")).making():
            for task, of in subjects.items():
                write_jsonl(scored.folder / f"{task}.jsonl", *documents(task, of))
    assert means(sample_scores.of(run)["leaderboard"]).unstack()["mmlu_acc"].eq(wanted).all()


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


def answers(dataset: str = "sciq") -> pd.DataFrame:
    """Three answers of one model, two of another, by one metric."""
    keys = {"base": "B", "variant": "base", "train_set": "", "merge_mode": "none", "dataset": dataset, "turn": 1}
    values = [("B", 0.2, True), ("B", 0.4, False), ("B", math.nan, True), ("C", 0.5, True), ("C", 0.5, True)]
    rows = [
        keys | {"model": m, "metric": "rouge_1_f1", "question": str(i), "value": v, "ended": e, "looping": False}
        for i, (m, v, e) in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_the_summary_counts_what_failed_was_cut_and_loops(tree):
    frame = answers().assign(looping=[True, False, False, False, True])
    found = sample_scores.summary(frame, load("smoke")).set_index("model")
    counts = ["n", "n_cut", "n_looping", "n_finished", "rouge_1_f1_n_failed"]
    assert found.loc[["B", "C"], counts].to_numpy().tolist() == [[3, 1, 1, 1, 1], [2, 0, 1, 1, 0]]
    assert found.at["B", "rouge_1_f1"] == pytest.approx(0.3) and found["train_set"].tolist() == ["", ""]
    assert 0.2 <= found.at["B", "rouge_1_f1_ci_low"] < 0.3 < found.at["B", "rouge_1_f1_ci_high"] <= 0.4
    assert found.loc["C", ["rouge_1_f1_ci_low", "rouge_1_f1_ci_high", "rouge_1_f1_finished"]].tolist() == [0.5] * 3
    assert math.isnan(found.at["B", "rouge_1_f1_finished"])  # the finished one failed
    none = sample_scores.summary(frame.assign(value=math.nan), load("smoke"))
    assert none["rouge_1_f1"].isna().all() and none["rouge_1_f1_n_failed"].tolist() == [3, 2]


def test_data_sets_stand_in_the_order_of_the_profile(tree):
    found = sample_scores.summary(pd.concat([answers(d) for d in ("full", "wikilead", "sciq")]), load("smoke"))
    wanted = [(d, m) for d in ("sciq", "wikilead", "full") for m in ("B", "C")]
    assert list(zip(found["dataset"], found["model"])) == wanted


def test_the_seed_of_the_intervals_is_the_profiles(tree):
    params, frame = load("smoke"), pd.concat([answers()] * 9, ignore_index=True)
    frame = frame.assign(value=range(45), question=range(45))
    one, again, other = (
        sample_scores.summary(frame, params.model_copy(update={"seed": s}))["rouge_1_f1_ci_low"].tolist()
        for s in (1, 1, 2)
    )
    assert one == again != other
