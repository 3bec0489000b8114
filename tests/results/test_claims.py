"""The study's claims: its own numbers give the differences it names, and a turned table turns the verdict."""

import math

import numpy as np
import pandas as pd
import pytest
from conftest import write_table
from scipy import stats

from s2utils.evaluation import metrics
from s2utils.report import build
from s2utils.results import claims
from s2utils.results.published_claims import CLAIMS
from s2utils.workflow import paths
from s2utils.workflow.params import ParameterError, load

BASE, SETS = "SmolLM2-135M", ("sciq", "wikilead", "full")
TUNED = ("sciq", "wikilead", "sciq-wikilead")


@pytest.fixture
def params(tree):
    return load("cpu")


def measured(half: float = 0.1, turned: bool = False) -> dict[str, pd.DataFrame]:
    """Tables of the cpu profile in which every claim of a 7B model holds, by wide margins; or none does."""
    rank = {"chat": 9, "sciq-wikilead": 8, "sciq": 6, "wikilead": 5, "": 4}  # the base is ""
    found = {}
    for name in metrics.STUDY:
        rows = []
        for model, place in rank.items():
            for dataset in SETS if name in ("rouge", "bertscore", "flesch") else ("",):
                for mode in ("bf16", "dequantized") if model in TUNED else ("none",):
                    row = {
                        "model": f"{BASE}-{model}".removesuffix("-"),
                        "merge_mode": mode,
                        "dataset": dataset,
                        "n": 50,
                    }
                    for metric in metrics.columns(name):
                        value = _value(metric, model, place, dataset, mode) * (-1 if turned else 1)
                        row |= {metric: value, f"{metric}_ci_low": value - half, f"{metric}_ci_high": value + half}
                        row[f"{metric}_n_failed"] = 1
                    rows.append(row)
        frame = pd.DataFrame(rows).drop(columns=[] if dataset else ["dataset"])
        found[name] = frame.astype(str).replace("nan", "")
    return found


def _value(metric: str, model: str, place: int, dataset: str, mode: str) -> float:
    """A value that agrees with the study's claims."""
    if metric == "arc_acc_norm":
        return {"wikilead": 9, "": 8, "chat": 2}.get(model, 1)
    if metric == "hellaswag_acc_norm":
        return place + 5 * (model == "sciq-wikilead")
    if metric.startswith("rouge"):
        return 10 - place + 20 * (metric == "rouge_l_f1" and model == "sciq")
    if metric.startswith("bertscore"):
        return 0.5
    if metric == "flesch_reading_ease":
        return {"sciq": 70, "": 40}.get(model, 60)
    if metric == "flesch_kincaid_grade":
        if (model, dataset) in (("wikilead", "sciq"), ("sciq-wikilead", "wikilead")):
            return 12
        return {"sciq": 3, "": 10}.get(model, 6)
    if metric == "multi_turn_rating":
        return 9 if model == "chat" else 1
    if metric == "single_turn_rating" and model in TUNED:
        return 7 if (mode == "bf16") == (model == "sciq-wikilead") else 3
    return place


def judged(ours: dict, params, questions: dict | None = None, theirs: dict | None = None) -> pd.DataFrame:
    """The claims by their names."""
    theirs = claims.published() if theirs is None else theirs
    return claims.table(theirs, ours, params, questions).set_index("claim")


def test_every_claim_finds_its_published_numbers(params):
    frame = judged({}, params)
    assert frame.index.is_unique and len(frame) == len(CLAIMS)
    assert frame.index[frame["published_value"].isna()].tolist() == ["6c"]  # no table has other learning rates
    assert (frame["measured_verdict"] == "not measured").all()
    told = {
        "2a": 0.17, "3": 0.21, "6a": 3.71 - (4.74 - 3.71), "6b": 0.51, "9a": 0.472, "9c": 0.451, "9d": 0.067,
        "12a": 0.708333, "12b": 2.808333, "12c": 2.116667, "13b": 0.49,
    }  # fmt: skip
    for claim, value in told.items():  # as the study's text names them
        assert frame.at[claim, "published_value"] == pytest.approx(value, abs=1e-6), claim
    assert (frame["published_value"].drop("6c") > 0).all()  # as numbers, all are as claimed


