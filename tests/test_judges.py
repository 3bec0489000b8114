"""What judges are asked and how they are read: every number as it stands, nothing made of what is not clear."""

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils import judges

QUESTION = {
    "question_id": 1,
    "category": "x",
    "turns": ["Why {now}?", "And then?"],
    "must_hold": [["Says so"], ["Says that"]],
    "reference": ["Because.", ""],
}


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("Good. Rating: [[10]]", 10),
        ("Rating: [[8.5]]", 8.5),
        ("Rating: [[ 7 / 10 ]]", 7),
        ("My rating is 6.", 6),
        ("I give it 7 out of 10", 7),
        ("[[1]]", 1),
        ("Rating: [[4]] … as I said, Rating: [[4]]", 4),
        ("Rating: 8.5/10.", 8.5),
        ("**Rating:** 8, for it is short", 8),
        ("Rating (1-10): 7", 7),
        ("Rating (out of 10): 7.5", 7.5),
        ("Rating out of 10: 7", 7),
        ("Rating - 9", 9),
        ("The rating should be 10/10", 10),
        ("Simplicity: [[8]], depth: [[3]]. Rating: [[6]]", 6),
        ("I end with Rating: [[n]]. Rating: [[9.25]]", 9.25),
        ("rating: [[10.0]]", 10),
    ],
)
def test_ratings_that_are_clear(reply, value):
    assert judges.rating(reply) == value


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "Rating: [[11]]",
        "Rating: [[0]]",
        "no number",
        "[[3]] or [[7]]",
        "It is the 2nd best.",
        "[[]]",
        "Rating: [[7-8]]",
        "Rating: 7–8",
        "Rating: 7 to 8",
        "Rating: [[7 or 8]]",
        "Rating: [[8,5]]",
        "Rating: 8,5",
        "Rating: -5",
        "Rating: [[-5]]",
        "Rating: 4/5",
        "Rating: 4 out of 5",
        "7-8/10",
        "8/10 for style, 6/10 for truth",
        "Rating: [[7]] and then Rating: [[8]]",
        "Rating: [[11/10]]",
        "Rating: 100",
    ],
)
def test_ratings_that_are_not(reply):
    assert math.isnan(judges.rating(reply))


@given(st.text())
def test_a_rating_is_between_1_and_10_or_nothing(reply):
    value = judges.rating(reply)
    assert math.isnan(value) or 1 <= value <= 10


@given(st.floats(1, 10).map(lambda x: round(x, 1)))
def test_every_rating_in_the_asked_form_is_read(value):
    assert judges.rating(f"Fine.\n\nRating: [[{value}]]") == value


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("Simplicity: [[8]]", 8),
        ("**Simplicity**: 7/10 for short words", 7),
        ("Simplicity (1-10): 9", 9),
        ("simplicity rating: 10", 10),
        ("| Simplicity | 8.5 |", 8.5),
        ('{"simplicity": 6}', 6),
        ("Simplicity = 4. Simplicity: [[5]]", 5),  # the form that was asked for comes first
    ],
)
def test_a_dimension_that_is_clear(reply, value):
    assert judges.rubric(reply)["simplicity"] == value


@pytest.mark.parametrize(
    "reply",
    ["", "Simplicity: [[n]]", "Simplicity: 7-8", "Simplicity: [[8]] or Simplicity: [[9]]", "Simplicity: 11", "Simplicity: 4/5",
     "It uses simple words, 9.", "Rating: [[9]]"],
)  # fmt: skip
def test_a_dimension_that_is_not(reply):
    assert math.isnan(judges.rubric(reply)["simplicity"])


@given(st.lists(st.floats(1, 10).map(lambda x: round(x, 1)), min_size=7, max_size=7))
def test_every_rubric_in_the_asked_form_is_read(values):
    wanted = dict(zip(judges.DIMENSIONS, values))
    assert judges.rubric("Fine.\n" + "\n".join(f"{k.capitalize()}: [[{v}]]" for k, v in wanted.items())) == wanted


