"""The data of the answer browser: every answer once, flags and ratings as they were, nothing made up."""

import pandas as pd
from test_build import HOSTILE

from s2utils.report import answers_page
from s2utils.workflow import artefacts, params, paths, steps


def row(model, i: int, **changes) -> dict:
    facts = {
        "dataset": "full",
        "source": "sciq",
        "id": str(i),
        "question": f"Q{i}",
        "reference": "R",
        "text": "A.",
        "n_tokens": 2,
    }
    keys = {k: getattr(model, k) for k in ("model", "base", "variant", "train_set", "merge_mode")}
    return (
        facts
        | keys
        | {"model_id": model.id, "ended": True, "looping": False, "rouge_l_f1": 0.5, "new_metric": 1.0}
        | changes
    )


def collected(rows: list[dict]) -> dict:
    with artefacts.replacing(paths.artefacts("cpu") / "text_metrics" / "scores.parquet", "wb") as file:
        pd.DataFrame(rows).to_parquet(file)
    return answers_page.collect("cpu", params.load("cpu"))


def test_answers_flags_and_metrics_come_through(tree):
    base, chat = steps.models(params.load("cpu"))[:2]
    stranger = steps.ModelRow("gone", "gone", "b", "sft", "", "none")
    rows = [
        row(base, 0), row(base, 1, text=HOSTILE, ended=False),
        row(chat, 0, text=" ", looping=True, rouge_l_f1=float("nan")),
        row(stranger, 0),
    ]  # fmt: skip
    data = collected(rows)
    assert [m["key"] for m in data["metrics"]] == ["rouge_l_f1", "new_metric"] and data["sets"] == ["full"]
    first, second = data["questions"]
    assert first["id"] == "sciq/0" and [a is None for a in first["answers"]] == [False, False] + [True] * 6
    assert first["answers"][0] == {"t": "A.", "f": 0, "m": [0.5, 1.0]}
    assert first["answers"][1]["f"] == answers_page.LOOPS + answers_page.EMPTY and first["answers"][1]["m"] == [
        None,
        1.0,
    ]
    assert second["answers"][0]["t"] == HOSTILE and second["answers"][0]["f"] == answers_page.CUT


def test_ratings_of_both_turns(tree):
    base, chat = steps.models(params.load("cpu"))[:2]

    def told(turn: int, rating: float | None) -> dict:
        return {"question_id": 8, "turn": turn, "text": "A.", "ended": True, "rating": rating, "reply": f"{HOSTILE} "
                                                                                                        f"{rating}",
                "again": "", "error": "", "judge": "j"}  # fmt: skip

    for id, rows in ((base.id, [told(2, r) for r in (4.0, 5.0, None)]), (chat.id, [told(1, 7.0)])):
        artefacts.append_jsonl(paths.artefacts("cpu") / "mtbench" / id / "judged.jsonl", rows)
    data = answers_page.collect("cpu", params.load("cpu"))
    assert data["sets"] == [answers_page.SIMPLE, answers_page.SECOND]
    one, two = data["questions"]
    assert one["answers"][1]["m"] == [7.0] and one["answers"][0] is None and one["before"] == ""
    assert two["answers"][0]["m"] == [4.5] and [j["r"] for j in two["answers"][0]["j"]] == [4.0, 5.0, None]
    assert "vacuum flask" in one["q"] and two["before"] == one["q"] and "walls" in one["ref"]


def test_the_judged_validation_set_joins_its_answers(tree):
    base = steps.models(params.load("cpu"))[0]
    judged = {
        "question_id": "0",
        "turn": 1,
        "model": base.id,
        "simplicity": 8.0,
        "overall": 6.0,
        "reply": "fine",
        "judge": "j",
        "error": "",
    }
    artefacts.append_jsonl(
        paths.artefacts("cpu") / "judged" / "validation.jsonl", [judged, judged | {"question_id": "99"}]
    )
    data = collected([row(base, 0), row(base, 1)])
    answer, other = (q["answers"][0] for q in data["questions"])
    assert (
        answer["j"] == [{"who": "j", "r": 6.0, "said": ["fine"], "d": {"simplicity": 8.0}, "e": ""}]
        and "j" not in other
    )
    rating = [m["key"] for m in data["metrics"]].index(answers_page.RATING)
    assert answer["m"][rating] == 6.0 and other["m"][rating] is None
