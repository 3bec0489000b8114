import json
import math

import pandas as pd
import pytest

from s2utils import mtbench, params, steps
from s2utils.params import ParameterError


def test_our_sixty_questions():
    rows = [json.loads(line) for line in (params.root() / "params/mts_bench.jsonl").read_text().splitlines()]
    assert [r["question_id"] for r in rows] == list(range(1, 61))
    assert pd.Series([r["category"] for r in rows]).value_counts().eq(10).all()
    assert len({r["turns"][0] for r in rows}) == 60
    assert all(len(r["turns"]) == len(r["must_hold"]) == 2 and all(r["must_hold"]) for r in rows)


def test_a_sample_is_seeded_and_spread_over_the_categories():
    settings = params.load("cpu").mtbench
    first, again, other = (mtbench.questions(settings, seed) for seed in (1, 1, 2))
    assert first == again != other and len(first) == settings.n < 60
    spread = pd.Series([q["category"] for q in first]).value_counts()
    assert len(spread) == min(6, settings.n) and spread.max() - spread.min() <= 1


def test_mt_benchs_own_file_and_categories(sample):
    path = sample("samples/mt_bench_questions.jsonl")
    loaded = params.load(
        "cpu", {"mtbench": {"questions": str(path), "categories": ["writing", "stem", "humanities"], "n": 0}}
    )
    rows = mtbench.questions(loaded.mtbench, 0)
    assert len(rows) == 30 and {r["category"] for r in rows} == {"writing", "stem", "humanities"}
    assert not rows[0]["must_hold"][0] and rows[0]["reference"] == []


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
            "repeat": 0,
        }
    )
    row = mtbench.summary(judged, params.load("cpu"))
    assert (row["n"], row["n_cut"]) == (2, 1)
    assert row["single_turn_rating"] == 6 and row["single_turn_rating_n_failed"] == 0
    assert row["multi_turn_rating"] == 3 and row["multi_turn_rating_n_failed"] == 1


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
