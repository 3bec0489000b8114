"""Data cards in hub format, and examples of what the filter dropped."""

from __future__ import annotations

import html

import pandas as pd
from IPython.display import HTML

from s2utils import embedded
from s2utils.params import Params

LICENCES = {
    "embedded:sciq": "CC BY-NC 3.0 (SciQ)",
    "embedded:wikilead": "CC BY-SA 4.0 (Wikipedia)",
    "vblagoje/lfqa": "reddit text, no licence stated",
    "wikimedia/wikipedia": "CC BY-SA 3.0 and GFDL",
}


def dataset(params: Params, frame: pd.DataFrame, funnel: pd.DataFrame) -> str:
    """Card of the data sets a profile made: origin, licence, counts, rules, limits."""
    kept = frame[frame["dropped"] == ""]
    sizes = kept.groupby(["dataset", "split"]).size()
    count = "\n".join(f"| {d} | {s} | {n:,} |" for (d, s), n in sizes.items())
    drops = "\n".join(f"| {r.dataset} | {r.reason} | {r.n:,} |" for r in funnel.itertuples())
    origin = "\n".join(
        f"- **{name}** from `{s.path}` ({embedded_archive(s.path)}); licence: {LICENCES.get(s.path, 'see the source')}"
        for name, s in params.data.sources.items()
    )
    s2 = params.s2
    return (
        "---\nlanguage: en\ntask_categories:\n- question-answering\n- text-generation\ntags:\n- simple-english\n- readability\n"
        "configs:\n- config_name: default\n  data_files:\n"
        + "".join(f"  - split: {s}\n    path: {s}.parquet\n" for s in ("train", "validation", "test"))
        + f"---\n# Simple and safe question-answer pairs: {', '.join(params.data.sources)}\n\n## Origin\n\n{origin}\n\n"
        f"## Rules\n\nReading ease at least {s2.fre_min:g}, grade below {s2.fkg_max:g} (`{s2.readability}`), toxicity at most "
        f"{s2.toxicity_max:g} (`{s2.toxicity_model}`); questions across splits have a cosine under {params.data.leakage_cosine:g}.\n\n"
        f"## Sizes\n\n| data set | split | n |\n|---|---|---|\n{count}\n\n## Funnel\n\n| data set | reason | n |\n|---|---|---|\n{drops}\n\n"
        "## Limits\n\nA readability formula sees the length of words and sentences only. The toxicity model misses polite hate. "
        "Questions for articles are written by a language model; the answers are human text.\n"
    )


def embedded_archive(path: str) -> str:
    """The pinned archive behind an `embedded:` path, or where else the source lives."""
    if not path.startswith("embedded:"):
        return "hub or local file"
    return embedded.ARCHIVES[embedded.CONTENTS[path.removeprefix("embedded:")][0]].requirement


def examples(records: pd.DataFrame, n: int, seed: int) -> HTML:
    """`n` seeded examples a reason, escaped, each behind a click."""
    parts = []
    for (name, reason), group in records[records["dropped"] != ""].groupby(["dataset", "dropped"]):
        rows = group.sample(min(n, len(group)), random_state=seed)
        texts = "".join(f"<li>{html.escape(t[:400])}</li>" for t in rows["answer"])
        parts.append(
            f"<details><summary>{html.escape(name)} · {html.escape(reason)} ({len(group):,})</summary><ul>{texts}</ul></details>"
        )
    return HTML("".join(parts))
