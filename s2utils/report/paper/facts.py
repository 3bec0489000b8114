"""What the write-up tells of data, training and merging, read from the tables.

Nothing is computed anew but shares, and counts and sums of rows.
"""

from __future__ import annotations

import math

import pandas as pd

from s2utils.report.paper.markup import Text
from s2utils.report.paper.phrases import against, count, number
from s2utils.report.paper.tables_read import Held
from s2utils.results.verdicts import by_interval
from s2utils.workflow import steps
from s2utils.workflow.params import Params

KINDS = {
    "qa": "questions, each with its answer",
    "articles": "articles without a question: a language model writes the question whose answer the text is, and the "
    "answer stays human text",
    "posts": "posts of a forum, each with several answers and their votes",
}


def rules(params: Params) -> list[dict]:
    """For each kind of source in use: its sources, and the steps that a record must pass, in words and in order."""
    s2, found = params.s2, {}
    for name, source in params.data.sources.items():
        found.setdefault(source.kind, []).append(name)
    words = {
        "unescape": "HTML entities are decoded",
        "strip_markdown": "markdown is stripped",
        "drop_quotes": "quoted text is dropped",
        "squeeze": "white space is squeezed",
        "drop_urls": "addresses and their placeholders are dropped",
        "asks": "posts without a question are dropped",
        "markup": "texts that still hold table or image markup are dropped",
        "reading_ease": f"texts with a reading ease under {s2.fre_min:g} are dropped",
        "grade": f"texts with a grade of {s2.fkg_max:g} or more are dropped",
        "leading_paragraphs": f"of an article whole leading paragraphs are kept, until {s2.paragraph_words:,} words",
        "max_words": f"answers over {s2.max_words:,} words are dropped",
        "language": f"texts in another language than {s2.language} are dropped",
        "mask_personal": "personal details are masked",
    }
    rules = []
    for kind, names in found.items():
        own = words | {"min_words": f"answers under {s2.min_words[kind]:,} words are dropped"}
        steps = [own.get(step, step.replace("_", " ")) for step in s2.steps[kind]]
        rules.append({"names": names, "steps": list(dict.fromkeys(steps))})
    return rules


def later(params: Params) -> list[str]:
    """Steps on all that is left, and on the fine-tuning set only, in words."""
    s2 = params.s2
    words = {
        "duplicates": "repeats of a text are dropped",
        "near_duplicates": f"near repeats are dropped (Jaccard similarity {s2.near_duplicate:g})",
        "contamination": f"texts that share {s2.contamination_words} words in a row with an evaluation set are dropped",
        "votes": f"for fine-tuning, answers under {s2.score_min} votes are dropped, where there are votes",
        "toxicity": f"for fine-tuning, answers with a toxicity over {s2.toxicity_max:g} are dropped",
        "edit_tail": "for fine-tuning, answers that end in an edit note are dropped",
    }
    return [words.get(s, s.replace("_", " ")) for s in [*s2.corpus_steps, *s2.sft_steps]]


def funnel(held: Held) -> list[dict]:
    """One row per data set.

    Read, kept, share, and the rule that costs most with its n ("" where nothing is dropped).
    """
    frame, found = held.table("funnel"), []
    for name, part in () if frame is None else frame.groupby("dataset", sort=False):
        counts = part.groupby("reason", sort=False)["n"].sum()
        lost = counts[[r for r in counts.index if r != "read" and not r.startswith("kept")]]
        row = {"dataset": name, "read": counts.get("read", math.nan), "kept": counts.get("kept", 0)}
        row |= {"share": row["kept"] / row["read"] if row["read"] else math.nan}
        found.append(row | {"worst": lost.idxmax() if len(lost) else "", "worst_n": lost.max() if len(lost) else 0})
    return found


def pivoted(frame: pd.DataFrame, rows: list[str], column: str, total: str = "") -> pd.DataFrame:
    """Counts `n` as a table to show; with `total` each also as percent of that row of its data set."""
    wide = frame.pivot_table(index=rows, columns=column, values="n", aggfunc="sum", sort=False)
    if total:  # it stands first, what is kept last
        wide = wide.loc[sorted(wide.index, key=lambda r: (r != total, r.startswith("kept")))]
    shares = 100 * wide / wide.loc[total] if total in wide.index else None
    view = pd.DataFrame({c: pd.Series([number(v, 0) for v in wide[c]], dtype=object) for c in wide})
    for c in wide if shares is not None else ():
        cells = zip(wide.index, view[c], shares[c])
        told = [v if math.isnan(s) or r == total else Text(f"{v} ({number(s, 1)} %)") for r, v, s in cells]
        view[c] = pd.Series(told, dtype=object)
    view = pd.concat([wide.index.to_frame(index=False), view], axis=1)
    return view.rename(columns=lambda name: str(name).replace("_", " "))


