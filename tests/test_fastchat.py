"""FastChat's files: read as they are, and refused with file and line where they are not."""

import json
import math

import pytest

from s2utils import fastchat, fastchat_tables, judges
from s2utils.params import ParameterError


def template(name: str) -> dict:
    """A prompt in the format of FastChat's file, in our words."""
    both = "{question_1}|{question_2}" if name.endswith("multi-turn") else "{question}"
    said = {"single": ("answer",), "pair": ("answer_a", "answer_b")}[name.split("-")[0]]
    ends = ("_1", "_2") if name.endswith("multi-turn") else ("",)
    held = "|".join(f"{{{a}{end}}}" for a in said for end in ends)
    guide = "REF {ref_answer_1} " if "math" in name else ""
    return {"name": name, "type": "single", "system_prompt": f"Judge by {name}.", "prompt_template": f"{guide}{both}|{held}",
            "output_format": "[[rating]]"}  # fmt: skip


def jsonl(path, rows) -> object:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(r) if isinstance(r, dict) else r for r in rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def prompts(tmp_path) -> dict:
    return fastchat.prompts(jsonl(tmp_path / "judge_prompts.jsonl", [template(n) for n in fastchat.NAMES]))


QUESTION = {"question_id": 111, "category": "math", "turns": ["Q{1}", "Q2"], "reference": ["R1", "R2"]}


def test_the_prompt_follows_turn_category_and_kind(prompts):
    def said(kind, question, turn, guided=True):
        two = [["a1", "a2"]] if kind == "single" else [["a1", "a2"], ["b1", "b2"]]
        make = judges.turn_chat if kind == "single" else judges.pair_chat
        return [m["content"] for m in make(question, *two, turn, prompts, False, guided)]

    assert said("single", QUESTION, 1) == ["Judge by single-math-v1.", "REF R1 Q{1}|a1"]
    assert said("single", QUESTION, 2) == ["Judge by single-math-v1-multi-turn.", "REF R1 Q{1}|Q2|a1|a2"]
    assert said("single", QUESTION, 1, guided=False) == ["Judge by single-v1.", "Q{1}|a1"]
    stem = QUESTION | {"category": "stem"}  # FastChat judges these without a reference, though its file holds some
    assert said("single", stem, 2) == ["Judge by single-v1-multi-turn.", "Q{1}|Q2|a1|a2"]
    assert said("pair", stem, 1) == ["Judge by pair-v2.", "Q{1}|a1|b1"]
    assert said("pair", QUESTION | {"reference": ["R1", ""]}, 2)[0] == "Judge by pair-v2-multi-turn."
    assert said("pair", QUESTION, 2)[1] == "REF R1 Q{1}|Q2|a1|a2|b1|b2"


def test_hostile_text_stays_text(prompts):
    said = judges.turn_chat(QUESTION, ["{question} {ref_answer_1}", ""], 1, prompts, False, True)[-1]["content"]
    assert said.endswith("|{question} {ref_answer_1}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], "has no prompt 'pair-math-v1-multi-turn'"),
        (lambda rows: [rows[0] | {"prompt_template": "{answer_c}"}, *rows[1:]], r"line 1: nothing is known .*answer_c"),
        (lambda rows: [{"name": "x", "system_prompt": 3}], "line 1: 'system_prompt' is missing or of another type"),
        (lambda rows: ["[1]"], "line 1 must be an object"),
        (lambda rows: [rows[0], "{"], "line 2 is not JSON"),
        (lambda rows: [""], "holds no rows"),
    ],
)
def test_prompts_that_cannot_be_used(tmp_path, change, message):
    path = jsonl(tmp_path / "p.jsonl", change([template(n) for n in fastchat.NAMES]))
    with pytest.raises(ParameterError, match=message) as raised:
        fastchat.prompts(path)
    assert "p.jsonl" in str(raised.value)


def answer(id=81, model="m", turns=("one", "two"), **more) -> dict:
    return {
        "question_id": id,
        "answer_id": "x",
        "model_id": model,
        "choices": [{"index": 0, "turns": list(turns)}],
        "tstamp": 1.0,
    } | more


