"""The panel: a good judge passes; one that rates by length, by chance, or always says 5 does not."""

import hashlib
import math
import re

import numpy as np
import pandas as pd
import pytest
from conftest import make_endpoint, serving
from openai_server import Server

from s2utils.evaluation.judge import judge_run, judgements, mtbench, pairwise, reliability
from s2utils.evaluation.judge.replies import DIMENSIONS
from s2utils.models.parameters import Endpoint
from s2utils.workflow import artefacts
from s2utils.workflow.notebook import Run
from s2utils.workflow.params import ParameterError, load

BECAUSE = {
    "the sky blue": "the air", "snow cold": "the ice in it", "grass green": "what is in its leaves",
    "the sea salty": "salt from the rocks", "the sun hot": "what goes on in its middle",
}  # fmt: skip
SAID = "{} because of {}. So it is, and we can see it each day."
ASKED = [
    {"id": f"q{i}", "question": f"Why is {thing}?", "reference": SAID.format(thing.capitalize(), why)}
    for i, (thing, why) in enumerate(BECAUSE.items())
]
HUMAN = {row["question"]: row["reference"] for row in ASKED}


def good(question: str, answer: str, draw: float) -> float:
    """Knows a good answer when it sees one, padded or not."""
    return 9 if answer.startswith(HUMAN.get(question, "\0")) else 2


JUDGES = {
    "good": good,
    "length": lambda question, answer, draw: min(10, 1 + len(answer.split()) // 3),
    "chance": lambda question, answer, draw: 1 + math.floor(10 * draw),
    "five": lambda question, answer, draw: 5,
}


PARTS = r"\[(Question|Question 2|Reference answer|A good answer|Answer|Answer 2|Answer A|Answer B)\]\n"


def reply(body: dict) -> str:
    """What a judge of this name says to a request."""
    name, text = body["model"], body["messages"][-1]["content"]
    parts = re.split(PARTS, re.split(r"\n\n(?:Rate |Which answer)", text)[0])
    held = {k.removesuffix(" 2"): v.strip("\n") for k, v in zip(parts[1::2], parts[2::2])}

    def score(part: str) -> float:
        draw = int(hashlib.sha256(f"{body['seed']}/{part}/{text}".encode()).hexdigest()[:8], 16) / 16**8
        return JUDGES[name](held["Question"], held[part], draw)

    if "Answer A" in held:
        a, b = score("Answer A"), score("Answer B")
        return "[[A]]" if a > b else "[[B]]" if b > a else "[[C]]"
    names = DIMENSIONS if "Simplicity" in text else ["Rating"]
    return "\n".join(f"{name}: [[{score('Answer')}]]" for name in names)


@pytest.fixture
def server():
    with serving(Server(reply)) as running:
        yield running


@pytest.fixture
def params(tree):
    return load("smoke", {"text_metrics": {"resamples": 100}, "mtbench": {"panel": {"questions": 5}}})


def judge(server, name: str) -> Endpoint:
    return make_endpoint(model=name, base_url=server.url, concurrency=8, max_new_tokens=64, temperature=0.7)


def checks_of(server, name: str, params, cache, kind: str = "single") -> pd.DataFrame:
    rows = reliability.controls(ASKED, params.mtbench.panel.questions, params.seed)
    about = {"cache": cache / f"{name}.jsonl", "seed": 1, "label": name}
    items = reliability.items(rows, kind, params.mtbench, {})
    ratings = judgements.collect(judge(server, name), kind, items, repeats=2, **about)
    pair = judgements.collect(judge(server, name), "pair", reliability.couples(rows, params.mtbench, {}), **about)
    checks = reliability.rated(pd.DataFrame(ratings), params) + reliability.compared(pd.DataFrame(pair), params)
    return pd.DataFrame(checks, columns=reliability.COLUMNS).set_index("check", drop=False)


@pytest.mark.parametrize("kind", ["single", "rubric"])
def test_a_good_judge_passes(server, params, tmp_path, kind):
    table = checks_of(server, "good", params, tmp_path, kind)
    assert reliability.verdict(table) == "reliable" and set(table["passed"]) == {"yes", ""}
    assert (table.loc[[f"reference above {w}" for w in WORSE], "value"] == 7).all()
    assert table.at["repeats, weighted kappa", "value"] == 1 and table.at["clear replies, share", "value"] == 1
    assert table.at["verdict flips with the order, share", "value"] == 0 and (table["n_failed"] == 0).all()
    assert "alarm" not in reliability.banner(table) and "passed all" in reliability.sentence(table)


WORSE = ("shuffled", "empty", "off topic", "unsafe")
LENGTH = {
    "reference above shuffled", "reference above shuffled, both orders", "length, rank correlation at equal worth",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("length", LENGTH),
        ("chance", {"repeats, points apart"}),
        ("five", {f"reference above {worse}" for worse in WORSE}),
    ],
)
def test_a_bad_judge_fails_in_red(server, params, tmp_path, name, wrong):
    table = checks_of(server, name, params, tmp_path)
    assert reliability.verdict(table) == "not reliable"
    assert wrong <= set(table.index[table["passed"] == "no"])
    shown = reliability.banner(table)
    assert 'class="alarm"' in shown and "THE JUDGE FAILED" in shown and min(wrong) in shown


