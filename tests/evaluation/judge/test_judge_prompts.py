"""What judges are asked and how they are read: every number as it stands, nothing made of what is not clear."""

import json
import math
import re
import time

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.evaluation.judge import judge_prompts, readings

QUESTION = {
    "question_id": 1,
    "category": "x",
    "turns": ["Why {now}?", "And then?"],
    "must_hold": [["Says so"], ["Says that"]],
    "reference": ["Because.", ""],
}


@given(st.floats(1, 10).map(lambda x: round(x, 1)))
def test_every_rating_in_the_asked_form_is_read(value):
    assert readings.rating(f"Fine.\n\nRating: [[{value}]]") == value


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
    assert readings.rubric(reply)["simplicity"] == value


@pytest.mark.parametrize(
    "reply",
    ["", "Simplicity: [[n]]", "Simplicity: 7-8", "Simplicity: [[8]] or Simplicity: [[9]]", "Simplicity: 11",
    "Simplicity: 4/5",
     "It uses simple words, 9.", "Rating: [[9]]"],
)  # fmt: skip
def test_a_dimension_that_is_not(reply):
    assert math.isnan(readings.rubric(reply)["simplicity"])


@given(st.lists(st.floats(1, 10).map(lambda x: round(x, 1)), min_size=7, max_size=7))
def test_every_rubric_in_the_asked_form_is_read(values):
    wanted = dict(zip(judge_prompts.DIMENSIONS, values))
    lines = [f"{name.capitalize()}: [[{value}]]" for name, value in wanted.items()]
    assert readings.rubric("\n".join(["Fine.", *lines])) == wanted


@pytest.mark.parametrize("kind", judge_prompts.FORMS)
def test_the_worked_replies_are_read_as_they_are_meant(kind):
    form = judge_prompts.FORMS[kind]
    assert not any(readings.reading(kind, verdict).failure for _, _, verdict in form.worked)
    assert readings.reading(kind, form.short).failure, "a judge that repeats what it was asked has said nothing"


@pytest.mark.parametrize("reasons", [True, False])
@pytest.mark.parametrize("kind", judge_prompts.FORMS)
def test_a_chat_asks_with_reasons_or_without(kind, reasons):
    form, chat = judge_prompts.FORMS[kind], judge_prompts.chat(kind, "Well? ", reasons)
    end = form.long if reasons else form.short
    assert [m["role"] for m in chat] == ["system", *["user", "assistant"] * len(form.worked), "user"]
    assert all(m["content"].endswith(end) for m in chat if m["role"] == "user")
    assert chat[-1]["content"] == "Well? " + end
    assert all((why in m["content"]) == reasons for m, (_, why, _) in zip(chat[2::2], form.worked))


@pytest.mark.parametrize("kind", judge_prompts.FORMS)
def test_a_repair_asks_for_the_verdict_alone(kind):
    form = judge_prompts.FORMS[kind]
    long, short = (judge_prompts.chat(kind, "Well? ", reasons) for reasons in (True, False))
    assert judge_prompts.again(kind, long, "Hm.") == short
    repaired = judge_prompts.again(kind, short, "")
    assert repaired[: len(short)] == short and repaired[-1] == {"role": "user", "content": form.short}
    assert repaired[-2]["role"] == "assistant" and repaired[-2]["content"]


def test_the_second_turn_shows_the_whole_first():
    first, second = (
        judge_prompts.turn_chat(QUESTION, ["erste", "zweite"], t, {}, True, True)[-1]["content"] for t in (1, 2)
    )
    assert "Why {now}?" in first and "erste" in first and "- Says so" in first and "zweite" not in first
    assert all(part in second for part in ("Why {now}?", "erste", "And then?", "zweite", "- Says that"))
    assert "Says so" not in second


def test_a_reference_is_shown_where_there_is_one_and_the_judge_is_guided():
    for turn, guided, shown in ((1, True, True), (1, False, False), (2, True, False)):
        chats = [
            judge_prompts.turn_chat(QUESTION, ["one", "two"], turn, {}, True, guided),
            judge_prompts.pair_chat(QUESTION, ["a", "b"], ["c", "d"], turn, {}, True, guided),
        ]
        assert all(("[Reference answer]\nBecause." in c[-1]["content"]) == shown for c in chats), (turn, guided)
    assert "[Reference answer]\nR" in judge_prompts.rubric_chat("q", "a", "R", False)[-1]["content"]
    assert "Reference" not in judge_prompts.rubric_chat("q", "a", "", False)[-1]["content"]