def test_answers_a_turn_of_a_file_or_a_folder(tmp_path):
    jsonl(tmp_path / "a" / "m.jsonl", [answer(), answer(82, turns=("three", ""))])
    jsonl(tmp_path / "a" / "n.jsonl", [answer(model="n")])
    found = fastchat.answers(tmp_path / "a")
    assert len(found) == 6 and found["turn"].tolist() == [1, 2] * 3
    assert found["answer"].tolist() == ["one", "two", "three", "", "one", "two"]
    assert set(found["question_id"]) == {"81", "82"} and len(fastchat.answers(tmp_path / "a" / "n.jsonl")) == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([answer(), answer()], "line 2: m answered question 81 before, in .*line 1"),
        ([answer(choices=[])], "choices"),
        ([answer(turns=[1])], "must be a list of texts"),
        ([answer() | {"model_id": None}], "'model_id'"),
    ],
)
def test_answers_that_cannot_be_used(tmp_path, rows, message):
    with pytest.raises(fastchat.FastChatError, match=message):
        fastchat.answers(jsonl(tmp_path / "a.jsonl", rows))


def single(**more) -> dict:
    return {"question_id": 81, "model": "m", "judge": ["gpt-4", "single-v1"], "user_prompt": "…", "judgment": "Rating: [[7]]",
            "score": 7, "turn": 1} | more  # fmt: skip


def test_judgements_and_what_failed(tmp_path):
    rows = [
        single(),
        single(score=-1, judgment="no idea", turn=2),
        single(score=8.5, judgment=""),
        single(score=1, judgment="Rating: [[10]]"),
    ]
    pair = {
        "question_id": 81,
        "model_1": "m",
        "model_2": "n",
        "g1_winner": "model_1",
        "g2_winner": "error",
        "judge": "j",
        "turn": 1,
    }
    ratings, pairs = fastchat.judgements(jsonl(tmp_path / "j.jsonl", [*rows, pair]))
    assert (
        ratings["rating"].tolist()[0] == 7
        and math.isnan(ratings["rating"][1])
        and ratings["rating"].tolist()[2:] == [8.5, 10]
    )
    assert ratings["score"].tolist()[0] == 7 and math.isnan(ratings["score"][1]) and ratings["score"][3] == 1
    assert set(ratings["judge"]) == {"gpt-4 single-v1"}
    assert pairs[["g1", "g2"]].to_numpy().tolist() == [["model_1", ""]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (single(score=11), "'score' must lie between 1 and 10, or be -1, not 11"),
        (single(turn=3), "'turn' must be 1 or 2"),
        (single(score="7"), "'score' is missing or of another type"),
        (
            {"question_id": 1, "turn": 1, "model_1": "a", "model_2": "b", "g1_winner": "a", "g2_winner": "tie"},
            "a winner must be",
        ),
        ({"question_id": 1, "turn": 1}, "'model_1' is missing"),
    ],
)
def test_judgements_that_cannot_be_used(tmp_path, row, message):
    with pytest.raises(fastchat.FastChatError, match=f"line 2: .*{message}"):
        fastchat.judgements(jsonl(tmp_path / "j.jsonl", [single(), row]))


@pytest.fixture
def params(tree):
    from s2utils.params import load

    return load("smoke", {"text_metrics": {"resamples": 100}})


def test_ratings_a_model_and_set_of_questions(tmp_path, params):
    name = "Llama-2-7b-hf-eli5-wiki-dequantized"
    rows = [single(question_id=q, model=name, turn=t, score=s, judgment=f"Rating: [[{s}]]" if s > 0 else "hm")
            for q, t, s in ((81, 1, 8), (81, 2, 4), (82, 1, 6), (82, 2, -1), (101, 1, 1), (101, 2, 1))]  # fmt: skip
    ratings, _ = fastchat.judgements(jsonl(tmp_path / "j.jsonl", rows))
    known = fastchat.categories(
        jsonl(
            tmp_path / "q.jsonl",
            [{"question_id": i, "category": c} for i, c in ((81, "writing"), (82, "stem"), (101, "math"))],
        )
    )
    table = fastchat_tables.rated(ratings, known, params).set_index("questions")
    every, own = table.loc["all"], table.loc["writing, stem, humanities"]
    assert (every["n"], every["single_turn_rating"], every["multi_turn_rating"]) == (3, 5, 2.5)
    assert (own["n"], own["single_turn_rating"], own["multi_turn_rating"], own["multi_turn_rating_n_failed"]) == (
        2,
        7,
        4,
        1,
    )
    assert own["single_turn_rating_published"] == pytest.approx(5.975) and math.isnan(
        every["single_turn_rating_published"]
    )
    assert "7.00 [6.00, 8.00]" in fastchat_tables.shown(table.reset_index(), "mtbench").to_string()
    with pytest.raises(fastchat.FastChatError, match="no question 101"):
        fastchat_tables.rated(ratings, {"81": "writing", "82": "stem"}, params)


