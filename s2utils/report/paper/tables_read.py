"""A profile's tables as they were written, for whoever tells of them.

A table that is missing, empty, torn, or without a column that is needed is a gap, told with the notebook that makes it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from s2utils.evaluation import metrics
from s2utils.report.paper.markup import Text, code
from s2utils.results import tables
from s2utils.workflow import paths, steps
from s2utils.workflow.params import Params

TESTED = ("model", "merge_mode", "minus", "minus_merge_mode", "metric", "n", "n_failed", "difference", "verdict")
NEEDED = {  # table → what is read of it; further columns are used where they are there
    "eda_sizes": ("01_eda", "dataset", "records", "words_median", "fre_median", "fkg_median", "simple"),
    "eda_limits": ("01_eda", "dataset", "fre_min", "fkg_max", "n", "kept"),
    "eda_backends": ("01_eda", "dataset", "readability", "n", "kept"),
    "eda_vocabulary": ("01_eda", "dataset", "kept", "n", "easy_words"),
    "eda_toxicity": ("01_eda", "dataset", "kept", "n", "toxic"),
    "eda_lengths": ("01_eda", "dataset", "n", "too_long", "n_words_median", "n_tokens_p95"),
    "eda_votes": ("01_eda", "dataset", "votes", "share"),
    "funnel": ("02_datasets", "dataset", "reason", "n"),
    "sets": ("02_datasets", "dataset", "set", "split", "n"),
    "questions": ("02_datasets", "dataset", "attempt", "reason", "n"),
    "sft": ("03_sft", "train_set", "train_rows", "eval_rows", "eval_loss_before", "eval_loss_after", "steps",
            "rows_too_long"),
    "merge": ("04_generate", "train_set", "merge_mode", "n", "kl", "perplexity"),
    "merge_paired": ("04_generate", "train_set", "merge_mode", "minus", "kl_difference"),
    "answers": ("04_generate", "model", "dataset", "n", "cut", "empty"),
    "manner": ("05_text_metrics", *tables.KEYS, "n", "n_cut", "n_looping"),
    "text_metrics_tests": ("05_text_metrics", *TESTED),
    "text_metrics_paired": ("05_text_metrics", "train_set", "merge_mode", "minus"),
    "leaderboard_tests": ("06_leaderboard", *TESTED),
    "leaderboard_paired": ("06_leaderboard", "train_set", "merge_mode", "minus"),
    "protocols": ("06_leaderboard", "metric", "n", "n_changed", "v1", "harness", "difference"),
    "protocols_text": ("05_text_metrics", "dataset", "metric", "choice", "n", "effect"),
    "membership": ("05_text_metrics", "dataset", "texts", "test", "n", "value", "verdict"),
    "mtbench_paired": ("07_mtbench", "train_set", "merge_mode", "minus"),
    "judge_paired": ("07_mtbench", "train_set", "merge_mode", "minus"),
    "judge_pairs": ("07_mtbench", "model", "other", "n", "net"),
    "judge_panel": ("07_mtbench", "check", "passed"),
    "claims": ("", "claim", "statement", "published_verdict", "measured_verdict"),
} | {
    name: (steps.STEPS[metrics.TABLES[name].step].notebook, "model", "merge_mode", "n") for name in metrics.STUDY
}  # fmt: skip


WORDS = ("readability", "votes", "passed", "check", "kind", "judge", "statement", "texts", "test", "choice")  # are text


@dataclass(frozen=True)
class Held:
    """The tables of one profile, each read once."""

    profile: str
    params: Params
    seen: dict[str, tuple[pd.DataFrame | None, str, list[dict]]] = field(
        default_factory=dict, compare=False, repr=False
    )

    @property
    def folder(self) -> Path:
        """Where its tables and figures lie."""
        return paths.reports(self.profile)

    def table(self, name: str) -> pd.DataFrame | None:
        """The table, or None where there is a `gap`."""
        if name not in self.seen:
            frame, why = self._read(name)
            self.seen[name] = frame, why, [] if frame is None else frame.to_dict("records")
        return self.seen[name][0]

    def rows(self, name: str) -> list[dict]:
        """Its rows, none where there is a gap."""
        return [] if self.table(name) is None else self.seen[name][2]

    def gap(self, name: str) -> Text:
        """Why a table cannot be read and what makes it, "" where it can."""
        return Text("") if self.table(name) is not None else Text(self.seen[name][1])

    def _read(self, name: str) -> tuple[pd.DataFrame | None, str]:
        notebook, *columns = NEEDED[name]
        command = f"make {notebook or 'report'} PROFILE={self.profile}"
        made = code(f"notebooks/{notebook}.ipynb" if notebook else "python -m s2utils report")
        try:
            frame = tables.read(self.folder / "tables" / f"{name}.csv")
        except (FileNotFoundError, pd.errors.EmptyDataError):
            frame, why = None, "is missing"
        except (pd.errors.ParserError, UnicodeDecodeError):
            frame, why = None, "cannot be read"
        else:
            lacking = [code(c) for c in columns if c not in frame]
            words = [
                code(c) for c in frame if _measure(c, name, columns) and not pd.api.types.is_numeric_dtype(frame[c])
            ]
            why = f"lacks {', '.join(lacking)}" if lacking else "" if len(frame) else "holds no row"
            why = why or (f"holds words for numbers in {', '.join(words)}" if words else "")
        told = f"*Not measured: the table {code(f'{name}.csv')} {why}; {made} makes it ({code(command)}).*"
        return (None, told) if why else (frame, "")

    def caption(self, name: str) -> str:
        """What was written beneath a table: its protocol."""
        return tables.schema(self.folder / "tables" / f"{name}.csv").get("caption", "")


def _measure(column: str, name: str, needed: list[str]) -> bool:
    """Whether a column must hold numbers."""
    text = column in tables.TEXT or column in WORDS or column.endswith(("_verdict", "_mark", "_comparison"))
    side = column == "kept" and name in ("eda_vocabulary", "eda_toxicity")  # there it says which of two groups
    ours = (column in needed and not text and not side) or column in metrics.columns(name)
    return ours or bool(re.search(r"(^n|^n_\w+|_ci_low|_ci_high|_n|_n_failed|_difference|_published)$", column))