def test_both_answers_of_a_pair_are_shown_in_their_places():
    text = judge_prompts.pair_chat(QUESTION, ["a1", "a2"], ["b1", "b2"], 2, {}, True, False)[-1]["content"]
    places = [text.index(part) for part in ("[Answer A]", "a1", "a2", "[Answer B]", "b1", "b2")]
    assert places == sorted(places)


READ = [
    ("Good. Rating: [[10]]", 10), ("Rating: [[8.5]]", 8.5), ("Rating: [[ 7 / 10 ]]", 7), ("My rating is 6.", 6),
    ("I give it 7 out of 10", 7), ("[[1]]", 1), ("Rating: [[4]] … as I said, Rating: [[4]]", 4),
    ("Rating: 8.5/10.", 8.5), ("**Rating:** 8, for it is short", 8), ("Rating (1-10): 7", 7),
    ("Rating (out of 10): 7.5", 7.5), ("Rating out of 10: 7", 7), ("Rating - 9", 9), ("The rating should be 10/10", 10),
    ("rating: [[10.0]]", 10), ("Simplicity: [[8]], depth: [[3]]. Rating: [[6]]", 6),
    ("I end with Rating: [[n]]. Rating: [[9.25]]", 9.25), ("[[Rating: 8]]", 8),
    ('The answer ends with "[[10]]". Rating: 3', 3), ("**Rating**: 8", 8), ("***Rating:*** **8** / 10", 8),
    ("A rating of 10 is reserved for perfect answers, so I settle for 7.", 7), ("Rating: 8/10", 8), ("Score: 7", 7),
    ("<think>First I thought [[3]].</think>It is good. Rating: [[8]]", 8), ("Overall score: 7.5/10", 7.5),
    ("10/10", 10), ("I'd give it an 8 out of 10", 8), ("I would rate this answer a solid 8.", 8),
    ("It deserves a rating of 8.", 8), ("Overall, I would rate the assistant's response as a [[9]].", 9),
    ("I rate this response as follows: [[10]].", 10), ("A draft would be [[5]]. Final rating: [[8]]", 8),
    ('{"rating": 8}', 8), ('{"score": "8/10", "confidence": 9}', 8),
    ('```json\n{"explanation": "It says Rating: [[10]].", "rating": 8}\n```', 8), ('"Rating: [[8]]"', 8),
    ("```\nRating: [[8]]\n```", 8),
    ("Ｒａｔｉｎｇ：［［８］］", 8), ("Rating: ８", 8), ("【【8】】", 8), ("| Rating | 8 |", 8),
    ("| Simplicity | 8 |\n| Overall | 7 |", 7), ("Rating: 8 (1-10)", 8), ("Rating (/10): 8", 8),
    ("On a scale from 1 to 10, I rate it 8.", 8), ("8", 8), ("8.", 8), ("[[8]] out of 10", 8),
    ("Confidence: 9/10\nRating: 6", 6), ("It is not good. Rating: 3", 3),
    ("1. It is true.\n2. It is short.\n\nMy rating:\n1. Rating: 8", 8),
    ("If it were shorter I would give it 10, but I give it 8.", 8),
    ("[[1]] is bad and [[10]] is good. Rating: [[6]]", 6), ('5" pipe is used. Rating: 8. It says "ok".', 8),
    ("> Rating: [[10]]\nThat line is in the answer. Rating: 2", 2),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "value"), READ)
def test_a_rating_is_what_the_judge_gives_as_its_own(reply, value):
    assert readings.rating(reply) == value and not readings.reading("single", reply).failure


