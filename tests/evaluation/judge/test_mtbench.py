import json

import pandas as pd
import pytest
from conftest import write_jsonl
from test_fastchat import template

from s2utils.evaluation.judge import fastchat, mtbench
from s2utils.evaluation.parameters import MtBench
from s2utils.workflow import params, steps
from s2utils.workflow.params import ParameterError


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
    own = {"questions": str(path), "categories": ["writing", "stem", "humanities"], "n": 0}
    settings = params.load("cpu", {"mtbench": own}).mtbench
    rows = mtbench.questions(settings, 0)
    assert mtbench.beside(rows, settings) == f"5 of 60 turns beside a reference answer of {path} itself"
    assert len(rows) == 30 and {r["category"] for r in rows} == {"writing", "stem", "humanities"}
    assert not rows[0]["must_hold"][0] and rows[0]["reference"] == []


TWO = {"question_id": 2, "category": "x", "turns": ["a", "b"]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b"{", "is not JSON"),
        (b"[1]", "must be an object"),
        (b'{"question_id": 2, "category": "x", "turns": ["it\x92s", "b"]}', "is not UTF-8: save the file as UTF-8"),
        (TWO | {"turns": ["one"]}, "'turns' must be two texts"),
        (TWO | {"turns": "ab"}, "'turns' must be two texts, not 'ab'"),
        (TWO | {"turns": ["a", True]}, "'turns' must be two texts"),
        (TWO | {"turns": ["a", " "]}, "'turns' must be two texts"),
        (TWO | {"turns": ["a", "\ud83d"]}, "whole characters"),
        (TWO | {"turns": None}, "'turns' must be two texts, not None"),
        (TWO | {"category": None}, "'category' must be a text"),
        (TWO | {"question_id": None}, "'question_id' must be a whole number or a text, not None"),
        (TWO | {"question_id": True}, "'question_id' must be a whole number"),
        (TWO | {"question_id": 1.0}, "'question_id' must be a whole number"),
        (TWO | {"question_id": 1}, "'question_id' 1 stands in line 1 already"),
        (TWO | {"question_id": "1"}, "'question_id' '1' stands in line 1 already"),
        (TWO | {"reference": ["c"]}, "'reference' must be two texts"),
        (TWO | {"must_hold": ["c", "d"]}, "'must_hold' must be two lists"),
    ],
)
def test_broken_questions_name_file_and_line(tree, row, message):
    good = json.dumps(TWO | {"question_id": 1}).encode()
    line = row if isinstance(row, bytes) else json.dumps({k: v for k, v in row.items() if v is not None}).encode()
    (tree / "params/own.jsonl").write_bytes(good + b"\n" + line + b"\n")
    settings = params.load("cpu", {"mtbench": {"questions": "params/own.jsonl"}}).mtbench
    with pytest.raises(ParameterError, match=r"own.jsonl, line 2") as raised:
        mtbench.questions(settings, 0)
    assert message in str(raised.value) and len(str(raised.value).splitlines()) == 1


def own(tree, *rows: dict, **changes) -> MtBench:
    """Settings with these questions (id, category, turns and what else a row has)."""
    rows = [{"question_id": i, "category": "math", "turns": [f"{i}?", "And?"]} | row for i, row in enumerate(rows, 101)]
    (tree / "params/own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8-sig")
    return params.load("cpu", {"mtbench": {"questions": "params/own.jsonl", "n": 0} | changes}).mtbench


def test_a_byte_order_mark_blank_lines_and_text_ids_are_read(tree):
    settings = own(tree, {"question_id": "b"}, {"question_id": "a"}, {})
    with open(tree / "params/own.jsonl", "a") as file:
        file.write("\n  \r\n")
    assert [row["question_id"] for row in mtbench.questions(settings, 0)] == ["b", "a", 103]
    few = own(tree, {"question_id": "b"}, {"question_id": "a"}, {}, n=2)
    assert len(mtbench.questions(few, 0)) == 2  # numbers and texts are not put in order


def references(tree, *rows: dict) -> str:
    """FastChat's file of one model's reference answers, written."""
    usual = {"answer_id": "x", "model_id": "gpt-4", "choices": [{"index": 0, "turns": ["R1", "R2"]}]}
    whole = [usual | {"question_id": i} | row for i, row in enumerate(rows, 101)]
    write_jsonl(tree / "params/gpt-4.jsonl", *whole)
    return "params/gpt-4.jsonl"


def test_fastchats_reference_answers_take_the_place_of_the_questions_own(tree):
    two = [{"reference": ["own 1", ""]}, {"reference": ["own 3", "own 4"]}]
    settings = own(tree, *two)
    rows = mtbench.questions(settings, 0)
    assert [row["reference"] for row in rows] == [["own 1", ""], ["own 3", "own 4"]]
    assert mtbench.beside(rows, settings) == "3 of 4 turns beside a reference answer of params/own.jsonl itself"
    settings = own(tree, *two, references=references(tree, {}))
    rows = mtbench.questions(settings, 0)
    assert [row["reference"] for row in rows] == [["R1", "R2"], []]  # one that the file lacks is judged without
    assert mtbench.beside(rows, settings) == "2 of 4 turns beside a reference answer of params/gpt-4.jsonl"
    (row,) = (row for row in steps.models(params.load("cpu")) if row.variant == "base")
    said = [[{"text": "A", "question_id": q["question_id"], "ended": True} for q in rows]] * 2
    asked = mtbench.items(rows, said, row, settings)
    assert ["R1" in i["chat"][-1]["content"] for i in asked] == [True, False, False, False]
    assert ["R2" in i["chat"][-1]["content"] for i in asked] == [False, True, False, False]
    blind = own(tree, *two, references="params/gpt-4.jsonl", guided=False)
    assert mtbench.beside(mtbench.questions(blind, 0), blind) == "0 of 4 turns beside a reference answer"