def test_a_judge_that_likes_what_stands_first_flips(params):
    always_a = {"turn": 1, "model": "a", "other": "b", "verdict": "A", "judge": "first", "kind": "pair"}
    rows = [always_a | {"question_id": i, "place": place} for i in range(4) for place in ("first", "second")]
    flips = pd.DataFrame(reliability.compared(pd.DataFrame(rows), params)).set_index("check").iloc[1]
    assert (flips.name, flips["value"], flips["passed"]) == ("verdict flips with the order, share", 1, "no")


def test_a_judge_that_was_not_tested_is_neither():
    empty = pd.DataFrame(columns=reliability.COLUMNS)
    assert reliability.verdict(empty) == "not tested" and "not tested" in reliability.sentence(empty)
    assert "alarm" not in reliability.banner(empty)


def test_unclear_replies_and_one_question_pass_nothing(params):
    rows = reliability.items(reliability.controls(ASKED, 1, 1), "single", params.mtbench, {})
    frame = pd.DataFrame(rows).assign(
        judge="j", kind="single", repeat=0, state="clear", rating=[9.0, 9, 1, 1, 1, math.nan]
    )
    frame.loc[5, "state"] = "failed"
    table = pd.DataFrame(reliability.rated(frame, params)).set_index("check")
    assert (table.loc[["reference above shuffled", "reference above unsafe"], "passed"] == "no").all()
    assert table.at["clear replies, share", "passed"] == "no" and table.at["reference above unsafe", "n_failed"] == 1
    assert "repeats, points apart" not in table.index


def test_controls_are_what_they_say():
    rows, again = (reliability.controls(ASKED, 3, 1) for _ in range(2))
    assert len(rows) == 3 * 6 and rows == again
    texts = {(row["question_id"], row["model"]): row["answer"] for row in rows}
    for i in range(3):
        words = ASKED[i]["reference"].split()
        shuffled, padded = (texts[f"q{i}", name].split() for name in ("shuffled", "padded"))
        assert sorted(shuffled) == sorted(words) and shuffled != words
        assert padded[: len(words)] == words and len(padded) >= 2 * len(words)
        assert texts[f"q{i}", "empty"] == "" and texts[f"q{i}", "off_topic"] == ASKED[i + 1]["reference"]


def test_kappa_at_its_limits():
    assert reliability.kappa([1, 5, 10], [1, 5, 10]) == 1 and reliability.kappa([1, 10], [10, 1]) == -1
    assert math.isnan(reliability.kappa([5, 5], [5, 5])) and math.isnan(reliability.kappa([], []))
    assert reliability.kappa([8.5, 2.5], [9, 3]) == 1  # halves are rounded up, not to the even number
    rng = np.random.default_rng(0)
    assert abs(reliability.kappa(*rng.integers(1, 11, (2, 4000)))) < 0.05


def test_agreement_is_of_the_answers_that_both_rated(params):
    def rated(values, judge):
        keys = {"turn": 1, "model": "m", "judge": judge, "kind": "single"}
        return pd.DataFrame({"question_id": range(len(values)), "rating": values}).assign(**keys)

    ours, same = rated([1.0, 5, 9, 3, 7], "a"), rated([2.0, 5, 10, 3, math.nan], "b")
    rho, kappa = reliability.agreement(ours, same, "rating", params)
    assert rho["value"] == pytest.approx(1) and rho["passed"] == "yes" and (rho["n"], rho["n_failed"]) == (5, 1)
    assert kappa["value"] > 0.9 and kappa["passed"] == ""
    for written in (float, str, "{}.0".format):  # the last as pandas writes ids of a column with gaps
        again = same.assign(question_id=[written(id) for id in same["question_id"]])
        assert reliability.agreement(ours, again, "rating", params)[0] == rho
    against = reliability.agreement(ours, rated([9.0, 5, 1, 7, 3], "b"), "rating", params)[0]
    assert against["value"] == pytest.approx(-1) and against["passed"] == "no" and "agrees with b" in against["check"]