NOT_READ = {
    "several differ": [
        "[[3]] or [[7]]", "Rating: [[7]] and then Rating: [[8]]", "Rating: [[5], [1], [2]]", "Rating: [[8]] or [[9]]",
        "Rating: 8, 9", "[[8 9]]", "Rating: [[3]]. Rating: [[7]]", "Rating: 5. Rating: 8",
        "Final rating: [[8]] or [[9]]", "Rating: 5. On reflection, my final rating is 6.",
        "Rating: 8\nThat makes [[7]].", "Rating: [[8]]. Wait, Rating: [[3]]",
        "Rating: 8. No, that is too high: Rating: 3", "I'd give it a 6, maybe a 7.",
        "| | A | B |\n|---|---|---|\n| Rating | 8 | 6 |", '{"rating": 2, "rating": 9}',
    ],
    "another scale": [
        "Rating: 4 out of 5",
        "Rating: 4 (out of 5)", "Rating: 4/5", "[[4]]/5", "Rating (1-5): 4", "On a scale of 1 to 5, I give it a 4.",
        "I use a scale of 1 to 5. Rating: 4.", "4 stars", "Rating: 4 stars", "Rating: 85/100",
    ],
    "percent": ["8%", "Rating: 8 percent", "Rating: [[80%]]"],
    "a range": ["Rating: [[7-8]]", "Rating: 7–8", "Rating: 7 to 8", "Rating: 7-8", "[[7 or 8]]", "7-8/10",
                "Rating: 8 and 9"],
    "no plain number": ["Rating: [[8,5]]", "Rating: 8,5", "Rating: 8½", "Rating: -5", "7/10/2021"],
    "not 1 to 10": ["Rating: [[11]]", "Rating: [[0]]", "Rating: [[11/10]]", "Rating: 100", "Rating: 11",
                    "Rating: 0/10"],
    "not closed": ["Rating: [[1", "[[8]"],
    "no rating": [  # another's, of another thing, denied, supposed or counted
        "no number", "It is the 2nd best.", "[[]]", "Rating: [[-5]]",
        'The answer ends with "[[10]]".', "It says: “Rating: 10”.", "The answer says that its rating is 10.",
        "Simplicity: [[8]]", "The answer says Rating: [[10]].", "The answer says Rating: [[10]]. I give it 2.",
        "[[10]] means perfect.", "Rating: [[n]]", "Confidence: 9/10", "My confidence is 9 out of 10.", "Grade level: 8",
        "The highest rating is 10.", "Step 8/10: do it", "9 out of 10 words are simple", "8/10 doctors agree.",
        "8/10 for style, 6/10 for truth", "Rating: 8 for style, 6 for truth", "I cannot give it a 10.",
        "The rating is not 8.", "It would have been a 9.", "I was going to give it a 9.",
        "I give it 3 reasons to stay.", "If it were shorter, I would give it 10",
        "A rating of 10 is reserved for perfect answers.", "The rating scale runs from 1 to 10.",
        "The assistant gives 5, but the right answer is 6.", "Rating (1 = bad, 10 = good): very good",
        "It was written on 10.10.2021.", "/10", "The 9", "The form is fixed, e.g. Rating: 8", "Rating: one of the best",
        "<script>alert(1)</script>", "It takes 8 / day", "8/",
        # clear to a reader, and left to the second question
        "Rating: eight", "8/10, for it is short", 'Rating: "8"', "<rating>8</rating>", "## Rating\n\n8",
        "A rating of 7 seems fair.", "With 90% confidence, Rating: 7", "Rating: between 7 and 8",
        "Rating: 8 and a half", "Rating: at least 7",
    ],
    "failed call": ["$ERROR$"],
    "cut inside reasoning": ["<think>I would say Rating: [[8]]"],
    "empty": ["", " \n"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "reply"), [(reason, reply) for reason, replies in NOT_READ.items() for reply in replies]
)
def test_why_a_reply_holds_no_rating(reason, reply):
    assert math.isnan(readings.rating(reply)) and readings.reading("single", reply).failure == reason


ALIEN = [  # sentences that say nothing of the judge's own rating
    'The answer ends with "[[10]]".', 'It says "Rating: [[2]]" at its end.', "The text reads “I give it 10/10”.",
    "One line is 'Score: 9/10'.", "It holds the code `Rating: 4`.", "The answer claims a rating of 10.",
    "It was written on 7/10/2021.", "It is from 2021-08-10.", "Read on 10 October 2021.", "It was 10:30.",
    "Confidence: 9/10.", "My confidence is 9 out of 10.", "Confidence score: 7.", "I am 90% sure.",
    "About 80 % of the words are simple.", "9 out of 10 words are simple.", "That is 3 out of 5 facts.",
    "A rating of 10 is reserved for perfect answers.", "The highest score is 10.", "The scale runs from 1 to 10.",
    "<think>Rating: [[2]]? No, [[9]].</think>", "[THINK]I choose A. [[A]] or [[B]]. Depth: 3[/THINK]",
    'It ends with "[[A]]".', 'It claims "Answer B is better".', "It has 3 facts and 2 errors.",
]  # fmt: skip
SEVEN = {name: n for n, name in enumerate(judge_prompts.DIMENSIONS, start=2)}
TABLE = "| Part | Rating | Why |\n|---|---|---|\n" + "\n".join(
    f"| **{name.capitalize()}** | {n}/10 | fine |" for name, n in SEVEN.items()
)
OWN = [
    ("single", ["It is short. ", "It is true. ", "Rating: [[7]]"]),
    ("single", ["It is short. ", "I'd give it an 8 out of 10. ", "It is true."]),
    ("single", ["**Rating:** 6/10\n", "It is short. ", "It is true."]),
    ("single", ["Not good. ", "My rating is 3. ", "It is long."]),
    ("single", ["A draft: [[5]]. ", "Final rating: [[8]]\n"]),
    ("single", ["Good, in all 8/10.\n", "It is true."]),
    ("single", ["[[7]] ", "It is good."]),
    ("single", ["Rating: [[7]] ", "The answer is good."]),
    ("rubric", [f"{name.capitalize()}: [[{n}]]\n" for name, n in SEVEN.items()]),
    ("rubric", ["It is fine.\n", TABLE + "\n\n", "So it is."]),
    ("pair", ["A is long. ", "B is true. ", "[[B]]"]),
    ("pair", ["Both are fine. ", "My verdict is a hard one: A. ", "B was close."]),
    ("pair", ["It is close. ", "Assistant B is better. ", "That is so."]),
]  # fmt: skip


