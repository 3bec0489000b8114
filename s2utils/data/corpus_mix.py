"""The mix of a corpus: what each component weighs, how often its documents are seen; whether published mixes add up.

effective size = raw size · epochs; weight = effective size / their sum; a mix is thus given by epochs, or by weights
and a budget (`epochs_for`). Published tables lie as printed in reports/published/<paper>/; a printed number stands for
all that round to it, so each recomputed cell says how far its inputs' rounding moves it. Trap: sizes are UTF-8 bytes
here, GiB in The Pile, GB in Dolma. Source: Gao et al. 2020, section 2 and table 1.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from s2utils.data.parameters import Component
from s2utils.workflow import paths

FACTS = ("licence", "terms", "consent")
SUMS_TO = 1e-6  # how far weights may be from 1
SEEN = 300  # billion tokens that GPT-3's epochs are printed for


def table(sizes: pd.DataFrame, components: Mapping[str, Component]) -> pd.DataFrame:
    """One row per component, then "total": raw_size and effective_size in bytes, weight (0–1), mean_document_size.

    `sizes` has a row per component with component, documents, raw_size. Raises ValueError for a component without
    documents or without a row of its own.
    """
    counted = sizes.set_index("component")
    if missing := [name for name in components if name not in counted.index or not counted.at[name, "documents"]]:
        raise ValueError(f"no documents of {', '.join(missing)}: it cannot weigh anything; leave it out of the mix")
    rows = []
    for name, component in components.items():
        raw, documents = int(counted.at[name, "raw_size"]), int(counted.at[name, "documents"])
        facts = {fact: getattr(component, fact) for fact in FACTS}
        row = {"component": name, "raw_size": raw, "epochs": component.epochs, "effective_size": raw * component.epochs}
        rows.append(row | {"documents": documents, "mean_document_size": raw / documents} | facts)
    frame = pd.DataFrame(rows)
    raw, effective, documents = (frame[column].sum() for column in ("raw_size", "effective_size", "documents"))
    whole = {"component": "total", "raw_size": raw, "epochs": effective / raw, "effective_size": effective}
    whole |= {"documents": documents, "mean_document_size": raw / documents} | dict.fromkeys(FACTS, "")
    frame = pd.concat([frame, pd.DataFrame([whole])], ignore_index=True)
    frame.insert(2, "weight", frame["effective_size"] / effective)
    return frame


def epochs_for(weights: Mapping[str, float], raw_sizes: Mapping[str, int], budget: float) -> dict[str, float]:
    """Epochs of each component under which its share of a corpus of `budget` bytes is its weight.

    Raises ValueError where weights do not sum to 1, one is not above 0, or one has no component.
    """
    if bad := [f"{name} {weight}" for name, weight in weights.items() if not weight > 0]:
        raise ValueError(f"weights must be above 0, not {', '.join(bad)}: leave a component out instead")
    if abs(math.fsum(weights.values()) - 1) > SUMS_TO:
        raise ValueError(f"weights sum to {math.fsum(weights.values()):.6g}, not 1: divide each by it, or correct one")
    if unknown := [name for name in weights if not raw_sizes.get(name)]:
        raise ValueError(f"no text of {', '.join(unknown)}; there is {', '.join(raw_sizes)}")
    return {name: weight * budget / raw_sizes[name] for name, weight in weights.items()}


def copies(documents: int, epochs: float, seed: int) -> np.ndarray:
    """How often each document is seen, shape (documents,): epochs rounded down, and once more for a seeded share.

    Raises ValueError for epochs that are not above 0.
    """
    if not epochs > 0:
        raise ValueError(f"epochs must be above 0, not {epochs}")
    whole = math.floor(epochs)
    counts = np.full(documents, whole, dtype=np.int64)
    more = round((epochs - whole) * documents)
    counts[np.random.default_rng(seed).choice(documents, more, replace=False)] += 1
    return counts


def published(paper: str, name: str) -> pd.DataFrame:
    """The table reports/published/<paper>/<name>.csv, cells as printed (texts; "" where nothing is)."""
    return pd.read_csv(paths.root() / "reports" / "published" / paper / f"{name}.csv", dtype=str, keep_default_na=False)


def published_numbers(paper: str, name: str) -> pd.DataFrame:
    """`published` with numbers where a column holds them, NaN where nothing is printed."""
    return pd.read_csv(io.StringIO(published(paper, name).to_csv(index=False)))


def recomputed() -> pd.DataFrame:
    """One row per cell of the published mixes that follows from others: paper, row, column, printed, recomputed, …

    `rounding` is how far the rounding of what it is computed from can move it; `adds_up` is "exactly" where it rounds
    to what is printed, "within rounding" where that explains the rest, else "no". GPT-3's epochs follow from 300
    billion tokens, weight and quantity; where the table prints no quantity there is no row.
    """
    return pd.DataFrame([*_pile(), *_dolma(), *_llama1(), *_gpt3()])


def _pile() -> list[dict]:
    frame = published("pile", "components")
    parts, total = frame[frame["kind"] == "component"], frame[frame["kind"] == "total"].iloc[0]
    whole, rows = float(total["effective_size_gib"]), []
    for part in parts.to_dict("records"):
        raw, epochs, effective = part["raw_size_gib"], float(part["epochs"]), part["effective_size_gib"]
        rows.append(_cell("pile", part["component"], "effective_size_gib", effective, float(raw) * epochs,
                          half_unit(raw) * epochs))  # fmt: skip
        rows.append(_cell("pile", part["component"], "weight_percent", part["weight_percent"],
                          100 * float(effective) / whole, 100 * half_unit(effective) / whole))  # fmt: skip
    for column in ("raw_size_gib", "effective_size_gib"):
        rows.append(_sum("pile", "The Pile", column, total[column], parts[column]))
    rows.append(_sum("pile", "The Pile", "weight_percent", "100.00", parts["weight_percent"]))
    documents = sum(float(p.raw_size_gib) / float(p.mean_document_size_kib) for p in parts.itertuples())
    moved = sum(  # each mean is printed with two decimals
        float(p.raw_size_gib) * half_unit(p.mean_document_size_kib) / float(p.mean_document_size_kib) ** 2
        for p in parts.itertuples()
    )
    mean = float(total["raw_size_gib"]) / documents
    rows.append(_cell("pile", "The Pile", "mean_document_size_kib", total["mean_document_size_kib"], mean,
                      mean * moved / documents))  # fmt: skip
    return rows


def _dolma() -> list[dict]:
    frame = published("dolma", "sources")
    parts, total = frame[frame["kind"] == "source"], frame[frame["kind"] == "total"].iloc[0]
    columns = ("utf8_bytes_gb", "documents_millions", "gpt_neox_tokens_billions")
    return [_sum("dolma", "Total", column, total[column], parts[column]) for column in columns]


def _llama1() -> list[dict]:
    return [_sum("llama1", "all", "sampling_percent", "100.0", published("llama1", "data")["sampling_percent"])]


def _gpt3() -> list[dict]:
    frame = published("gpt3", "mix")
    rows = []
    for part in frame[frame["quantity_billion_tokens"] != ""].to_dict("records"):
        weight, quantity = part["weight_percent"], part["quantity_billion_tokens"]
        epochs = float(weight) / 100 * SEEN / float(quantity)
        moved = epochs * (half_unit(weight) / float(weight) + half_unit(quantity) / float(quantity))
        rows.append(_cell("gpt3", part["dataset"], "epochs_at_300b_tokens", part["epochs_at_300b_tokens"], epochs,
                          moved))  # fmt: skip
    return [*rows, _sum("gpt3", "all", "weight_percent", "100", frame["weight_percent"])]


def half_unit(printed: str) -> float:
    """Half a unit of the last printed digit."""
    return 0.5 * 10.0 ** -len(printed.partition(".")[2])


def _sum(paper: str, row: str, column: str, printed: str, parts: pd.Series) -> dict:
    return _cell(paper, row, column, printed, math.fsum(map(float, parts)), math.fsum(map(half_unit, parts)))


def _cell(paper: str, row: str, column: str, printed: str, value: float, rounding: float) -> dict:
    apart, slack = abs(float(printed) - value), half_unit(printed) * (1 + 1e-9)
    verdict = "exactly" if apart <= slack else "within rounding" if apart <= slack + rounding else "no"
    return {
        "paper": paper, "row": row, "column": column, "printed": float(printed), "recomputed": value,
        "rounding": rounding, "adds_up": verdict,
    }  # fmt: skip
