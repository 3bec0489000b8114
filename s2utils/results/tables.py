"""Tables: measured beside published, written as CSV, Markdown and LaTeX.

Every table is wide: one row per model (and data set), n, then `<metric>`, `<metric>_ci_low`,
`<metric>_ci_high`, `<metric>_n_failed`, and where rows were compared `<metric>_mark` (`marks`). Published values join
where model, merge mode and data set match. Trap: bold is written as in Markdown, `**1.00**`, in what readers see.
"""

from __future__ import annotations

import html
import math
import re
from pathlib import Path

import pandas as pd

from s2utils.evaluation.metrics import METRICS
from s2utils.results import best_rows
from s2utils.results.latex import symbol
from s2utils.workflow import artefacts, paths

KEYS = ["model", "base", "variant", "train_set", "merge_mode", "dataset"]
TITLES = {
    "leaderboard": "Table 1 · Open LLM Leaderboard (v1 tasks, %)",
    "rouge": "Table 2 · ROUGE F1 of the answers",
    "bertscore": "Table 3 · BERTScore of the answers",
    "flesch": "Table 4 · Readability of the answers",
    "mtbench": "Table 5 · MT(S)-bench, judge's rating 1–10",
    "judge": "Table 6 · Judged validation set, 1–10",
}
HEADLINES = {
    "leaderboard": "average", "rouge": "rouge_l_f1", "bertscore": "bertscore_f1", "flesch": "flesch_reading_ease",
    "mtbench": "single_turn_rating", "judge": "judge_rating",
}  # fmt: skip
LABELS = {
    "average": "Average", "arc_acc_norm": "ARC", "hellaswag_acc_norm": "HellaSwag", "mmlu_acc": "MMLU",
    "truthfulqa_mc2": "TruthfulQA", "rouge_1_f1": "ROUGE-1", "rouge_2_f1": "ROUGE-2", "rouge_l_f1": "ROUGE-L",
    "rouge_lsum_f1": "ROUGE-Lsum", "bertscore_precision": "Precision", "bertscore_recall": "Recall",
    "bertscore_f1": "F1", "flesch_reading_ease": "Reading ease", "flesch_kincaid_grade": "Grade",
    "single_turn_rating": "Single turn", "multi_turn_rating": "Multi-turn",
    "judge_rating": "Overall", "judge_simplicity": "Simplicity", "judge_helpfulness": "Helpfulness",
    "judge_relevance": "Relevance", "judge_accuracy": "Accuracy", "judge_depth": "Depth", "judge_safety": "Safety",
}  # fmt: skip
PUBLISHED = {
    "leaderboard": "Published: harness of 2023 (v1), no intervals.",
    "rouge": "Published: prompt probably scored with the answer, no intervals.",
    "bertscore": "Published: prompt probably scored with the answer, no intervals.",
    "flesch": "Published: prompt scored with the answer, textstat 0.7.3, no intervals.",
    "mtbench": "Published: 30 questions of MT-bench, rated by GPT-4, no intervals.",
    "judge": "Published (revision): 100 questions, one rating each by GPT-4, no intervals.",
}
DECIMALS = {"leaderboard": 2, "rouge": 4, "bertscore": 4, "flesch": 2, "mtbench": 2, "judge": 2}
MAKERS = {name: "mtbench" if name == "judge" else "text_metrics" for name in METRICS} | {
    n: n for n in ("leaderboard", "mtbench")
}
REVISED = ("judge",)  # tables that only the revision has


def read_table(path: Path) -> pd.DataFrame:
    """A table as it was written: keys are text (a model may be called "null"), everything else numbers."""
    keys, numbers = [], []
    for column in pd.read_csv(path, nrows=0):
        (keys if column in KEYS or column.endswith("_mark") else numbers).append(column)
    return pd.read_csv(
        path, dtype=dict.fromkeys(keys, str), keep_default_na=False, na_values=dict.fromkeys(numbers, "")
    )


def published(name: str) -> pd.DataFrame:
    """A table of the paper, with our column names, nan where it has none; `merge_mode` is "none" where nothing was merged."""
    folder = paths.root() / "reports" / "published" / ("revised" if name in REVISED else "")
    frame = pd.read_csv(folder / f"{name}.csv", keep_default_na=False)
    frame["merge_mode"] = frame["merge_mode"].replace("", "none")
    frame = frame.rename(columns={theirs: ours for ours, theirs in METRICS[name].items() if theirs})
    return frame.assign(**{metric: math.nan for metric in METRICS[name] if metric not in frame})


def beside(measured: pd.DataFrame, name: str) -> pd.DataFrame:
    """`measured` with a column `<metric>_published` each, empty where the paper has no such row."""
    paper = published(name)
    on = [k for k in ("model", "merge_mode", "dataset") if k in measured and k in paper]
    metrics = list(METRICS[name])
    return measured.merge(paper[on + metrics], on=on, how="left", suffixes=("", "_published"))