@given(st.data(), st.sampled_from(OWN), st.lists(st.sampled_from(ALIEN), min_size=1, max_size=4))
def test_what_is_said_of_other_things_never_changes_what_is_read(data, own, aliens):
    kind, sentences = own
    read = readings.reading(kind, "".join(sentences))
    assert not read.failure
    for alien in aliens:
        place = data.draw(st.integers(0, len(sentences)))
        sentences = [*sentences[:place], data.draw(st.sampled_from(["", "\n"])) + alien + " ", *sentences[place:]]
    reply = re.sub(r"(?<=[.\]])(?=[A-Z<])|(?<=\])(?=\d)", " ", "".join(sentences))
    assert readings.reading(kind, reply).values == read.values, reply


@pytest.mark.parametrize("alien", ALIEN)
@pytest.mark.parametrize("kind", judge_prompts.FORMS)
def test_what_is_said_of_other_things_is_no_reading(kind, alien):
    assert readings.missing(readings.reading(kind, alien).values)


@pytest.mark.parametrize(
    "row",
    [
        "| {0} | {1} |", "| **{0}** | **{1}** |", "| {0} rating | {1}/10 | good |", "| 1 | {0} | good | {1} |",
        "{0}|{1}", "- **{0}** – {1}", "3. {0}: {1}/10 for it", "{0} ({1}/10)", "{0}: [[{1}]],",
    ],
)  # fmt: skip
@pytest.mark.parametrize("between", ["\n", "\n\n"])
def test_a_rubric_in_every_form_that_judges_write(row, between):
    assert readings.rubric(between.join(row.format(name.capitalize(), n) for name, n in SEVEN.items())) == SEVEN


def test_a_rubric_as_an_object():
    assert readings.rubric(json.dumps(SEVEN, indent=1)) == SEVEN
    nested = {name: {"score": n, "why": "Depth: [[1]]\nDepth: 1"} for name, n in SEVEN.items()}
    assert readings.rubric(f"Here it is:\n```json\n{json.dumps(nested)}\n```\nIt is good.") == SEVEN


def test_a_rubric_in_a_markdown_table():
    assert readings.rubric("Here it is.\n\n" + TABLE + "\n\nIt is good.") == SEVEN
    names, values = (" | ".join(row) for row in (map(str.capitalize, SEVEN), map(str, SEVEN.values())))
    assert readings.rubric(f"| {names} |\n|{'---|' * 7}\n| {values} |") == SEVEN
    both = readings.reading("rubric", f"| {names} |\n|{'---|' * 7}\n| {values} |\n| {values.replace('8', '1')} |")
    assert both.reasons == {"overall": "several differ"}


def test_each_dimension_has_its_own_reason():
    read = readings.reading(
        "rubric", "Simplicity: 8\nDepth: 7-8\nSafety: 90%\nAccuracy: 4/5\nRelevance: 9. Relevance: 3"
    )
    assert read.values["simplicity"] == 8 and read.failure == read.reasons["helpfulness"] == "no rating"
    assert [read.reasons[k] for k in ("depth", "safety", "accuracy", "relevance")] == [
        "a range", "percent", "another scale", "several differ",
    ]  # fmt: skip