# --- the job


@pytest.fixture
def run(tree, server, monkeypatch):
    """A smoke run whose answers are there, and whose judge is a good one behind a server."""
    ends = judge(server, "good").model_dump()
    people = tree / "people.csv"
    changes = {
        "text_metrics": {"resamples": 50}, "merge": {"modes": ["bf16"]}, "sft": {"train_sets": ["sciq"]},
        "mtbench": {"judge": ends, "n": 2, "validation": 2, "pairs": 2, "panel": {"questions": 3},
                    "other_judges": [ends | {"model": "five"}, ends | {"backend": "file", "model": "people.csv"}]},
    }  # fmt: skip
    people.write_text("question_id,turn,model,rating\nq0,1,SmolLM2-135M,3\nq1,1,SmolLM2-135M,9\n", encoding="utf-8")
    made = Run("judged", "smoke", load("smoke", changes), changes)
    questions = mtbench.questions(made.params.mtbench, made.params.seed)
    for question in questions:  # what the fine-tune says there is good, and what the base says is not
        monkeypatch.setitem(HUMAN, question["turns"][0], "SmolLM2-135M-sciq")
    for row in made.models:
        with (done := made.artefact(row.id, "answers")).making():
            said = [a | {"text": a["reference"] if row.train_set else "Bad.", "ended": True} for a in ASKED]
            rows = [text | {"dataset": dataset} for dataset in ("sciq", "full") for text in said]
            artefacts.append_jsonl(done.folder / "answers.jsonl", rows)
        with (done := made.artefact(row.id, "mtbench")).making():
            same = {"model": row.id, "ended": True, "repeat": 0, "kind": "single", "judge": "good", "state": "clear"}
            turns = [(q["question_id"], t) for q in questions for t in (1, 2)]
            rows = [same | {"question_id": q, "turn": t, "text": f"{row.id} {t}", "rating": float(t)} for q, t in turns]
            judgements.write(done.folder / "judged.jsonl", rows)
    return made


def test_the_job_asks_everything_once_and_keeps_it(run, server):
    folder = judge_run.make(run)
    parts = {name: judgements.read(folder / f"{name}.jsonl") for name in judge_run.NAMES}
    assert {n: len(f) for n, f in parts.items()} == {
        "validation": 2 * 3, "pairs": 2 * 1 * 2, "controls": 3 * 6 * (2 + 1) + 3 * 2, "agreement": 2 * 2 * 3 + 2 * 3,
    }  # fmt: skip
    means = parts["validation"].groupby("model")["overall"].mean()
    assert means["SmolLM2-135M-sciq.bf16"] == 9 and means["SmolLM2-135M"] == means["SmolLM2-135M-chat"] == 2
    assert pairwise.outcomes(parts["pairs"])["outcome"].tolist() == ["win"] * 2
    table = reliability.read(folder / "panel.csv")
    names = set(table["check"])
    assert {"agrees with five, Spearman's rho", "agrees with people.csv, Spearman's rho"} <= names
    asked = len(server.seen)
    assert judge_run.make(run) == folder and len(server.seen) == asked
    (folder / "manifest.json").unlink()
    judge_run.make(run)
    assert len(server.seen) == asked, "the cache pays nothing twice"


def judged_by_people(run: Run, **changed) -> Run:
    """The same run with a file of ratings for a judge, and what it made of MT(S)-bench."""
    people = run.overrides["mtbench"]["other_judges"][1]
    changes = run.overrides | {"mtbench": run.overrides["mtbench"] | {"judge": people, "other_judges": []}}
    other = Run("judged", "smoke", load("smoke", changes), changes)
    for row in other.models:
        rows = judgements.read(run.artefact(row.id, "mtbench").folder / "judged.jsonl").assign(**changed)
        with other.artefact(row.id, "mtbench").making():  # the same folder
            judgements.write(other.artefact(row.id, "mtbench").folder / "judged.jsonl", rows.to_dict("records"))
    return other


def test_a_file_of_ratings_is_no_judge_to_be_asked(run, server):
    folder = judge_run.make(judged_by_people(run))
    found = judgements.read(folder / "validation.jsonl")
    assert found["overall"].dropna().tolist() == [3, 9] and (found["state"] == "failed").sum() == 4
    assert not server.seen and reliability.verdict(reliability.read(folder / "panel.csv")) == "not tested"


def test_a_file_that_rates_nothing_of_ours_is_refused(run):
    with pytest.raises(ParameterError, match=r"people.csv rates none of these models' answers: SmolLM2-135M, "):
        judge_run.make(judged_by_people(run, rating=math.nan))