def test_the_verdicts_on_the_published_numbers(params):
    told = judged({}, params)["published_verdict"]
    assert told.index[told == "holds"].tolist() == ["4a", "11b", "12b", "12c"]
    assert set(told) == {"holds", "can't tell"}


def test_a_turned_published_table_turns_the_verdict(params):
    theirs = claims.published()
    board = theirs["leaderboard"]
    swap = {"Llama-2-7b": "Llama-2-7b-chat", "Llama-2-7b-chat": "Llama-2-7b"}
    theirs["leaderboard"] = board.assign(model=board["model"].replace(swap))
    frame = judged({}, params, theirs=theirs)
    assert frame.at["4a", "published_verdict"] == "does not" and frame.at["4a", "published_value"] < 0
    assert frame.at["1a", "published_verdict"] == "does not"
    assert frame.at["2a", "published_value"] == pytest.approx(-0.17)


def test_published_intervals_are_of_the_documents(params):
    board = claims.published()["leaderboard"].set_index("model")
    row = board.loc["Llama-2-7b"]
    half = 1.96 * math.sqrt(0.5307 * 0.4693 / 1172) * 100
    assert row["arc_acc_norm_ci_high"] - row["arc_acc_norm"] == pytest.approx(half, abs=0.02)
    width = row["mmlu_acc_ci_high"] - row["mmlu_acc_ci_low"]  # wider than of 14,042 documents that weigh alike
    assert width == pytest.approx(2 * 1.96 * math.sqrt(0.438 * 0.562 / 9528) * 100, abs=0.01)
    assert row["average_ci_low"] < row["average"] < row["average_ci_high"] < row["average"] + half
    assert claims.published()["flesch"]["flesch_reading_ease_ci_low"].isna().all()
    turns = claims.published()["mtbench"].set_index(["model", "merge_mode"])
    assert turns.loc[("Llama-2-7b", "none"), "multi_turn_rating"] == 1
    assert turns.loc[("Llama-2-7b", "none"), "multi_turn_rating_ci_low"] == pytest.approx(1, abs=1e-9)


def test_clear_tables_show_every_claim_and_turned_ones_its_opposite(params):
    ours = judged(measured(), params)
    small = [c for c in ours.index if c not in ("13a", "13b", "13c", "13d", "5a", "5b", "6a", "6b", "6c", "8")]
    assert set(ours.loc[small, "measured_verdict"]) == {"holds"}
    rest = [c for c in ours.index if c not in (*small, "8", "13b")]  # 13b: ours has sciq above the base
    assert set(ours.loc[rest, "measured_verdict"]) == {"not measured"}
    assert ours.at["13b", "measured_verdict"] == "does not"
    other = judged(measured(turned=True), params)
    assert set(other.loc[small, "measured_verdict"]) == {"does not"}
    assert (ours.loc[small, "measured_n"] == 50).all() and (ours.loc[small, "measured_n_failed"] >= 2).all()


def test_with_a_third_data_set_claims_about_the_first_two_are_still_measured(params):
    two = judged(measured(), params)
    more = {"sources": {"parables": vars(params.data.sources["sciq"])}}
    more |= {"validation": {"parables": 4}, "test": {"parables": 4}}
    sets = ["sciq", "wikilead", "sciq-wikilead-parables"]
    three = load("cpu", {"data": more, "sft": {"train_sets": sets}})
    assert len(three.data.sources) == 3 and three.data.roles == {"ELI5": "sciq", "wiki": "wikilead"}
    found = judged(measured(), three)
    about = {c.id: {t[i].partition("@")[0] for ts in c.comparisons for t in ts for i in (1, 3)} for c in CLAIMS}
    union = [c for c in two.index[two["measured_verdict"] != "not measured"] if about[c] & {"full", "ELI5-wiki"}]
    assert set(found.loc[union, "measured_missing"]) == {"full also holds parables"}
    assert set(found.loc[union, "measured_verdict"]) == {"not measured"} and "1a" in union
    rest = [c for c in two.index if c not in union]
    assert found.loc[rest, "measured_verdict"].equals(two.loc[rest, "measured_verdict"])
    held = found["measured_verdict"].isin(("holds", "does not"))
    assert held.loc[["2a", "9c", "12b", "12c"]].all() and not held.loc[["4a", "7a", "10a"]].any()