def test_a_turn_that_was_not_judged_has_failed(tmp_path, params):
    ratings, _ = fastchat.judgements(jsonl(tmp_path / "j.jsonl", [single(), single(turn=2), single(question_id=82)]))
    row = fastchat_tables.rated(ratings, {}, params).iloc[0]
    assert (row["n"], row["single_turn_rating_n_failed"], row["multi_turn_rating_n_failed"]) == (2, 0, 1)


def test_readability_a_turn(tmp_path, params):
    found = fastchat.answers(
        jsonl(
            tmp_path / "m.jsonl",
            [answer(turns=("The sun is hot. We see it.", "")), answer(82, turns=("Rain is good.", "So it is."))],
        )
    )
    table = fastchat_tables.readable(found, {}, params).set_index(["turn", "backend"])
    assert table.loc[(1, "pyphen"), ["n", "flesch_reading_ease_n_failed"]].tolist() == [2, 0]
    assert table.loc[(2, "cmudict"), ["n", "flesch_kincaid_grade_n_failed"]].tolist() == [2, 1]
    assert (table["flesch_reading_ease"] > 80).all()


def test_pairs_are_counted_as_ours(tmp_path, params):
    pair = {"model_1": "m", "model_2": "n", "judge": ["gpt-4", "pair-v2"], "turn": 1}
    games = [("model_1", "model_1"), ("model_2", "model_2"), ("model_1", "model_2"), ("tie", "tie"), ("error", "tie")]
    rows = [pair | {"question_id": i, "g1_winner": a, "g2_winner": b} for i, (a, b) in enumerate(games)]
    _, found = fastchat.judgements(jsonl(tmp_path / "p.jsonl", rows))
    row = fastchat_tables.compared(found, params).iloc[0]
    assert row[["n", "n_win", "n_tie", "n_loss", "n_failed", "n_flipped"]].tolist() == [5, 1, 2, 1, 1, 1]
    with pytest.raises(fastchat.FastChatError, match="judged several times"):
        fastchat_tables.compared(fastchat.judgements(jsonl(tmp_path / "p.jsonl", rows + rows[:1]))[1], params)


def test_the_audit_reads_a_run_of_fastchat(tree, tmp_path, capsys):
    from s2utils import audit

    folder = tmp_path / "mt_bench"
    jsonl(folder / "model_answer" / "m.jsonl", [answer(turns=("The sun is hot.", "It is far."))])
    judged = jsonl(
        folder / "model_judgment" / "gpt-4_single.jsonl",
        [single(model="<b>m</b>"), single(model="<b>m</b>", turn=2, score=-1, judgment="")],
    )
    questions = jsonl(folder / "question.jsonl", [{"question_id": 81, "category": "writing", "turns": ["a", "b"]}])
    few = ["--profile", "smoke", "--set", "text_metrics.resamples=50"]
    given = ["--answers", str(folder / "model_answer"), "--judgements", str(judged), "--questions", str(questions)]
    assert audit.main([*given, *few]) == 0
    assert "MT-bench, judge's ratings a turn" in capsys.readouterr().out
    tables = tree / "reports/audit/tables"
    assert {"mtbench.csv", "mtbench_flesch.csv"} <= {f.name for f in tables.iterdir()}
    page = (tree / "reports/audit/index.html").read_text(encoding="utf-8")
    assert "Readability of MT-bench" in page and "&lt;b&gt;m" in page and "<b>m" not in page
    assert audit.main(["--answers", str(tmp_path / "none.jsonl"), *few]) == 2
    assert "there is no file" in capsys.readouterr().err
