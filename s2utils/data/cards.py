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
SETS = {"": "fine-tuning pairs", "rm_": "pairs for reward modelling", "rl_": "prompts for reinforcement learning"}


def dataset(params: Params, sizes: pd.DataFrame, funnel: pd.DataFrame, example: pd.Series) -> str:
    """Card of the data sets a profile made: origin, licence, counts, rules, an example, limits.

    `sizes` has dataset, set, split, n; `example` is one row of the validation split.
    """
    s2 = params.s2
    configs = "".join(
        f"- config_name: {prefix.rstrip('_') or 'sft'}\n{'  default: true' if not prefix else ''}"
        + ("\n" if not prefix else "")
        + "  data_files:\n"
        + "".join(f"  - split: {s}\n    path: {prefix}{s}.parquet\n" for s in SPLITS)
        for prefix in SETS
    )
    origin = "\n".join(
        f"- **{name}** from `{s.path}` ({embedded_archive(s.path)}); licence: {LICENCES.get(s.path, 'see the source')}"
        for name, s in params.data.sources.items()
    )
    order = "\n".join(f"- {kind}: {', '.join(f'`{n}`' for n in names)}" for kind, names in s2.steps.items())
    named = "; ".join(f"`{prefix.rstrip('_') or 'sft'}`: {what}" for prefix, what in SETS.items())
    later = ", ".join(f"`{n}`" for n in [*s2.corpus_steps, *s2.sft_steps]) or "none"
    return (
        "---\nlanguage: en\ntask_categories:\n- question-answering\n- text-generation\ntags:\n- simple-english\n- readability\n"
        f"configs:\n{configs}---\n# Simple and safe question-answer pairs: {', '.join(params.data.sources)}\n\n"
        f"## Origin\n\n{origin}\n\n"
        f"## Rules\n\nReading ease at least {s2.fre_min:g}, grade below {s2.fkg_max:g} (`{s2.readability}`), toxicity at most "
        f"{s2.toxicity_max:g} (`{s2.toxicity_model}`), votes at least {s2.score_min} where there are any; questions across "
        f"splits have a cosine under {params.data.leakage_cosine:g} (`{params.data.embedder.path}`). Steps in order, by kind of "
        f"source:\n\n{order}\n\nthen on all that is left: {later}.\n\n"
        f"## Sets and sizes\n\n{named}. No question is in two "
        f"of them.\n\n{_table(sizes)}\n\n## Funnel\n\n{_table(funnel)}\n\n"
        f"## Example\n\n> **{_line(example['question'])}**\n>\n> {_line(example['answer'])}\n\n"
        "## Limits\n\nA readability formula sees the length of words and sentences only. The toxicity model misses polite hate. "
        "Questions for articles are written by a language model; the answers are human text. Texts may name living people; "
        f"personal details are {'masked' if any('mask_personal' in n for n in s2.steps.values()) else 'not masked'}.\n"
    )


def _line(text: str) -> str:
    """Text in one line of Markdown, nothing of it taken for markup or HTML: a text could bring a picture along."""
    return re.sub(r"([\\`*_\[\]!|#~])", r"\\\1", html.escape(" ".join(text.split())[:600], quote=False))


def _table(frame: pd.DataFrame) -> str:
    head = f"| {' | '.join(frame.columns)} |\n|{'---|' * len(frame.columns)}"
    rows = (
        " | ".join(f"{v:,}" if isinstance(v, int) else str(v) for v in row) for row in frame.itertuples(index=False)
    )
    return "\n".join([head, *(f"| {row} |" for row in rows)])


def embedded_archive(path: str) -> str:
    """The pinned archive behind an `embedded:` path, or where else the source lives."""
    if not path.startswith("embedded:"):
        return "hub or local file"
    return packaged.ARCHIVES[packaged.CONTENTS[path.removeprefix("embedded:")][0]].requirement


def pick(records: pd.DataFrame, held: pd.DataFrame | None, n: int, seed: int) -> pd.DataFrame:
    """The `n` seeded examples of each reason among `records` and those `held` already: any order gives the same."""
    found = records.assign(rank=pd.util.hash_pandas_object(records["id"], index=False, hash_key=f"{seed:016d}"))
    if held is not None:
        found = pd.concat([held, found])
    return found.sort_values("rank").groupby(["dataset", "dropped"]).head(n)


def examples(picked: pd.DataFrame, counts: pd.Series) -> HTML:
    """Examples of each reason, escaped, each behind a click. `counts` has n by (dataset, reason)."""
    parts = []
    for (name, reason), rows in picked.groupby(["dataset", "dropped"]):
        texts = "".join(
            f"<li><b>{html.escape(q[:200])}</b> {html.escape(a[:400]) or '<i>no text kept</i>'}</li>"
            for q, a in zip(rows["question"], rows["answer"])
        )
        parts.append(
            f"<details><summary>{html.escape(name)} · {html.escape(reason)} ({counts.get((name, reason), 0):,})</summary><ul>{texts}</ul></details>"
        )
    return HTML("".join(parts))