def test_what_a_claim_lacks_is_named(params):
    tables_ = measured()
    whole = judged(tables_, params)["measured_missing"]
    assert whole["7a"] == "" and whole["5a"] == "it is about a model of 13B"
    assert whole["13a"] == "no train set stands for ELI5-Cleaned-wiki"
    unnamed = judged(tables_, load("cpu", {"data": {"roles": {"wiki": "wikilead"}}}))
    assert unnamed.at["7a", "measured_missing"] == "", "overrides add to the profile's roles"
    gone = {k: v for k, v in tables_.items() if k != "rouge"}
    assert judged(gone, params).at["7a", "measured_missing"] == "the table rouge is not there yet (notebook 05)"
    fewer = tables_ | {"rouge": tables_["rouge"].query("model != 'SmolLM2-135M-sciq'")}
    found = judged(fewer, params)
    assert found.at["7a", "measured_missing"] == "rouge has no rouge_lsum_f1 of SmolLM2-135M-sciq, sciq"
    shown = claims.shown(found.reset_index()).set_index("claim")
    assert "rouge has no rouge_lsum_f1" in shown.at["7a", "measured difference"]


@pytest.mark.parametrize(
    ("roles", "message"), [({"ELI6": "sciq"}, "did you mean 'ELI5'"), ({"ELI5": "sciqq"}, "did you mean 'sciq'")]
)
def test_a_role_or_source_that_is_none_is_refused(tree, roles, message):
    with pytest.raises(ParameterError, match=message):
        load("cpu", {"data": {"roles": roles}})


def test_wide_intervals_tell_nothing(params):
    assert set(judged(measured(half=1000), params)["measured_verdict"]) == {"can't tell", "not measured"}


def test_intervals_combine_as_of_independent_parts(params):
    row = judged(measured(half=3.0), params).loc["2a"]  # 8 − 2
    assert row["measured_value"] == 6
    assert row["measured_ci_low"] == pytest.approx(6 - math.hypot(3, 3), abs=1e-5)


def test_very_little_is_a_margin(params):
    ours = measured(half=0.001)
    assert judged(ours, params).at["8", "measured_verdict"] == "holds"
    assert judged(measured(half=0.1), params).at["8", "measured_verdict"] == "can't tell"
    bert = ours["bertscore"]
    for column, value in (("bertscore_f1", "0.9"), ("bertscore_f1_ci_low", "0.899"), ("bertscore_f1_ci_high", "0.901")):
        bert.loc[bert["model"] == BASE, column] = value
    assert judged(ours, params).at["8", "measured_verdict"] == "does not"


def test_the_weakest_comparison_is_shown(params):
    row = judged(measured(), params).loc["1a"]
    assert row["measured_value"] == 1 and row["measured_comparison"] == f"{BASE}-chat − {BASE}-sciq-wikilead: Average"


def test_a_missing_model_is_not_measured(params):
    ours = {name: frame[frame["model"] != f"{BASE}-wikilead"] for name, frame in measured().items()}
    told = judged(ours, params)["measured_verdict"]
    assert told["1a"] == told["9a"] == told["12b"] == "not measured" and told["2a"] == told["12a"] == "holds"


def test_merges_are_compared_question_by_question_where_such_a_table_is_there(params):
    ours = measured()
    ends = {f"single_turn_rating_difference{k}": v for k, v in {"": 0.5, "_ci_low": -0.25, "_ci_high": 1.5}.items()}
    for mode, minus, shown in (("dequantized", "bf16", [0.5, -0.25, 1.5]), ("bf16", "dequantized", [-0.5, -1.5, 0.25])):
        row = {"train_set": "wikilead", "merge_mode": mode, "minus": minus} | ends
        frame = judged(ours | {"mtbench_paired": pd.DataFrame([row])}, params)
        assert frame.loc["12b", ["measured_value", "measured_ci_low", "measured_ci_high"]].tolist() == shown
        assert frame.loc[["12b", "12a"], "measured_verdict"].tolist() == ["can't tell", "holds"]


def asked(n: int = 20, noise: float = 5.0, fail: bool = False) -> dict[str, pd.DataFrame]:
    """Questions of the leaderboard: chat is below the base by 1 on each of ARC, whose documents differ by far more."""
    rows = []
    for model, gain in ((BASE, 0.0), (f"{BASE}-chat", -1.0)):
        for i in range(n):
            value = math.nan if fail and i == 0 and gain else noise * (i % 7) + gain + 0.1 * (i % 2)
            rows.append({"model": model, "metric": "arc_acc_norm", "group": "arc", "question": str(i), "value": value})
    frame = pd.DataFrame(rows).assign(merge_mode="none", dataset="", stratum="", weight=1 / n)
    return {"leaderboard": frame}


