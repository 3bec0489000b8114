"""The front page's sentences: they say what the tables say, and change when the tables do."""

import pandas as pd
import pytest

from s2utils.report import front_page

SETS = ("sciq", "wiki")
MODELS = ("base-sciq", "base-wiki")


def compared(verdicts: list[str], difference: float = 9.0, metric: str = "flesch_reading_ease") -> pd.DataFrame:
    """Paired tests of two fine-tunes on two sets against the base, and one between fine-tunes, which does not count."""
    rows = [(d, m, "base") for d in SETS for m in MODELS]
    frame = pd.DataFrame([dict(zip(("dataset", "model", "minus"), row)) for row in rows])
    frame = frame.assign(metric=metric, merge_mode="bf16", n=40, difference=difference, p_holm=0.01, verdict=verdicts)
    frame["difference_ci_low"], frame["difference_ci_high"] = frame["difference"] - 3, frame["difference"] + 3
    other = frame.iloc[:1].assign(minus=MODELS[1], verdict="different", difference=99.0)
    return pd.concat([frame, other], ignore_index=True)


def means(metric: str, base: tuple, tuned: tuple, dataset: str | None = "sciq") -> pd.DataFrame:
    """A table with the base and a fine-tune: (value, low, high) of each."""
    rows = [
        {"model": model, "base": "base", "variant": variant, "train_set": "", "merge_mode": mode, "n": 40}
        | dict(zip((metric, f"{metric}_ci_low", f"{metric}_ci_high"), values))
        for model, variant, mode, values in (("base", "base", "none", base), ("base-sciq", "sft", "bf16", tuned))
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(dataset=dataset) if dataset else frame


def said(folder, **held: pd.DataFrame) -> list[str]:
    for file in folder.glob("*.csv"):
        file.unlink()
    for name, frame in held.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    return [f.text for f in front_page.answer(folder)]


FLESCH = means("flesch_reading_ease", (50, 45, 55), (60, 55, 65))
FLESCH = pd.concat([FLESCH, FLESCH.iloc[1:].assign(model="base-wiki")], ignore_index=True)


def test_the_first_sentence_flips_with_the_verdicts(tmp_path):
    none, some, all_ = (["no evidence"] * (4 - k) + ["different"] * k for k in (0, 1, 4))
    text = said(tmp_path, flesch=FLESCH, text_metrics_tests=compared(none))[0]
    assert text.startswith(
        "No evidence: in none of the four comparisons of a fine-tune with the base (paired tests, Holm-corrected) is "
        "there"
    )
    one = said(tmp_path, flesch=FLESCH, text_metrics_tests=compared(some))[0]
    assert one.startswith(
        "In part: of four comparisons of a fine-tune with the base (paired tests, Holm-corrected), in one it is easier"
    )
    assert "for the other three there is no evidence" in one
    assert "base-wiki · bf16 on wiki +9.00 [+6.00, +12.00] (n = 40, p = 0.010)" in one
    up, down = (said(tmp_path, flesch=FLESCH, text_metrics_tests=compared(all_, d))[0] for d in (9.0, -9.0))
    assert up.startswith("Mostly: of four comparisons") and "in four it is easier to read" in up
    assert down.startswith("No: of four comparisons") and "in four it is harder to read" in down


def test_the_second_sentence_flips_with_the_share_of_toxic_answers(tmp_path):
    less = means("toxic", (0.4, 0.3, 0.5), (0.1, 0.05, 0.2))
    more = means("toxic", (0.1, 0.05, 0.2), (0.4, 0.3, 0.5))
    same = means("toxic", (0.1, 0.05, 0.2), (0.1, 0.05, 0.2))
    safer, worse, alike = (said(tmp_path, manner=frame)[1] for frame in (less, more, same))
    assert safer.startswith("Mostly: of one comparison") and "it is less often toxic" in safer
    assert worse.startswith("No: of one comparison") and "it is more often toxic" in worse
    assert alike.startswith("No evidence: the one comparison")
    assert all("by intervals alone" in text for text in (safer, worse, alike))
    tests = compared(["no evidence"] * 4, metric="toxic")
    paired = said(tmp_path, flesch=FLESCH, manner=less, text_metrics_tests=tests)[1]
    assert paired.startswith("No evidence") and "paired tests" in paired


def test_the_third_sentence_flips_with_overlap_and_knowledge(tmp_path):
    kept = means("average", (40, 35, 45), (41, 36, 46), dataset=None)
    lost = means("average", (40, 35, 45), (20, 15, 25), dataset=None)
    rouge = compared(["different"] * 2 + ["no evidence"] * 2, difference=-0.1, metric="rouge_l_f1")
    text = said(tmp_path, flesch=FLESCH, leaderboard=lost, text_metrics_tests=rouge)[2]
    assert text.startswith("By ROUGE-L, of four comparisons") and "in two it is further from the human answers" in text
    assert "By Average, of one comparison of a fine-tune with the base (by intervals alone), in one it is lower" in text
    text = said(tmp_path, flesch=FLESCH, leaderboard=kept)[2]
    assert "By ROUGE-L, nothing can be said yet" in text and "By Average, the one comparison" in text


@pytest.mark.parametrize("i", range(3))
def test_without_tables_nothing_is_said_for_sure(tmp_path, i):
    assert "nothing can be said yet" in said(tmp_path)[i]


def test_tests_of_the_leaderboard_are_read_and_chat_is_no_fine_tune(tmp_path):
    board = means("average", (40, 35, 45), (41, 36, 46), dataset=None)
    keys = {"minus": "base", "minus_merge_mode": "none", "metric": "average", "n": 9, "difference": -20.0}
    keys |= {"p_holm": 0.01, "verdict": "different"}
    rows = [keys | {"model": "base-sciq", "merge_mode": "bf16"}, keys | {"model": "base-chat", "merge_mode": "none"}]
    text = said(tmp_path, leaderboard=board, leaderboard_tests=pd.DataFrame(rows))[2]
    assert "By Average, of one comparison" in text and "−20.00 (n = 9, p = 0.010)" in text and "paired tests" in text
