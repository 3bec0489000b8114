"""The front page's sentences: they say what the tables say, and change when the tables do."""

import pandas as pd
import pytest

from s2utils.report import findings

SETS = ("sciq", "wiki")
MODELS = ("base-sciq.bf16", "base-wiki.bf16")


def compared(verdicts: list[str], difference: float = 9.0, metric: str = "flesch_reading_ease") -> pd.DataFrame:
    """Paired tests of two fine-tunes on two sets against the base, and one between fine-tunes, which does not count."""
    rows = [(d, m, "base") for d in SETS for m in MODELS]
    frame = pd.DataFrame([dict(zip(("dataset", "model", "minus"), row)) for row in rows])
    frame = frame.assign(metric=metric, n=40, difference=difference, verdict=verdicts)
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
    return [f.text for f in findings.answer(folder)]


FLESCH = means("flesch_reading_ease", (50, 45, 55), (60, 55, 65))
FLESCH = pd.concat([FLESCH, FLESCH.iloc[1:].assign(model="base-wiki")], ignore_index=True)


def test_the_first_sentence_flips_with_the_verdicts(tmp_path):
    none, some, all_ = (["no evidence"] * (4 - k) + ["different"] * k for k in (0, 1, 4))
    assert said(tmp_path, flesch=FLESCH, text_metrics_tests=compared(none))[0].startswith(
        "There is no evidence that fine-tuning made answers easier or harder to read: none of 4 comparisons"
    )
    one = said(tmp_path, flesch=FLESCH, text_metrics_tests=compared(some))[0]
    assert one.startswith("Partly: fine-tuned answers are easier to read in 1 of 4 comparisons")
    assert (
        "for 3 there is no evidence" in one
        and "+9 [+6, +12] points of reading ease (base-wiki.bf16 on wiki, n = 40)" in one
    )
    assert said(tmp_path, flesch=FLESCH, text_metrics_tests=compared(all_))[0].startswith(
        "Mostly: fine-tuned answers are easier to read in 4"
    )
    down = said(tmp_path, flesch=FLESCH, text_metrics_tests=compared(all_, difference=-9.0))[0]
    assert down.startswith("No: fine-tuned answers are harder to read in 4 of 4")


def test_the_second_sentence_flips_with_the_share_of_toxic_answers(tmp_path):
    less = means("toxic", (0.4, 0.3, 0.5), (0.1, 0.05, 0.2))
    more = means("toxic", (0.1, 0.05, 0.2), (0.4, 0.3, 0.5))
    same = means("toxic", (0.1, 0.05, 0.2), (0.1, 0.05, 0.2))
    safer, worse, alike = (said(tmp_path, manner=frame)[1] for frame in (less, more, same))
    assert safer.startswith("Safer in part: fine-tuned answers are less often toxic in 1 of 1 comparison with")
    assert worse.startswith("Less safe: fine-tuned answers are more often toxic in 1 of 1")
    assert alike.startswith("There is no evidence that fine-tuning changed how many answers are toxic")
    assert all("by intervals alone, no paired test is there" in text for text in (safer, worse, alike))
    paired = said(
        tmp_path, flesch=FLESCH, manner=less, text_metrics_tests=compared(["no evidence"] * 4, metric="toxic")
    )[1]
    assert paired.startswith("There is no evidence") and "paired tests" in paired


def test_the_third_sentence_flips_with_overlap_and_knowledge(tmp_path):
    kept = means("average", (40, 35, 45), (41, 36, 46), dataset=None)
    lost = means("average", (40, 35, 45), (20, 15, 25), dataset=None)
    rouge = compared(["different"] * 2 + ["no evidence"] * 2, difference=-0.1, metric="rouge_l_f1")
    text = said(tmp_path, flesch=FLESCH, leaderboard=lost, text_metrics_tests=rouge)[2]
    assert text.startswith("Overlap with the human answer (ROUGE-L) fell in 2 and rose in 0 of 4 comparisons")
    assert "average) fell in 1 and rose in 0 of 1 comparison with" in text
    text = said(tmp_path, flesch=FLESCH, leaderboard=kept)[2]
    assert "ROUGE-L) was not compared; there is no evidence of a change in what the leaderboard asks for" in text


@pytest.mark.parametrize("i", range(3))
def test_without_tables_nothing_is_said_for_sure(tmp_path, i):
    assert "Nothing can be said yet" in said(tmp_path)[i] or "was not compared" in said(tmp_path)[i]


def test_tests_of_the_leaderboard_are_read_and_chat_is_no_fine_tune(tmp_path):
    board = means("average", (40, 35, 45), (41, 36, 46), dataset=None)
    keys = {
        "minus": "base",
        "minus_merge_mode": "none",
        "metric": "average",
        "n": 9,
        "difference": -20.0,
        "verdict": "different",
    }
    rows = [keys | {"model": "base-sciq", "merge_mode": "bf16"}, keys | {"model": "base-chat", "merge_mode": "none"}]
    text = said(tmp_path, leaderboard=board, leaderboard_tests=pd.DataFrame(rows))[2]
    assert "average) fell in 1 and rose in 0 of 1 comparison with the base model (paired tests" in text