def written(held: Held) -> list[dict]:
    """One row per data set of articles: questions asked for, and how many passed at the first and a later attempt."""
    frame, found = held.table("questions"), []
    for name, part in () if frame is None else frame.groupby("dataset", sort=False):
        passed = part[part["reason"] == ""].groupby("attempt")["n"].sum()
        asked = part.loc[part["attempt"] == part["attempt"].min(), "n"].sum()
        first = passed.get(part["attempt"].min(), 0)
        found.append({"dataset": name, "asked": asked, "first": first, "again": passed.sum() - first})
    return found


def raw(held: Held) -> list[dict]:
    """One row per data set of the raw sources: what 01 found, merged from its tables; missing parts are left out."""
    params, found = held.params, []
    own = (params.s2.fre_min, params.s2.fkg_max)
    for row in held.rows("eda_sizes"):
        name = row["dataset"]
        row = {"sizes": row}
        for key, table in (("lengths", "eda_lengths"),):
            row[key] = next((r for r in held.rows(table) if r["dataset"] == name), None)
        limits = {(r["fre_min"], r["fkg_max"]): r for r in held.rows("eda_limits") if r["dataset"] == name}
        row["limits"] = here = limits.get(own)
        if here:
            ends = (here["kept"], here.get("kept_ci_low", math.nan), here.get("kept_ci_high", math.nan))
            row["side"] = against(*ends, 0.5)
            row["looser"] = {
                k: limits.get(v) for k, v in {"ease": (own[0] - 10, own[1]), "grade": (own[0], own[1] + 2)}.items()
            }
        row["backends"] = [r for r in held.rows("eda_backends") if r["dataset"] == name]
        for key, measure in (("vocabulary", "easy_words"), ("toxicity", "toxic")):
            two = {r["kept"]: r for r in held.rows(f"eda_{key}") if r["dataset"] == name}
            row[key] = two if {"kept", "dropped"} <= set(two) else None
            row[f"{key}_apart"] = row[key] and _apart(two["kept"], two["dropped"], measure)
        found.append(row | {"dataset": name})
    return found


def _apart(one: dict, other: dict, metric: str) -> str:
    """Where the intervals of two groups do not meet: "more" or "less" in the first; else ""."""
    ends = [r.get(f"{metric}_ci_{end}", math.nan) for r in (one, other) for end in ("low", "high")]
    return "more" if ends[0] > ends[3] else "less" if ends[1] < ends[2] else ""


# Training and merging


def distances(held: Held) -> list[dict]:
    """One row per train set: its merges' distance to the model that was trained, and what pairs of them say."""
    frame, modes = held.table("merge"), [m for m in held.params.merge.modes if m != "adapter"]
    found = []
    for name, part in () if frame is None else frame.groupby("train_set", sort=False):
        known = {r["merge_mode"]: r for r in part.to_dict("records")}
        pairs = [
            r
            | {
                "verdict": by_interval(
                    r.get("kl_difference_ci_low", math.nan), r.get("kl_difference_ci_high", math.nan)
                )
            }
            for r in held.rows("merge_paired")
            if r["train_set"] == name and r["merge_mode"] in modes and r["minus"] in modes
        ]
        found.append(
            {"train_set": name, "modes": [known[m] for m in modes if m in known], "pairs": pairs, "scale": known}
        )
    return found


def cut(held: Held) -> dict | None:
    """How many answers there are, and how many were cut at the limit or empty; None where there is a gap."""
    rows = held.rows("answers")
    return {key: int(sum(r[key] for r in rows)) for key in ("n", "cut", "empty")} if rows else None


def models(params: Params) -> dict[str, steps.ModelRow]:
    """Id → model."""
    return {row.id: row for row in steps.models(params)}


def few(items: list) -> Text:
    """How many, in words."""
    return count(len(items))
