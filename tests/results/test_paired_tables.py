import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.evaluation.leaderboard import evaluate
from s2utils.results import layout, paired_tables
from s2utils.stats import intervals, stratified
from s2utils.workflow import params
from s2utils.workflow.params import Params

AVERAGES = [*evaluate.COLUMNS.values(), "average"]


@pytest.fixture(scope="module")
def smoke() -> Params:
    loaded = params.load("smoke")
    return loaded.model_copy(update={"text_metrics": loaded.text_metrics.model_copy(update={"resamples": 400})})


def rated(train_set: str = "sciq", **values: list[float]) -> pd.DataFrame:
    """Questions 0, 1, … of one train set with these values of `kl` under each merge."""
    keys = {"train_set": train_set, "metric": "kl"}
    return pd.DataFrame(
        [keys | {"merge_mode": m, "question": i, "value": v} for m, of in values.items() for i, v in enumerate(of)]
    )


def interval(row: pd.Series, metric: str) -> tuple[float, float, float]:
    return tuple(row[f"{metric}_difference{end}"] for end in ("", "_ci_low", "_ci_high"))


def counts(row: pd.Series, metric: str) -> tuple[int, int, int]:
    return tuple(row[f"{metric}_difference{end}"] for end in ("_n", "_n_changed", "_n_failed"))


# Questions


def test_pairs_are_told_apart_where_every_answer_says_so(smoke):
    hard = np.random.default_rng(0).normal(0, 5, 40)  # answers differ far more than merges do
    found = rated(bf16=hard + 1, dequantized=hard + 0.9, same=hard + 1)
    pairs = paired_tables.paired(found, ["kl"], smoke).set_index(["merge_mode", "minus"])
    assert list(pairs.index) == [("dequantized", "bf16"), ("same", "bf16"), ("same", "dequantized")]
    value, low, high = interval(pairs.loc[("dequantized", "bf16")], "kl")
    assert value == pytest.approx(-0.1) and low <= value <= high
    assert high < 0, "told apart"
    assert interval(pairs.loc[("same", "bf16")], "kl") == (0, 0, 0)
    assert intervals.bootstrap(hard, 400, 0.95, 1)[1] < low, "the two means alone would not tell them apart"


def test_the_interval_is_the_bootstrap_of_the_differences(smoke):
    left, right = np.random.default_rng(1).normal(size=(2, 30))
    row = paired_tables.paired(rated(bf16=left, dequantized=right), ["kl"], smoke).iloc[0]
    assert interval(row, "kl") == intervals.bootstrap(right - left, 400, 0.95, smoke.seed)


@pytest.mark.parametrize(
    ("one", "other", "n", "counted"),  # of differences: known, other than 0, failed
    [
        ([1.0, 5, 9], [1.0, 5, 9], 3, (3, 0, 0)),
        ([1.0, math.nan, 3, 4], [2.0, 2, math.nan, 4], 4, (2, 1, 2)),
        ([1.0, 2, 3], [1.0, 2], 2, (2, 0, 0)),  # only questions of both
    ],
)
def test_what_is_compared_by_name_what_changed_and_what_failed(smoke, one, other, n, counted):
    found = rated(bf16=one, dequantized=other)
    row = paired_tables.paired(found, ["kl"], smoke).iloc[0]
    assert (row["train_set"], row["merge_mode"], row["minus"], row["n"]) == ("sciq", "dequantized", "bf16", n)
    assert counts(row, "kl") == counted and row["kl_difference"] == counted[1] / 2
    mixed = pd.concat([found[: len(one)], found[len(one) :].sample(frac=1, random_state=0)])
    assert paired_tables.paired(mixed, ["kl"], smoke)["kl_difference"].item() == row["kl_difference"]


def test_a_question_that_stands_twice_is_refused(smoke):
    found = rated(bf16=[1.0, 2], dequantized=[1.0, 2])
    with pytest.raises(ValueError, match="duplicate"):
        paired_tables.paired(pd.concat([found, found]), ["kl"], smoke)


def test_train_sets_are_not_mixed(smoke):
    found = pd.concat(
        [
            rated("sciq", bf16=[1.0, 1], dequantized=[2.0, 2]),
            rated("wiki", bf16=[9.0], dequantized=[9.0]),
            rated("", none=[1.0], other=[3.0]),  # published models
        ]
    )
    pairs = paired_tables.paired(found, ["kl"], smoke)
    assert pairs["train_set"].tolist() == ["sciq", "wiki"] and pairs["kl_difference"].tolist() == [1, 0]
    assert pairs["n"].tolist() == [2, 1] and math.isnan(pairs["kl_difference_ci_low"][1])  # one question, no spread


def test_one_merge_is_an_empty_table_with_its_columns(smoke):
    pairs = paired_tables.paired(rated(bf16=[1.0, 2]), ["kl"], smoke)
    assert pairs.empty and list(pairs.columns[:5]) == ["train_set", "merge_mode", "minus", "n", "kl_difference"]
    assert layout.view(pairs).empty and "nothing to compare" in paired_tables.reading(pairs, ["kl"], 0.95)


# The leaderboard


