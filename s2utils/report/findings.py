"""The front page's answer, in three sentences made from the tables.

What is said rests on paired tests where a table of them is there (`<table>_tests.csv`), with their verdicts; where there
is none, intervals are compared and the sentence says so. Trap: "no evidence" is what so few questions could not show, not
that there is no difference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from s2utils.results import layout, tables

EASE, TOXIC = "flesch_reading_ease", "toxic"
UNITS = {EASE: "points of reading ease", "average": "points", "rouge_l_f1": "ROUGE-L", "bertscore_f1": "BERTScore F1"}


@dataclass(frozen=True)
class Finding:
    """One sentence of the answer, with what it is about and the page that holds its numbers."""

    lead: str
    text: str
    href: str = ""


@dataclass(frozen=True)
class Tally:
    """How many comparisons of fine-tunes with the base are higher, lower, and not told apart; the largest told apart."""

    up: int = 0
    down: int = 0
    apart: int = 0
    largest: str = ""
    paired: bool = True

    @property
    def n(self) -> int:
        """All comparisons."""
        return self.up + self.down + self.apart


def answer(folder: Path) -> list[Finding]:
    """The three sentences, from the tables in `folder`."""
    held = {f.stem: tables.read_table(f) for f in folder.glob("*.csv") if f.stem in WANTED}
    simple, safe = tally(held, "flesch", EASE), tally(held, "manner", TOXIC)
    near, knows = tally(held, "rouge", "rouge_l_f1"), tally(held, "leaderboard", "average")
    source = "text_metrics_tests" if "text_metrics_tests" in held else "flesch"
    return [
        Finding("Simpler?", _simple(simple), f"tables/{source}.html" if simple.n else ""),
        Finding("Safe?", _safe(safe), "tables/manner.html" if safe.n else ""),
        Finding("At what cost?", _cost(near, knows), "tables/leaderboard.html" if knows.n else ""),
    ]


WANTED = ("flesch", "rouge", "manner", "leaderboard", "text_metrics_tests", "leaderboard_tests")


def _simple(found: Tally) -> str:
    if not found.n:
        return "Nothing can be said yet: no table compares a fine-tune's reading ease with the base model's."
    if not found.up and not found.down:
        return f"There is no evidence that fine-tuning made answers easier or harder to read: none of {_of(found)} is told apart."
    head = "Mostly" if found.up > found.n / 2 and not found.down else "Partly" if found.up else "No"
    return f"{head}: {_counts(found, 'easier to read', 'harder to read')}{found.largest}."


def _safe(found: Tally) -> str:
    if not found.n:
        return "Nothing can be said yet: no table holds the share of toxic answers."
    if not found.up and not found.down:
        return f"There is no evidence that fine-tuning changed how many answers are toxic: none of {_of(found)} is told apart."
    head = "Safer in part" if found.down and not found.up else "Less safe" if found.up and not found.down else "Mixed"
    return f"{head}: {_counts(found, 'more often toxic', 'less often toxic')}{found.largest}."


def _cost(near: Tally, knows: Tally) -> str:
    said = []
    for tally, what in (
        (near, "overlap with the human answer (ROUGE-L)"),
        (knows, "what the leaderboard asks for (average)"),
    ):
        if not tally.n:
            said.append(f"{what} was not compared")
        elif not tally.up and not tally.down:
            said.append(f"there is no evidence of a change in {what}, in {_of(tally)}")
        else:
            said.append(
                f"{what} fell in {tally.down} and rose in {tally.up} of {_of(tally)}, the rest shows no evidence"
            )
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}."


def _of(found: Tally) -> str:
    how = "paired tests, Holm-corrected" if found.paired else "by intervals alone, no paired test is there"
    return f"{found.n} comparison{'s' if found.n != 1 else ''} with the base model ({how})"


def _counts(found: Tally, more: str, less: str) -> str:
    sides = [f"{side} in {n}" for side, n in ((more, found.up), (less, found.down)) if n]
    rest = f"; for {found.apart} there is no evidence" if found.apart else ""
    return f"fine-tuned answers are {' and '.join(sides)} of {_of(found)}{rest}"


def tally(held: dict[str, pd.DataFrame], name: str, metric: str) -> Tally:
    """Fine-tunes against the base by `metric`: paired tests where a table has them, else whether intervals overlap."""
    for tests in (held.get(f"{name}_tests"), held.get("text_metrics_tests")):
        if tests is not None and {"metric", "model", "minus", "difference", "verdict"} <= set(tests):
            rows = tests[
                (tests["metric"] == metric) & (tests["minus"] == base_of(held)) & tests["model"].isin(tuned(held))
            ]
            if len(rows):
                return _tested(rows, metric)
    return _overlaps(held.get(name), metric)


def base_of(held: dict[str, pd.DataFrame]) -> str:
    """Name of the base model, "" where no table says it."""
    for frame in held.values():
        if "variant" in frame and (frame["variant"] == "base").any():
            return frame.loc[frame["variant"] == "base", "model"].iat[0]
    return ""


def tuned(held: dict[str, pd.DataFrame]) -> set[str]:
    """Names and ids ("name.merge") of the fine-tunes, as any table has them."""
    found = set()
    for frame in (f for f in held.values() if {"variant", "model", "merge_mode"} <= set(f)):
        for row in frame[frame["variant"] == "sft"].to_dict("records"):
            found |= {row["model"], f"{row['model']}.{row['merge_mode']}"}
    return found


def _tested(rows: pd.DataFrame, metric: str) -> Tally:
    firm = rows[rows["verdict"] == "different"]
    up, largest = firm[firm["difference"] > 0], ""
    if len(firm):
        row = firm.loc[firm["difference"].abs().idxmax()]
        low, high = row.get("difference_ci_low", math.nan), row.get("difference_ci_high", math.nan)
        ends = f" [{low:+.3g}, {high:+.3g}]" if low == low else ""
        where = f" on {row['dataset']}" if row.get("dataset", "") else ""
        n = f", n = {row['n']:.0f}" if "n" in row else ""
        unit = UNITS.get(metric, layout.words(metric))
        largest = f"; the largest difference is {row['difference']:+.3g}{ends} {unit} ({layout.label(row['model'], row.get('merge_mode', ''))}{where}{n})"
    return Tally(len(up), len(firm) - len(up), len(rows) - len(firm), largest)


def _overlaps(frame: pd.DataFrame | None, metric: str) -> Tally:
    """Fine-tunes whose interval leaves out the base's, by data set."""
    if frame is None or f"{metric}_ci_low" not in frame or "variant" not in frame:
        return Tally(paired=False)
    up = down = apart = 0
    for _, part in frame.groupby("dataset" if "dataset" in frame else "base", sort=False):
        base = part[part["variant"] == "base"]
        if not len(base):
            continue
        low, high = base[f"{metric}_ci_low"].iat[0], base[f"{metric}_ci_high"].iat[0]
        for row in part[part["variant"] == "sft"].to_dict("records"):
            above, below = row[f"{metric}_ci_low"] > high, row[f"{metric}_ci_high"] < low
            up, down, apart = up + above, down + below, apart + (not above and not below)
    return Tally(up, down, apart, paired=False)