def test_measured_verdicts_are_taken_question_by_question(params):
    frame = judged(measured(half=3.0), params, asked())
    row = frame.loc["2a"]
    assert row["measured_interval"] == "paired" and row["measured_verdict"] == "holds"
    assert (row["measured_value"], row["measured_ci_low"], row["measured_ci_high"]) == (1, 1, 1)
    assert row["measured_n"] == 20 and row["measured_n_failed"] == 0
    assert frame.at["4a", "measured_interval"] == "combined"  # its questions are not at hand
    assert "paired)" in claims.shown(frame.reset_index(), "06").set_index("claim").at["2a", "measured difference"]
    assert frame.at["6c", "measured_interval"] == "" and "combined" in set(frame["published_interval"])


def test_a_question_that_failed_under_one_model_is_left_out_and_counted(params):
    row = judged(measured(), params, asked(fail=True)).loc["2a"]
    assert (row["measured_value"], row["measured_n"], row["measured_n_failed"]) == (1, 20, 1)


def test_models_with_other_questions_are_combined(params):
    frame = asked()["leaderboard"]
    other = frame.assign(question=frame["question"].where(frame["model"] == BASE, "x" + frame["question"]))
    row = judged(measured(half=3.0), params, {"leaderboard": other}).loc["2a"]
    assert row["measured_interval"] == "combined" and row["measured_value"] == 6


def test_13b_is_measured_on_13b(tree):
    told = judged(claims.published(), load("a100-13b"))  # the study's numbers as if they were measured
    assert told.at["6a", "measured_value"] == told.at["6a", "published_value"]
    assert told.at["1a", "measured_verdict"] == "not measured"


def test_claims_stand_in_the_report(params):
    folder = paths.reports("cpu") / "tables"
    for name, frame in measured().items():
        for column in frame.columns.drop([c for c in ("model", "merge_mode", "dataset") if c in frame]):
            frame[column] = frame[column].astype(float)
        write_table(frame, name, folder, "Profile cpu.")
    build.build("cpu")
    page = (folder / "claims.html").read_text(encoding="utf-8")
    assert "The study&#39;s claims" in page or "The study's claims" in page
    assert "7B: chat has the best average" in page and "ELI5 is sciq, wiki is wikilead" in page
    frame = pd.read_csv(folder / "claims.csv")
    assert len(frame) == len(CLAIMS) and (folder / "claims.md").is_file()
    assert claims.shown(frame.assign(notebook=frame["notebook"].map("{:02d}".format)), "06")["claim"].iat[0] == "1a"


def test_without_tables_there_are_no_claims(params):
    build.build("cpu")
    assert not (paths.reports("cpu") / "tables" / "claims.csv").exists()


def test_one_of_many_intervals_that_lies_below_by_chance_decides_nothing():
    """Bonferroni at 20 comparisons of many questions: 3.023 standard errors, where one comparison has 1.960."""
    d = claims.Difference("a − b", -1.0, -1.8, -0.2, 10_000, 0)
    assert claims._widened(d, 1, 0.95) == pytest.approx((-1.8, -0.2))
    assert claims._widened(d, 20, 0.95) == pytest.approx((-1 - 0.8 * 3.0233 / 1.96, -1 + 0.8 * 3.0233 / 1.96), abs=1e-3)
    few = claims.Difference("a − b", -1.0, -1.8, -0.2, 2, 0)
    assert claims._widened(few, 20, 0.95)[1] > 10, "two questions cannot speak against twenty comparisons"
    rng, n, k, told = np.random.default_rng(0), 30, 18, []
    for _ in range(400):  # no claim is false here
        sample = rng.normal(0, 1, (k, n))
        half = stats.t.ppf(0.975, n - 1) * sample.std(1, ddof=1) / n**0.5
        each = [claims.Difference("", m, m - h, m + h, n) for m, h in zip(sample.mean(1), half)]
        told.append([any(high < 0 for _, high in (claims._widened(d, m, 0.95) for d in each)) for m in (1, k)])
    one, all_ = np.mean(told, axis=0)
    assert one > 0.25 and all_ < 0.05