def sheet(mode: str, values: dict[str, list[list[float]]]) -> pd.DataFrame:
    """Documents of one merge: task → subject → values."""
    rows = [
        {"train_set": "sciq", "merge_mode": mode, "task": t, "subject": f"{t}-{s}", "doc_id": i, "value": v}
        for t, subjects in values.items()
        for s, documents in enumerate(subjects)
        for i, v in enumerate(documents)
    ]
    return pd.DataFrame(rows)


SAME = {"arc": [[1, 0, 1, 1]], "hellaswag": [[0, 1]], "mmlu": [[1, 0, 1], [0, 0], [1]], "truthfulqa": [[0.3, 0.6]]}


def changed(**tasks: list[list[float]]) -> pd.DataFrame:
    """The same documents under both merges, but for these tasks under the second."""
    return pd.concat([sheet("bf16", SAME), sheet("dequantized", SAME | tasks)])


def test_identical_scores_on_every_document_are_no_difference(smoke):
    row = paired_tables.tasks(changed(arc=[[1, 0, 1, 1]]), evaluate.COLUMNS, smoke).iloc[0]
    for metric in ("arc_acc_norm", "hellaswag_acc_norm", "truthfulqa_mc2"):
        assert interval(row, metric) == (0, 0, 0)
    assert row["mmlu_acc_difference"] == row["average_difference"] == 0 and row["n"] == 14
    assert [counts(row, m) for m in AVERAGES] == [(4, 0, 0), (2, 0, 0), (6, 0, 0), (2, 0, 0), (14, 0, 0)]


def test_one_document_of_four_is_25_points_and_a_quarter_of_that_in_the_average(smoke):
    row = paired_tables.tasks(changed(arc=[[1, 0, 1, 0]], mmlu=[[1, 0, 1], [0, 0]]), evaluate.COLUMNS, smoke).iloc[0]
    assert row["arc_acc_norm_difference"] == -25 and row["average_difference"] == -6.25
    # 3 of 4 drawn: 2 or more times with 16 %, never with 42 %
    assert interval(row, "arc_acc_norm")[1:] == (-100 * 2 / 3, 0)
    assert counts(row, "arc_acc_norm") == (4, 1, 0) and row["hellaswag_acc_norm_difference"] == 0
    assert row["n"] == 13  # the third subject of MMLU is not under both merges


def test_a_subject_counts_as_much_as_another_whatever_its_size(smoke):
    small = paired_tables.tasks(changed(mmlu=[[1, 0, 1], [1, 0], [1]]), evaluate.COLUMNS, smoke).iloc[0]
    assert small["mmlu_acc_difference"] == pytest.approx(100 * (1 / 2) / 3)
    large = paired_tables.tasks(changed(mmlu=[[1, 1, 1], [0, 0], [1]]), evaluate.COLUMNS, smoke).iloc[0]
    assert large["mmlu_acc_difference"] == pytest.approx(100 * (1 / 3) / 3)


scores = st.dictionaries(
    st.sampled_from(["x", "y", "z"]),
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=5),
    min_size=1,
)


@pytest.mark.slow
@given(scores, st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5))
def test_differences_are_those_of_the_tables_values(mmlu, mc2):
    """The stratified mean of differences is the difference of `leaderboard.summary`'s values, for every task."""
    loaded = params.load("smoke", "text_metrics.resamples=20")
    sides = []
    for side, mode in enumerate(("bf16", "dequantized")):
        values = {"arc": [[1, side]], "hellaswag": [[side, 0, 1]], "truthfulqa": [[pair[side] for pair in mc2]]}
        values["mmlu"] = [[float(pair[side]) for pair in documents] for documents in mmlu.values()]
        sides.append(sheet(mode, values))
    row = paired_tables.tasks(pd.concat(sides), evaluate.COLUMNS, loaded).iloc[0]
    one, other = (evaluate.summary(side, loaded) for side in sides)
    for metric in AVERAGES:
        assert row[f"{metric}_difference"] == pytest.approx(other[metric] - one[metric], abs=1e-9)


def test_rounding_in_the_last_digits_is_no_difference(smoke):
    row = paired_tables.tasks(changed(truthfulqa=[[0.3 + 1e-15, 0.6 + 2e-15]]), evaluate.COLUMNS, smoke).iloc[0]
    assert interval(row, "truthfulqa_mc2") == (0, 0, 0) and counts(row, "truthfulqa_mc2") == (2, 0, 0)


def test_a_document_without_a_value_is_left_out_and_counted(smoke):
    found = changed(truthfulqa=[[math.nan, 0.8]], hellaswag=[[math.nan, math.nan]])
    row = paired_tables.tasks(found, evaluate.COLUMNS, smoke).iloc[0]
    assert row["truthfulqa_mc2_difference"] == pytest.approx(20) and counts(row, "truthfulqa_mc2") == (1, 1, 1)
    assert counts(row, "hellaswag_acc_norm") == (0, 0, 2) and math.isnan(row["hellaswag_acc_norm_difference"])
    assert math.isnan(row["average_difference"]) and row["average_difference_n_failed"] == 3


# The stratified bootstrap


