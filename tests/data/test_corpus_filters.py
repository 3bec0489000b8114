import typing
from collections import Counter

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_files import changed

from s2utils.data import corpus_filters, preference_sets
from s2utils.data.parameters import CorpusStep
from s2utils.workflow import params

P = params.load("cpu")


def frame_of(*answers: str, **columns) -> pd.DataFrame:
    """Measured rows, one an answer."""
    numbers = [str(i) for i in range(len(answers))]
    facts = {"dataset": "d", "id": numbers, "post": numbers, "question": "Why?", "score": None, "dropped": ""}
    return pd.DataFrame({"answer": list(answers)} | facts | columns).astype({"score": "Int64"})


def test_the_parameters_know_every_step():
    assert tuple(corpus_filters.STEPS) == typing.get_args(CorpusStep)


def test_the_first_of_equal_answers_stays():
    answers = ("Hot.", "HOT.", "Cold.", "Cold.", "hot.")
    frame = frame_of(*answers, dataset=list("dddde"), dropped=["", "", "short", "", ""])
    corpus_filters.duplicates(frame, P)
    assert frame["dropped"].tolist() == ["", "duplicate answer", "short", "", ""]


def test_near_duplicates_are_listed_with_what_they_repeat():
    text = " ".join(f"word{i}" for i in range(60))
    frame = frame_of(text, "Something else that is said here about the rain.", text + " more")
    table = corpus_filters.near_duplicates(frame, P)
    assert frame["dropped"].tolist() == ["", "", "near-duplicate answer (0.8)"]
    assert table[["id", "of"]].values.tolist() == [["2", "0"]] and table["similarity"].iat[0] > 0.9


def test_what_repeats_an_evaluation_set_is_dropped_and_listed(monkeypatch):
    run = "one two three four five six seven eight nine ten eleven twelve thirteen"
    monkeypatch.setattr(corpus_filters.overlap, "evaluation_sets", lambda p: {"arc": ["Other.", f"Well, {run}!"]})
    frame = frame_of("It is hot.", f"So {run.upper()} it goes.", f"{run} again", "Cold.", dropped=["", "", "short", ""])
    frame["dataset"], frame["id"] = ["d", "d", "d", "e"], ["0", "1", "2", "1"]  # ids are a data set's own
    table = corpus_filters.contamination(frame, P)
    assert frame["dropped"].tolist() == ["", "13 words of an evaluation set", "short", ""]
    assert table[["id", "set", "document", "run"]].values.tolist() == [["1", "arc", 1, run]]


def test_few_votes_are_dropped_and_no_votes_stay():
    frame = frame_of("a", "b", "c", "d", score=[3, 4, None, 1], dropped=["", "", "", "short"])
    corpus_filters.votes(frame, P)
    assert frame["dropped"].tolist() == ["under 4 votes", "", "", "short"]


def test_toxic_answers_are_dropped_and_only_kept_ones_are_scored(monkeypatch):
    asked = []

    def scores(texts, model):
        asked.append((texts, model))
        return pd.Series([0.1, 0.11]).to_numpy()

    monkeypatch.setattr(corpus_filters, "toxic", scores)
    frame = frame_of("a", "b", "c", dropped=["", "short", ""])
    corpus_filters.toxicity(frame, P)
    assert frame["dropped"].tolist() == ["", "short", "toxicity over 0.1"]
    assert asked == [(["a", "c"], "profanity-check")]


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("It is hot. Edit: thanks for the gold!", True),
        ("It is hot. EDIT 2: no", True),
        ("It is hot. (edited: a word)", True),
        ("You can edit the file.", False),
        ("Credit: the sun", False),
    ],
)
def test_edit_notes(text, ends):
    frame = frame_of(text)
    corpus_filters.edit_tail(frame, P)
    assert (frame["dropped"].iat[0] != "") == ends


def test_steps_for_fine_tuning_leave_the_others_alone():
    frame = frame_of("a", "b", score=[1, 1]).assign(set=["sft", "rm"])
    corpus_filters.run(["votes"], frame, P, only=frame["set"] == "sft")
    assert frame["dropped"].tolist() == ["under 4 votes", ""]


def test_a_seeded_sample_stays():
    def kept(train_max: int, seed: int) -> list[int]:
        data = changed(P.data, train_max=train_max, validation={"d": 2}, test={"d": 1})
        frame = frame_of(*"abcdefghijklmnopqrst", "short", dropped=[""] * 20 + ["short"]).assign(set="sft")
        corpus_filters.drop_beyond(frame, "d", changed(P, data=data, seed=seed))
        return frame.index[frame["dropped"] == ""].tolist()

    assert kept(2, 1) == kept(2, 1) != kept(2, 2)
    assert len(kept(2, 1)) == 6 and kept(99, 1) == kept(0, 1) == list(range(20))


def test_the_funnel_ends_with_what_is_kept():
    frame = frame_of(*"abcd", dropped=["", "", "", "short"]).assign(set=["sft", "rm", "rm", "sft"])
    table = corpus_filters.funnel("d", Counter({"broken row": 2}), frame)
    kept = [["kept for reward modelling", 2], ["kept", 1]]
    assert table[["reason", "n"]].values.tolist() == [["read", 6], ["broken row", 2], ["short", 1], *kept]


rows = st.fixed_dictionaries(
    {
        "dataset": st.sampled_from("de"),
        "post": st.sampled_from("pqrs"),
        "question": st.sampled_from(["Why?", "WHY?", "How?", "What?"]),
        "answer": st.sampled_from(["a", "A", "b Edit: c", "d"]),
        "score": st.none() | st.integers(-5, 9),
        "dropped": st.sampled_from(["", "", "short"]),
    }
)


@given(st.lists(rows, min_size=1, max_size=25), st.dictionaries(st.sampled_from(["x", "y"]), st.integers(1, 9)))
def test_kept_and_dropped_are_what_was_read(records, before):
    frame = pd.DataFrame(records).astype({"score": "Int64"})
    frame["id"] = frame["post"] + "/" + frame.index.astype(str)
    corpus_filters.run(["duplicates"], frame, P)
    preference_sets.assign(frame)
    pairs, fates = preference_sets.pairs(frame, 2)
    corpus_filters.run(["votes", "edit_tail"], frame, P, only=frame["set"] == "sft")
    for name in set(frame["dataset"]):
        table = corpus_filters.funnel(name, Counter(before), frame).set_index("reason")["n"]
        assert table["read"] == table.drop("read").sum() == sum(before.values()) + (frame["dataset"] == name).sum()
    fates = fates.groupby("reason")["n"].sum() if len(fates) else {"pairs": 0, "kept": 0}
    assert len(pairs) == fates["kept"] and 2 * fates["pairs"] == (fates.sum() if len(pairs) or fates["pairs"] else 0)
    assert (pairs["margin"] > 0).all() and pairs.groupby(["dataset", "post"]).size().le(2).all()
    left = frame[frame["dropped"] == ""]
    used = set(pairs["chosen_id"]) | set(pairs["rejected_id"])
    assert set(left[left["set"] == "rm"]["id"]) == used
    sft, rm = (left[left["set"] == s] for s in ("sft", "rm"))
    assert not set(zip(sft["dataset"], sft["post"])) & set(zip(rm["dataset"], rm["post"]))
    assert not set(sft["question"].str.casefold()) & set(rm["question"].str.casefold())
    assert not sft.duplicated(["dataset", "post"]).any()
