"""Protocols: the right two texts meet, a row keeps its place, and one choice moves one thing."""

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.evaluation import bertscore, scoring_protocols, text_metrics
from s2utils.results import protocol_effects
from s2utils.workflow.params import load

PROMPT = "### Human: {}\n ### Assistant: "


@pytest.fixture
def params(tree):
    return load("smoke", "text_metrics.resamples=200")


@pytest.fixture
def lengths(monkeypatch):
    """BERTScore without an encoder: the value is the length of the answer; returns the pairs that were asked."""
    asked = []

    def score(answers, references, weights, layer, device):
        asked.extend(zip(answers, references))
        values = [float(len(a)) if a.strip() else math.nan for a in answers]
        facts = {"bertscore_hash": "h", "bertscore_texts_cut": 0, "bertscore_texts_undefined": 0}
        return pd.DataFrame(dict.fromkeys(bertscore.COLUMNS, values)), facts

    monkeypatch.setattr(bertscore, "score", score)
    return asked


def answers() -> pd.DataFrame:
    """Two models, two data sets of two questions each; one answer is empty."""
    keys = ["model", "dataset", "question", "reference", "answer"]
    places = [(m, d, i) for m in "AB" for d in ("x", "y") for i in range(2)]
    rows = [(m, d, f"{d}{i}?", f"Reference {d} {i}.", f"{m} says {d} {i}.") for m, d, i in places]
    frame = pd.DataFrame(rows, columns=keys, index=range(10, 18)).assign(variant="base")
    frame.loc[12, "answer"] = ""
    frame["prompt"] = [PROMPT.format(q) for q in frame["question"]]
    frame["whole"] = frame["prompt"] + frame["answer"]
    return frame.assign(other=scoring_protocols.other_references(frame))


def test_another_reference_is_of_another_data_set():
    frame = answers()
    assert frame["other"].tolist() == [f"Reference {d} {i}." for d, i in (("y", 1), ("y", 0), ("x", 1), ("x", 0))] * 2
    alone = frame[frame["dataset"] == "x"]
    assert scoring_protocols.other_references(alone).tolist() == ["Reference x 1.", "Reference x 0."] * 2
    assert scoring_protocols.other_references(alone[alone["question"] == "x0?"]).isna().all()


@pytest.mark.parametrize("last", ["Rain is water.", "It is wet."])
def test_another_reference_of_eight_thousand_alike_is_found_at_once(last):
    import time

    frame = pd.DataFrame({"model": "A", "dataset": "x", "reference": ["Rain is water."] * 7999 + [last]})
    start = time.process_time()
    other = scoring_protocols.other_references(frame)
    assert time.process_time() - start < 5
    assert other.isna().all() if last == "Rain is water." else set(other[:7999]) == {last} and other[7999] != last


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("abc")), min_size=1, max_size=9))
def test_another_reference_is_the_next_that_differs(rows):
    frame = pd.DataFrame(rows, columns=["dataset", "reference"]).assign(model="A")
    parts = {d: list(part) for d, part in frame.groupby("dataset", sort=False)["reference"]}
    place = dict.fromkeys(parts, 0)
    for (dataset, mine), found in zip(rows, scoring_protocols.other_references(frame)):
        rest = next((p for d, p in parts.items() if d != dataset), parts[dataset])
        place[dataset] += 1
        turned = (rest[(place[dataset] + k) % len(rest)] for k in range(len(rest)))
        assert next((r for r in turned if r != mine), None) == (found if isinstance(found, str) else None)


def test_an_answer_that_was_not_read_has_failed_everywhere(params, lengths):
    frame = answers()
    frame.loc[11, ["answer", "whole"]] = None
    bert, _ = scoring_protocols.bertscore(frame, params)
    for ways in (scoring_protocols.readability(frame), scoring_protocols.rouge(frame, params), bert):
        assert all(scores.loc[11].isna().all() and scores.loc[10].notna().all() for scores in ways.values())


def test_the_study_compares_the_prompt_on_both_sides():
    frame = answers()
    pairs = scoring_protocols.texts(frame)
    assert set(pairs) == {(p, r) for p in ("study", "answer") for r in ("own", "other")}
    assert pairs["answer", "own"].loc[10].tolist() == ["A says x 0.", "Reference x 0."]
    start = PROMPT.format("x0?")
    assert pairs["study", "own"].loc[10].tolist() == [f"{start}A says x 0.", f"{start}Reference x 0."]
    assert pairs["answer", "other"].loc[10, "wanted"] == "Reference y 1."
    frame.loc[11, "reference"] = None
    assert list(scoring_protocols.texts(frame)["answer", "own"].index) == [10, *range(12, 18)]