VERDICTS = {
    "A": [
        "[[A]]", "[[a]]", "My verdict is A.", "[[A]] … so again [[A]]", "Assistant A's answer is better",
        "Winner: A", "I prefer answer A.", "Answer A is clearly the better one.", "[[A]] is better than [[B]]",
        "[[Assistant A]]",
    ],
    "B": [
        "A is longer. [[B]]", "Answer B is better, for it is true.",
        "My verdict is a hard one: B.", "**Winner:** Assistant B", "Assistant B is better", "The better answer is B.",
        "B wins.", "B", 'The answer says "[[A]]". [[B]]', "<think>[[A]]</think>[[B]]", '{"winner": "B"}',
        "[[A/B]] is asked for. [[B]]", "| Verdict | B |",
    ],
    "tie": ["[[C]]", "[[tie]]", "Verdict: **tie**", "Tie", "It's a tie.", "Verdict: a tie", "Verdict: C",
    '{"verdict": "tie"}', "Final Verdict: [[C]] for a tie."],
    "no verdict": [
        "A or B?", "[[D]]", "Answer A is good.",
        "Neither answer A is better nor B.", "Answer A is not better.", "I do not think that answer A is better.",
        "Both are good.", "Answer A is no better than B.", "If answer A is better in style, B is true.",
        "Verdict: A or B", "Verdict: not A", "Verdict: A hard one", "Verdict: A and B are equal", "It is no tie.",
        "Both, and a tie", "My verdict is not for one: B", "How to tie a tie is told by both.", 'It says "[[A]]".',
        "[[A]] if answer A is better", "Not [[A]].", "Assistant A is right that B is better.",
        'I would choose "[[A]]".',
    ],
    "several differ": [
        "[[A]] if A is better, [[B]] if B is", "Answer A is better in style, answer B is better in truth",
        "[[A]] or [[B]]", "A draft: [[A]]. Final verdict: [[B]]", "A is better. No, B is better.",
    ],
    "cut inside reasoning": ["<think>[[A]]"],
    "empty": [""],
}  # fmt: skip


@pytest.mark.parametrize(("said", "reply"), [(said, reply) for said, replies in VERDICTS.items() for reply in replies])
def test_verdicts_in_other_words(said, reply):
    read = readings.reading("pair", reply)
    assert readings.verdict(reply) == (said if said in ("A", "B", "tie") else "")
    assert (read.failure or read.values["verdict"]) == said


TOKENS = (
    "[[ ]] [ ] ( ) | : = - – , . / % 8 10 4.5 7-8 A B C tie A's verdict rating is of a out of 10 and to overall not I "
    "give better \" ' ` > <think> </think> ``` *"
).split(" ")
PARTS = st.sampled_from([*(reply for reply, _ in READ), *ALIEN, *TOKENS, "\n", " "])


@given(st.one_of(st.text(), st.lists(PARTS, max_size=12).map("".join)), st.sampled_from(sorted(judge_prompts.FORMS)))
def test_any_reply_has_values_in_their_limits_or_reasons(reply, kind):
    read = readings.reading(kind, reply)
    lacking = {name for name, value in read.values.items() if readings.missing({name: value})}
    assert lacking == set(read.reasons) and all(read.reasons.values())
    said = [value for name, value in read.values.items() if name not in lacking]
    assert all(value in ("A", "B", "tie") if kind == "pair" else 1 <= value <= 10 for value in said)


HOSTILE = [
    "<think>", "</think>", '"', '\\"', '("', "“", "'a", " '", "‘a’b", "`", "```", "[[", "]]", "[[8", "[[[8]]", "|",
    "| 8 ", "9", "9.", "9/", "9-", "1,", "Rating ", "Rating: ", "rating is a ", "Simplicity ",
    "| Simplicity | Depth |\n", "I give ", " ", "\n", " \n", "=", "-", "=>", "*", "_", "\\", "out of ", "scale of ",
    "(of 1", "a rating of 10 is ", "if ", ">", "> ", "１.", "½", "1. 2. ", "I'", "- ", "9 or ", "my rating is 9 ",
    "[[9]] ", "{", '{"rating": ', "I'd rate \"[[8", "aa ",
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        *(("single", p) for p in HOSTILE),
        *(("pair", p) for p in ("A is ", "[[A", "verdict is ", "tie ", "I pick ")),
        ("rubric", "|"),
    ],
)
def test_a_long_reply_is_read_in_a_moment(kind, part):
    for end in ("", "9{x"):  # the second is no end of a statement
        began = time.process_time()
        readings.reading(kind, (part * 100_000)[:100_000] + end)
        assert time.process_time() - began < 5  # measured: at most 1 s; what grows with the square takes minutes


def test_every_released_judgement_is_read_as_published(sample):
    replies = pd.read_csv(sample("study_predictions/GPT4_7B_judgements.csv"), index_col=0)
    ratings = replies.map(readings.rating)
    assert ratings.notna().all(axis=None)
    assert ratings.mean().tolist() == [pytest.approx(v, abs=1e-9) for v in (2.92, 2.58, 3.89, 2.43, 3.58, 3.45)]
