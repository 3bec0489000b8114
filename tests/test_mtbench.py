import json
import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils import mtbench, params, steps
from s2utils.params import ParameterError


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
    assert mtbench.rating(reply) == value


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
    assert math.isnan(mtbench.rating(reply))


@given(st.text())
def test_a_rating_is_between_1_and_10_or_nothing(reply):
    value = mtbench.rating(reply)
    assert math.isnan(value) or 1 <= value <= 10


@given(st.floats(1, 10).map(lambda x: round(x, 1)))
def test_every_rating_in_the_asked_form_is_read(value):
    assert mtbench.rating(f"Fine.\n\nRating: [[{value}]]") == value


def test_our_sixty_questions():
    rows = [json.loads(line) for line in (params.root() / "params/mts_bench.jsonl").read_text().splitlines()]
    assert [r["question_id"] for r in rows] == list(range(1, 61))
    assert pd.Series([r["category"] for r in rows]).value_counts().eq(10).all()
    assert len({r["turns"][0] for r in rows}) == 60
    assert all(len(r["turns"]) == len(r["must_hold"]) == 2 and all(r["must_hold"]) for r in rows)


def test_a_sample_is_seeded_and_spread_over_the_categories():
    settings = params.load("cpu").mtbench
    first, again, other = (mtbench.questions(settings, seed) for seed in (1, 1, 2))
    assert first == again != other and len(first) == settings.n == 10
    assert pd.Series([q["category"] for q in first]).value_counts().between(1, 2).all()


def test_mt_benchs_own_file_and_categories(sample):
    path = sample("samples/mt_bench_questions.jsonl")
    loaded = params.load(
        "cpu", {"mtbench": {"questions": str(path), "categories": ["writing", "stem", "humanities"], "n": 0}}
    )
    rows = mtbench.questions(loaded.mtbench, 0)
    assert len(rows) == 30 and {r["category"] for r in rows} == {"writing", "stem", "humanities"}
    chats = mtbench.judge_chats(rows[0], ["first", "second"])
    assert "[A good answer]" not in chats[0][-1]["content"] and "second" in chats[1][-1]["content"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2"),
        ('{"question_id": 2, "category": "x", "turns": ["one"]}', "two texts"),
        ('{"question_id": 2, "turns": ["a", "b"]}', "category"),
    ],
)
def test_broken_questions_name_file_and_line(tree, line, message):
    good = '{"question_id": 1, "category": "x", "turns": ["a", "b"]}'
    (tree / "params/own.jsonl").write_text(f"{good}\n{line}\n")
    settings = params.load("cpu", {"mtbench": {"questions": "params/own.jsonl"}}).mtbench
    with pytest.raises(ParameterError, match=r"own.jsonl, line 2") as raised:
        mtbench.questions(settings, 0)
    assert message in str(raised.value)


def test_unknown_category_and_missing_file():
    with pytest.raises(ParameterError, match="'poetry' is not in"):
        mtbench.questions(params.load("cpu", {"mtbench": {"categories": ["poetry"]}}).mtbench, 0)
    with pytest.raises(ParameterError, match="there is no file"):
        mtbench.questions(params.load("cpu", {"mtbench": {"questions": "params/none.jsonl"}}).mtbench, 0)


def test_unparsed_replies_are_counted():
    judged = pd.DataFrame(
        {
            "question_id": [1, 1, 2, 2],
            "turn": [1, 2, 1, 2],
            "rating": [7.0, math.nan, 5.0, 3.0],
            "ended": [True, True, False, True],
        }
    )
    row = mtbench.summary(judged, params.load("cpu"))
    assert (row["n"], row["n_cut"]) == (2, 1)
    assert row["single_turn_rating"] == 6 and row["single_turn_rating_n_failed"] == 0
    assert row["multi_turn_rating"] == 3 and row["multi_turn_rating_n_failed"] == 1


def test_a_reply_without_a_rating_is_asked_for_it_once(monkeypatch, tmp_path):
    asked = []

    def ask(endpoint, chats, cache, *, seed, label):
        asked.append(chats)
        said = ["Good. Rating: [[7]]", "It is good.", "Bad."] if len(asked) == 1 else ["Rating: [[10]]", "I cannot."]
        return [{"text": text, "ended": True, "error": ""} for text in said]

    monkeypatch.setattr(mtbench.llm, "ask", ask)
    chats = [[{"role": "user", "content": c + mtbench.FORM}] for c in "abc"]
    replies = mtbench.judge(None, chats, tmp_path / "c.jsonl", 1, "judge")
    assert [r["repaired"] for r in replies] == ["", "Rating: [[10]]", "I cannot."]
    assert [chat[0]["content"] for chat in asked[1]] == ["b" + mtbench.SHORT, "c" + mtbench.SHORT]
    assert len(asked) == 2


def test_the_short_form_asks_for_the_rating_alone():
    question = {"turns": ["Why?", "And then?"], "must_hold": [["Says so"], ["Says that"]]}
    for chat in mtbench.judge_chats(question, ["first", "second"]):
        short = mtbench.short_form(chat)
        assert [m["role"] for m in short] == [m["role"] for m in chat]
        assert all(m["content"].startswith("Rating: [[") for m in short if m["role"] == "assistant")
        assert not [m for m in short if mtbench.FORM in m["content"]] and mtbench.SHORT in short[-1]["content"]


def test_merges_of_one_model_draw_the_same_random_numbers_and_no_others_do(monkeypatch, tmp_path):
    """The seed holds the model's name without its merge, and the turn."""
    seeds = {}

    def completions(network, tok, prompts, *, seed, label, **settings):
        seeds[label] = seed
        yield [{"text": "So.", "n_tokens": 1, "ended": True} for _ in prompts]

    monkeypatch.setattr(mtbench.generate, "completions", completions)
    monkeypatch.setattr(mtbench.models, "prompt", lambda turns, *_: turns[-1])
    monkeypatch.setattr(mtbench.models, "encoded", lambda texts, *_: [[1] for _ in texts])
    smoke = params.load("smoke")
    questions = [{"question_id": 1, "category": "x", "turns": ["Why?", "How?"]}]
    rows = steps.models(smoke)
    for row in rows:
        mtbench.answer(None, None, questions, row, smoke, tmp_path / row.id)
    of_model = {(row.model, turn): seeds[f"{row.id} turn {turn}"] for row in rows for turn in (1, 2)}
    assert all(seeds[f"{row.id} turn {turn}"] == of_model[row.model, turn] for row in rows for turn in (1, 2))
    assert len(rows) == 6 and len(set(of_model.values())) == len(of_model) == 2 * 4


def test_every_released_judgement_is_read_as_published(sample):
    replies = pd.read_csv(sample("study_predictions/GPT4_7B_judgements.csv"), index_col=0)
    ratings = replies.map(mtbench.rating)
    assert ratings.notna().all(axis=None)
    assert ratings.mean().tolist() == [pytest.approx(v, abs=1e-9) for v in (2.92, 2.58, 3.89, 2.43, 3.58, 3.45)]