def test_rows_keep_their_place(params, lengths):
    frame = answers()
    frame.loc[11, "reference"] = None
    found, facts = scoring_protocols.bertscore(frame, params)
    own = found["answer", "h", "own"]["bertscore_f1"]
    assert list(own.index) == list(frame.index) and own.isna().tolist() == [False, True, True] + [False] * 5
    assert own[10] == len("A says x 0.") and found["study", "h", "own"].loc[12].notna().all()
    rouge = scoring_protocols.rouge(frame, params)
    assert rouge["answer", "rouge_score", "own"]["rouge_1_f1"].isna().tolist() == [False, True] + [False] * 6
    assert rouge["answer", "rouge_score", "own"].loc[12].tolist() == [0] * 4  # an empty answer shares nothing
    assert len(lengths) == 7 + 7 + 8  # no way is scored twice, none without a reference


@pytest.mark.parametrize("protocol", ["answer", "study"])
@pytest.mark.parametrize("reference", ["own", "other"])
def test_the_profiles_own_protocol_is_chosen(params, lengths, protocol, reference):
    frame = answers()
    changes = f"text_metrics.protocol={protocol} text_metrics.reference={reference} text_metrics.readability=cmudict"
    params = load("smoke", changes)
    said, wanted = (list(scoring_protocols.texts(frame)[protocol, reference][c]) for c in ("said", "wanted"))
    rouge = scoring_protocols.chosen(scoring_protocols.rouge(frame, params), params)
    pd.testing.assert_frame_equal(rouge.reset_index(drop=True), text_metrics.rouge(said, wanted, True))
    bert = scoring_protocols.chosen(scoring_protocols.bertscore(frame, params)[0], params)["bertscore_f1"]
    assert bert.dropna().tolist() == [len(t) for t in said if t]
    ease = scoring_protocols.chosen(scoring_protocols.readability(frame), params)
    counted = "pyphen" if protocol == "study" else "cmudict"
    assert scoring_protocols.syllables(params) == counted
    pd.testing.assert_frame_equal(ease.reset_index(drop=True), text_metrics.readability(said, counted))
    told = scoring_protocols.described(params)
    assert f"protocol {protocol}" in told and ("reference other" in told) == (reference == "other")


def test_ways_survive_a_file(params, lengths, tmp_path):
    frame = answers()
    scored = {"rouge": scoring_protocols.rouge(frame, params), "flesch": scoring_protocols.readability(frame)}
    scored["bertscore"], _ = scoring_protocols.bertscore(frame, params)
    scoring_protocols.flat(scored).to_parquet(tmp_path / "p.parquet", index=False)
    back = scoring_protocols.ways(pd.read_parquet(tmp_path / "p.parquet"))
    assert {name: list(ways) for name, ways in back.items()} == {name: list(ways) for name, ways in scored.items()}
    for name, ways in scored.items():
        for way, found in ways.items():
            pd.testing.assert_frame_equal(back[name][way], found.reset_index(drop=True))


def test_one_choice_is_switched_at_a_time(params):
    frame = answers()
    moved = protocol_effects.switched(frame, "rouge", scoring_protocols.rouge(frame, params), params)
    assert set(moved["choice"]) == {"prompt", "stemmer", "reference"}
    assert moved[["from", "to"]].drop_duplicates().to_numpy().tolist() == [
        ["answer", "study"], ["rouge_score", "rouge_score, stemmed"], ["own", "other"],
    ]  # fmt: skip
    row = moved[(moved["choice"] == "prompt") & (moved["metric"] == "rouge_1_f1")].set_index("dataset")
    assert (row["n"] == 2).all() and (row["n_answers"] == 4).all() and (row["effect"] > 0.15).all()
    assert row["effect"].tolist() == pytest.approx((row["switched"] - row["value"]).tolist())
    assert (row["effect_ci_low"] <= row["effect"]).all() and (row["effect"] <= row["effect_ci_high"]).all()
    ease = protocol_effects.switched(frame, "flesch", scoring_protocols.readability(frame), params)
    ease = ease.set_index(["dataset", "choice"])
    assert set(ease.loc["x", "to"]) == {"study", "pyphen"} and set(ease["from"]) == {"answer", "cmudict"}
    assert ease.loc[("y", "prompt"), "n_failed"].tolist() == [1, 1]  # the empty answer has no ease without its prompt
    view = protocol_effects.switches(moved)
    assert list(view) == ["dataset", "metric", "prompt", "stemmer", "reference"] and len(view) == 8
    assert view["prompt"].str.match(r"\+0\.\d+ \[\+").all()


def test_prompts_are_what_the_models_saw(params):
    frame = pd.DataFrame({"variant": ["base", "sft", "chat"], "question": "Why is ice slippery?", "text": "It is."})
    base, tuned, chat = scoring_protocols.prompts(frame, params)
    assert base == tuned == "### Human: Why is ice slippery?\n ### Assistant:"
    assert chat.startswith("system") and chat.endswith("Why is ice slippery?\nassistant") and "<|" not in chat


def test_the_studys_released_answers_keep_their_readability(sample, params):
    """As published: prompt and answer, Pyphen."""
    from s2utils.evaluation import external_answers

    file = sample("study_predictions/Llama-2-7b-hf_eli5_predictions.csv")
    answers, _ = external_answers.read(file)
    way = ("study", "pyphen", "none")
    assert scoring_protocols.readability(answers)[way].mean().round(3).tolist() == [52.677, 10.799]