@given(st.text())
def test_nothing_is_read_that_is_no_rating_or_verdict(reply):
    assert all(math.isnan(v) or 1 <= v <= 10 for v in judges.rubric(reply).values())
    assert judges.verdict(reply) in ("A", "B", "tie", "")


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("[[A]]", "A"), ("A is longer. [[B]]", "B"), ("[[C]]", "tie"), ("[[tie]]", "tie"), ("[[a]]", "A"),
        ("My verdict is A.", "A"), ("Verdict: **tie**", "tie"), ("Answer B is better, for it is true.", "B"),
        ("[[A]] … so again [[A]]", "A"), ("Assistant A's answer is better", "A"),
        ("", ""), ("[[A]] if A is better, [[B]] if B is", ""), ("A or B?", ""), ("[[D]]", ""), ("Answer A is good.", ""),
        ("Answer A is better in style, answer B is better in truth", ""),
    ],
)  # fmt: skip
def test_verdicts(reply, said):
    assert judges.verdict(reply) == said


@pytest.mark.parametrize("kind", judges.FORMS)
def test_the_worked_replies_are_read_as_they_are_meant(kind):
    for _, _, told in judges.FORMS[kind].worked:
        assert not judges.missing(judges.FORMS[kind].read(told))
    assert judges.missing(judges.FORMS[kind].read(judges.FORMS[kind].short))


@pytest.mark.parametrize("reasons", [True, False])
@pytest.mark.parametrize("kind", judges.FORMS)
def test_a_chat_asks_with_reasons_or_without(kind, reasons):
    form, chat = judges.FORMS[kind], judges.chat(kind, "Well? ", reasons)
    end = form.long if reasons else form.short
    assert [m["role"] for m in chat] == ["system", *["user", "assistant"] * len(form.worked), "user"]
    assert (
        all(m["content"].endswith(end) for m in chat if m["role"] == "user") and chat[-1]["content"] == "Well? " + end
    )
    assert all((why in m["content"]) == reasons for m, (_, why, _) in zip(chat[2::2], form.worked))


@pytest.mark.parametrize("kind", judges.FORMS)
def test_a_repair_asks_for_the_verdict_alone(kind):
    form = judges.FORMS[kind]
    assert judges.again(kind, judges.chat(kind, "Well? ", True), "Hm.") == judges.chat(kind, "Well? ", False)
    short = judges.chat(kind, "Well? ", False)
    repaired = judges.again(kind, short, "")
    assert repaired[: len(short)] == short and repaired[-1] == {"role": "user", "content": form.short}
    assert repaired[-2]["role"] == "assistant" and repaired[-2]["content"]


def test_the_second_turn_shows_the_whole_first():
    first, second = (judges.turn_chat(QUESTION, ["erste", "zweite"], t, {}, True, True)[-1]["content"] for t in (1, 2))
    assert "Why {now}?" in first and "erste" in first and "- Says so" in first and "zweite" not in first
    assert (
        all(part in second for part in ("Why {now}?", "erste", "And then?", "zweite", "- Says that"))
        and "Says so" not in second
    )


def test_a_reference_is_shown_where_there_is_one_and_the_judge_is_guided():
    for turn, guided, shown in ((1, True, True), (1, False, False), (2, True, False)):
        chats = [
            judges.turn_chat(QUESTION, ["one", "two"], turn, {}, True, guided),
            judges.pair_chat(QUESTION, ["a", "b"], ["c", "d"], turn, {}, True, guided),
        ]
        assert all(("[Reference answer]\nBecause." in c[-1]["content"]) == shown for c in chats), (turn, guided)
    assert "[Reference answer]\nR" in judges.rubric_chat("q", "a", "R", False)[-1]["content"]
    assert "Reference" not in judges.rubric_chat("q", "a", "", False)[-1]["content"]


def test_both_answers_of_a_pair_are_shown_in_their_places():
    text = judges.pair_chat(QUESTION, ["a1", "a2"], ["b1", "b2"], 2, {}, True, False)[-1]["content"]
    places = [text.index(part) for part in ("[Answer A]", "a1", "a2", "[Answer B]", "b1", "b2")]
    assert places == sorted(places)


def test_every_released_judgement_is_read_as_published(sample):
    replies = pd.read_csv(sample("study_predictions/GPT4_7B_judgements.csv"), index_col=0)
    ratings = replies.map(judges.rating)
    assert ratings.notna().all(axis=None)
    assert ratings.mean().tolist() == [pytest.approx(v, abs=1e-9) for v in (2.92, 2.58, 3.89, 2.43, 3.58, 3.45)]