def shown(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """`frame` as readers see it: one cell a metric, "value [low, high]", failures and published values beside."""
    digits = DECIMALS[name]
    view = pd.DataFrame({k.replace("_", " "): frame[k] for k in ("dataset", "model", "merge_mode") if k in frame})
    for count, label in (("n", "n"), ("n_cut", "cut"), ("n_looping", "loops")):
        if count in frame:
            view[label] = frame[count]
    for metric in METRICS[name]:
        view[LABELS[metric]] = [cell(frame, i, metric, digits) for i in frame.index]
        theirs = f"{metric}_published"
        if theirs in frame and frame[theirs].notna().any():
            view[f"{LABELS[metric]}, published"] = [f"{v:.{digits}f}" if v == v else "" for v in frame[theirs]]
    return view


def cell(frame: pd.DataFrame, i: int, metric: str, digits: int) -> str:
    """Row `i` of a metric as readers see it: "value [low, high] (k failed)"; the best "**value**", or "value†"."""
    value = frame.at[i, metric]
    mark = frame.at[i, f"{metric}_mark"] if f"{metric}_mark" in frame else ""
    if not isinstance(value, (int, float)) or math.isnan(value):
        text = "–"
    else:
        text = f"{value:.{digits}f}"
        text = f"**{text}**" if mark == best_rows.BEST else f"{text}†" if mark == best_rows.ALIKE else text
        low = frame.at[i, f"{metric}_ci_low"] if f"{metric}_ci_low" in frame else math.nan
        if low == low:
            text += f" [{low:.{digits}f}, {frame.at[i, f'{metric}_ci_high']:.{digits}f}]"
    failed = frame.at[i, f"{metric}_n_failed"] if f"{metric}_n_failed" in frame else 0
    return text + (f" ({int(failed)} failed)" if failed else "")


BOLD = re.compile(r"\*\*(-?[\d.]+)\*\*")  # of a number only, so that no name can ask for it


def bold(escaped: str, start: str, end: str) -> str:
    """Text that is escaped already, with `start` and `end` around what is bold."""
    return BOLD.sub(lambda found: f"{start}{found[1]}{end}", escaped)


def write(frame: pd.DataFrame, name: str, folder: Path, caption: str, best: pd.DataFrame | None = None) -> pd.DataFrame:
    """Write <name>.csv, .md, .tex and .txt (the caption) into `folder`; returns what readers see.

    `best` are the marks of `marks.best`; the caption of a table with marks should say what they mean (`marks.legend`).
    """
    frame = beside(frame if best is None else best_rows.marked(frame, best), name).round(6)
    if frame[[f"{m}_published" for m in METRICS[name]]].notna().any(axis=None):
        caption = f"{caption} {PUBLISHED[name]}"
    view = shown(frame, name)
    with artefacts.replacing(folder / f"{name}.csv") as file:
        frame.to_csv(file, index=False, lineterminator="\n")
    with artefacts.replacing(folder / f"{name}.md") as file:
        file.write(f"**{TITLES[name]}.** {caption}\n\n{markdown(view)}\n")
    with artefacts.replacing(folder / f"{name}.tex") as file:
        file.write(latex(view, f"{TITLES[name]}. {caption}", f"tab:{name}"))
    with artefacts.replacing(folder / f"{name}.txt") as file:
        file.write(caption + "\n")
    return view


def markdown(view: pd.DataFrame) -> str:
    """GitHub table; pipes and HTML in cells are escaped, bold numbers stay so."""
    rows = [view.columns, ["---"] * len(view.columns), *view.astype(str).itertuples(index=False)]
    return "\n".join(
        "| " + " | ".join(html.escape(str(c), quote=False).replace("|", "\\|").replace("\n", " ") for c in r) + " |"
        for r in rows
    )


def latex(view: pd.DataFrame, caption: str, label: str) -> str:
    """A booktabs table in a float."""
    rows = view.astype(str).itertuples(index=False)
    body = [" & ".join(bold(latex_text(cell), r"\textbf{", "}") for cell in row) + r" \\" for row in rows]
    left = sum(c in ("dataset", "model", "merge mode") for c in view.columns)
    return "\n".join(
        [r"\begin{table}", r"\centering\small", rf"\caption{{{latex_text(caption)}}}", rf"\label{{{label}}}",
         rf"\begin{{tabular}}{{{'l' * left}{'r' * (len(view.columns) - left)}}}", r"\toprule",
         " & ".join(map(latex_text, view.columns)) + r" \\", r"\midrule", *body, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    )  # fmt: skip


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "·": r"$\cdot$",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "†": r"$^\dagger$",
}


def latex_text(value: object) -> str:
    """Text with LaTeX's special characters escaped, and all others such that pdflatex sets them."""
    return "".join(_LATEX.get(c, rf"\{c}" if c in "&%$#_{}" else symbol(c)) for c in str(value))