def drawn(*groups: list[float], resamples: int = 4000) -> tuple[float, np.ndarray]:
    return stratified.resampled([np.array(s, float) for s in groups], resamples, np.random.default_rng(0))


@given(st.lists(st.lists(st.floats(-100, 100), min_size=2, max_size=6), min_size=1, max_size=4))
def test_resamples_lie_within_the_values_and_around_their_mean(groups):
    mean, resampled = drawn(*groups, resamples=50)
    assert mean == pytest.approx(np.mean([np.mean(s) for s in groups]))
    assert resampled.shape == (50,)
    low, high = (np.mean([end(group) for group in groups]) for end in (min, max))
    assert low - 1e-9 <= resampled.min() <= resampled.max() <= high + 1e-9


def test_single_documents_are_drawn_from_as_one_stratum():
    mean, resampled = drawn([0], [10], [20], [5, 5])
    assert mean == pytest.approx(35 / 4)
    wanted = (3 / 4) ** 2 * np.var([0, 10, 20], ddof=1) / 3
    assert resampled.var() == pytest.approx(wanted, rel=0.06)


def test_one_single_document_has_no_spread():
    mean, resampled = drawn([7], [1, 2])
    assert mean == 4.25 and np.isnan(resampled).all()


def test_many_values_are_drawn_in_parts_and_agree_with_the_plain_bootstrap():
    values = np.random.default_rng(0).normal(10, 2, 30_000)
    mean, resampled = drawn(values, resamples=700)
    _, low, high = intervals.bootstrap(values, 700, 0.95, 1)
    assert resampled.shape == (700,) and mean == pytest.approx(values.mean())
    assert np.quantile(resampled, [0.025, 0.975]) == pytest.approx([low, high], abs=0.01)


def test_merges_that_do_not_differ_are_seldom_told_apart():
    """Documents flip to either side with the same chance: about one interval in twenty may leave out 0."""
    rng, told = np.random.default_rng(0), 0
    for _ in range(300):
        groups = [rng.choice([-1, 0, 1], n, p=[0.1, 0.8, 0.1]) for n in (30, 20, 20, 20)]
        low, high = np.quantile(stratified.resampled(groups, 400, rng)[1], [0.025, 0.975])
        told += low > 0 or high < 0
    assert told / 300 <= 0.08


# What readers see


def test_the_table_says_value_interval_and_what_failed(smoke):
    pairs = paired_tables.paired(rated(bf16=[1.0, math.nan, 1], dequantized=[3.0, 2, 3]), ["kl"], smoke)
    keys, shown = ["sciq", "dequantized", "bf16", 3], "+2 [+2, +2] (2 of 2 changed, 1 failed)"
    assert layout.view(pairs).iloc[0].tolist() == [*keys, shown]
    one = layout.view(paired_tables.paired(rated(bf16=[1.0], dequantized=[1.5]), ["kl"], smoke))
    assert one["kl difference"].item() == "+0.5000 (1 of 1 changed)"
    none = layout.view(paired_tables.paired(rated(bf16=[1.0], dequantized=[math.nan]), ["kl"], smoke))
    assert none["kl difference"].item() == "– (0 of 0 changed, 1 failed)"


def test_the_reading_counts_comparisons_and_names_those_told_apart(smoke):
    values = {"sciq": ([1.0, 2, 3], [2.0, 3, 4]), "wiki": ([1.0, 2], [2.0, 1]), "both": ([1.0], [2.0])}
    found = pd.concat(rated(name, bf16=one, dequantized=other) for name, (one, other) in values.items())
    text = paired_tables.reading(paired_tables.paired(found, ["kl"], smoke), ["kl"], 0.95)
    assert text.startswith("Of three comparisons of two merges of one fine-tune, in one it is higher")
    assert "1 have too few" in text and "sciq, dequantized − bf16: kl +1 [+1, +1] (n = 3)" in text
    assert "wiki" not in text and "about 0.1 apart; more where" in text


def test_metrics_are_named_as_readers_know_them(smoke):
    found = rated(bf16=[1.0, 2], dequantized=[2.0, 3]).assign(metric="bertscore_f1")
    pairs = paired_tables.paired(found, ["bertscore_f1"], smoke)
    assert "BERTScore F1 +1" in paired_tables.reading(pairs, ["bertscore_f1"], 0.95)
    assert "F1 (BERTScore) difference" in layout.view(pairs)


def test_the_reading_warns_of_few_questions_only_where_there_are_few(smoke):
    many = list(range(paired_tables.FEW))
    pairs = paired_tables.paired(rated(bf16=many, dequantized=many), ["kl"], smoke)
    assert paired_tables.reading(pairs, ["kl"], 0.95).endswith("would tell about 0.05 apart.")


def test_every_pair_of_three_merges_is_compared(smoke):
    modes = ("adapter", "bf16", "dequantized")
    pairs = paired_tables.paired(rated(**{m: [float(i), 0.0] for i, m in enumerate(modes)}), ["kl"], smoke)
    assert list(zip(pairs["minus"], pairs["merge_mode"])) == list(itertools.combinations(modes, 2))
    assert pairs["kl_difference"].tolist() == [0.5, 1, 0.5]
