"""Data cards in hub format, and examples of what the filter dropped.

Trap: texts come from strangers; they are escaped, and offensive ones stay behind a click.
"""

from __future__ import annotations

import html
import re

import pandas as pd
from IPython.display import HTML

from s2utils.data.splits import SPLITS
from s2utils.workflow import packaged
from s2utils.workflow.params import Params

LICENCES = {
    "embedded:sciq": "CC BY-NC 3.0 (SciQ)",
    "embedded:wikilead": "CC BY-SA 4.0 (Wikipedia)",
    "vblagoje/lfqa": "reddit text, no licence stated",
    "rexarski/eli5_category": "reddit text, no licence stated",
    "wikimedia/wikipedia": "CC BY-SA 3.0 and GFDL",
}
HEAD = (
    "---", "language: en", "task_categories:", "- question-answering", "- text-generation", "tags:", "- simple-english",
    "- readability", "configs:",
)  # fmt: skip
SETS = {"": "fine-tuning pairs", "rm_": "pairs for reward modelling", "rl_": "prompts for reinforcement learning"}


def dataset(params: Params, sizes: pd.DataFrame, funnel: pd.DataFrame, example: pd.Series) -> str:
    """Card of the data sets a profile made: origin, licence, counts, rules, an example, limits.

    `sizes` has dataset, set, split, n; `example` is one row of the validation split.
    """
    s2, names = params.s2, {prefix.rstrip("_") or "sft": prefix for prefix in SETS}
    configs = []
    for name, prefix in names.items():
        configs += [f"- config_name: {name}", *(["  default: true"] if not prefix else []), "  data_files:"]
        configs += [f"  - split: {split}\n    path: {prefix}{split}.parquet" for split in SPLITS]
    origin = [
        f"- **{name}** from `{s.path}` ({_archive(s.path)}); licence: {LICENCES.get(s.path, 'see the source')}"
        for name, s in params.data.sources.items()
    ]
    steps = [f"- {kind}: {', '.join(f'`{name}`' for name in listed)}" for kind, listed in s2.steps.items()]
    later = ", ".join(f"`{name}`" for name in [*s2.corpus_steps, *s2.sft_steps]) or "none"
    rules = (
        f"Reading ease at least {s2.fre_min:g}, grade below {s2.fkg_max:g} (`{s2.readability}`), toxicity at most "
        f"{s2.toxicity_max:g} (`{s2.toxicity_model}`), votes at least {s2.score_min} where there are any; questions "
        f"across splits have a cosine under {params.data.leakage_cosine:g} (`{params.data.embedder.path}`). Steps in "
        "order, by kind of source:"
    )
    sets = "; ".join(f"`{name}`: {SETS[prefix]}" for name, prefix in names.items())
    masked = "masked" if any("mask_personal" in listed for listed in s2.steps.values()) else "not masked"
    sections = {
        "Origin": "\n".join(origin),
        "Rules": "\n".join([rules, "", *steps, "", f"then on all that is left: {later}."]),
        "Sets and sizes": f"{sets}. No question is in two of them.\n\n{_table(sizes)}",
        "Funnel": _table(funnel),
        "Example": f"> **{_line(example['question'])}**\n>\n> {_line(example['answer'])}",
        "Limits": "A readability formula sees the length of words and sentences only. The toxicity model misses polite "
        "hate. Questions for articles are written by a language model; the answers are human text. Texts may name "
        f"living people; personal details are {masked}.",
    }
    head = [*HEAD, *configs, "---", f"# Simple and safe question-answer pairs: {', '.join(params.data.sources)}"]
    return "\n".join(head) + "".join(f"\n\n## {title}\n\n{text}" for title, text in sections.items()) + "\n"


def _line(text: str) -> str:
    """Text in one line of Markdown, nothing of it taken for markup or HTML: a text could bring a picture along."""
    return re.sub(r"([\\`*_\[\]!|#~])", r"\\\1", html.escape(" ".join(text.split())[:600], quote=False))


def _table(frame: pd.DataFrame) -> str:
    rows = [[f"{v:,}" if isinstance(v, int) else str(v) for v in row] for row in frame.itertuples(index=False)]
    lines = [f"| {' | '.join(row)} |" for row in [frame.columns, *rows]]
    return "\n".join([lines[0], f"|{'---|' * len(frame.columns)}", *lines[1:]])


def _archive(path: str) -> str:
    """The pinned archive behind an `embedded:` path, or where else the source lives."""
    if not path.startswith("embedded:"):
        return "hub or local file"
    return packaged.ARCHIVES[packaged.CONTENTS[path.removeprefix("embedded:")][0]].requirement


def pick(records: pd.DataFrame, picked: pd.DataFrame | None, n: int, seed: int) -> pd.DataFrame:
    """The `n` seeded examples of each reason among `records` and those `picked` already: any order gives the same."""
    ranked = records.assign(rank=pd.util.hash_pandas_object(records["id"], index=False, hash_key=f"{seed:016d}"))
    candidates = ranked if picked is None else pd.concat([picked, ranked])
    return candidates.sort_values("rank").groupby(["dataset", "dropped"]).head(n)


def examples(picked: pd.DataFrame, counts: pd.Series) -> HTML:
    """Examples of each reason, escaped, each behind a click. `counts` has n by (dataset, reason)."""
    parts = []
    for (name, reason), rows in picked.groupby(["dataset", "dropped"]):
        texts = "".join(
            f"<li><b>{html.escape(question[:200])}</b> {html.escape(answer[:400]) or '<i>no text kept</i>'}</li>"
            for question, answer in zip(rows["question"], rows["answer"])
        )
        summary = f"{html.escape(name)} · {html.escape(reason)} ({counts.get((name, reason), 0):,})"
        parts.append(f"<details><summary>{summary}</summary><ul>{texts}</ul></details>")
    return HTML("".join(parts))