def test_fastchats_prompts_show_references_of_its_three_categories_only(tree):
    write_jsonl(tree / "params/prompts.jsonl", *map(template, fastchat.NAMES))
    files = {"prompts": "params/prompts.jsonl", "references": references(tree, {}, {}, {})}
    settings = own(tree, {}, {"category": "writing"}, {}, **files)
    rows = mtbench.questions(settings, 0)
    assert mtbench.beside(rows, settings) == "4 of 6 turns beside a reference answer of params/gpt-4.jsonl"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{}, {"question_id": 101}], "line 2: 'question_id' 101 stands in line 1 already"),
        ([{}, {"choices": []}], "line 2: 'choices' must hold an answer"),
        ([{}, {"choices": {"turns": ["a", "b"]}}], "line 2: 'choices' must hold an answer"),
        ([{}, {"choices": [{"turns": ["a"]}]}], "line 2: 'choices[0].turns' must be two texts, not ['a']"),
        ([{}, {"choices": [{"turns": ["a", "$ERROR$"]}]}], "line 2: $ERROR$ is a call of FastChat that failed"),
        ([{"question_id": 1}], "mtbench.references: params/gpt-4.jsonl answers no question of params/own.jsonl"),
        ([], "mtbench.references: params/gpt-4.jsonl holds no rows"),
    ],
)
def test_broken_references_name_file_and_line(tree, rows, message):
    settings = own(tree, {}, references=references(tree, *rows))
    with pytest.raises(ParameterError) as raised:
        mtbench.questions(settings, 0)
    assert message in str(raised.value) and len(str(raised.value).splitlines()) == 1


def test_a_file_that_is_not_there_or_empty_is_named(tree):
    (tree / "params/empty.jsonl").write_text("\n")
    for name in ("params", "params/none.jsonl", "it's.jsonl", "x" * 300):
        with pytest.raises(ParameterError, match="mtbench.references: there is no file"):
            mtbench.questions(own(tree, {}, references=name), 0)
    with pytest.raises(ParameterError, match="mtbench.questions: params/empty.jsonl holds no rows"):
        mtbench.questions(params.load("cpu", "mtbench.questions=params/empty.jsonl").mtbench, 0)


def test_references_are_part_of_what_the_judge_is_asked(tree):
    def keys(changes: dict) -> tuple[str, str]:
        study = params.load("smoke", changes)
        return steps.key("mtbench", study, "SmolLM2-135M"), steps.key("data", study)

    with_file = {"mtbench": {"references": references(tree, {})}}
    (judged, data), (blind, same) = keys(with_file), keys({})
    assert judged != blind and data == same
    references(tree, {"choices": [{"turns": ["other", "texts"]}]})
    assert keys(with_file)[0] != judged


def test_unknown_category_and_missing_file():
    with pytest.raises(ParameterError, match="'poetry' is not in"):
        mtbench.questions(params.load("cpu", {"mtbench": {"categories": ["poetry"]}}).mtbench, 0)
    with pytest.raises(ParameterError, match="there is no file"):
        mtbench.questions(params.load("cpu", {"mtbench": {"questions": "params/none.jsonl"}}).mtbench, 0)


def test_merges_of_one_model_draw_the_same_random_numbers_and_no_others_do(monkeypatch, tmp_path):
    """The seed holds the model's name without its merge, and the turn."""
    seeds, asked = {}, []

    def completions(network, tok, prompts, *, seed, label, **settings):
        seeds[label] = seed
        yield [{"text": "So.", "n_tokens": 1, "ended": True} for _ in prompts]

    monkeypatch.setattr(mtbench.generation, "completions", completions)
    monkeypatch.setattr(mtbench.loading, "prompt", lambda turns, *_: asked.append(turns) or turns[-1])
    monkeypatch.setattr(mtbench.loading, "encoded", lambda texts, *_: [[1] for _ in texts])
    smoke = params.load("smoke")
    questions = [{"question_id": 1, "category": "x", "turns": ["Why?", "How?"]}]
    rows = steps.models(smoke)
    for row in rows:
        mtbench.answer(None, None, questions, row, smoke, tmp_path / row.id)
    of_model = {(row.model, turn): seeds[f"{row.id} turn {turn}"] for row in rows for turn in (1, 2)}
    assert all(seeds[f"{row.id} turn {turn}"] == of_model[row.model, turn] for row in rows for turn in (1, 2))
    assert len(rows) == 6 and len(set(of_model.values())) == len(of_model) == 2 * 4
    assert asked == [["Why?"], ["Why?", "So.", "How?"]] * len(rows), "the second turn sees the first with its answer"
