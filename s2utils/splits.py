"""Disjoint splits without leakage: no question of one split is close to a question of another.

Questions are embedded (mean-pooled sentence encoder, unit length); across splits a cosine at or above
the limit removes the example from the larger split (the study: all-mpnet-base-v2, 0.6).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from s2utils import artefacts
from s2utils.params import Data, Weights

SPLITS = ("train", "validation", "test")
COLUMNS = ["dataset", "id", "question", "answer", "group", "score", "n_words", "fre", "fkg"]


def embed(
    texts: list[str], weights: Weights, max_tokens: int, batch_size: int = 64, label: str = "embed"
) -> np.ndarray:
    """Unit sentence vectors, shape (len(texts), d), float32. Texts are cut at `max_tokens`."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    from s2utils import models

    path, options = models.located(weights)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tok = AutoTokenizer.from_pretrained(path, **options)
    encoder = AutoModel.from_pretrained(path, use_safetensors=True, **options).eval().to(device)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    vectors = np.empty((len(texts), encoder.config.hidden_size), dtype=np.float32)
    for start in tqdm(range(0, len(order), batch_size), desc=label, unit="batch"):
        rows = order[start : start + batch_size]
        batch = tok(
            [texts[i] for i in rows], padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
        ).to(device)
        with torch.inference_mode():
            hidden = encoder(**batch).last_hidden_state  # (B, T, d)
        mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        vectors[rows] = torch.nn.functional.normalize(mean, dim=1).float().cpu().numpy()
    return vectors


def assign(frame: pd.DataFrame, data: Data, seed: int) -> pd.Series:
    """Split of each kept row: validation and test take a seeded sample of every data set, train the rest."""
    split = pd.Series("train", index=frame.index)
    for number, name in enumerate(data.sources):
        rows = frame.index[frame["dataset"] == name].to_numpy(copy=True)
        order = np.random.default_rng([seed, number]).permutation(rows)
        split[order[: data.validation[name]]] = "validation"
        split[order[data.validation[name] : data.validation[name] + data.test[name]]] = "test"
    return split


def leaks(vectors: np.ndarray, split: pd.Series, limit: float, block: int = 2048) -> tuple[np.ndarray, pd.DataFrame]:
    """(mask of rows to remove, the pairs behind it): larger splits lose what comes too close to smaller ones.

    `vectors` are unit length, one a row of `split`. The frame has left, right (positions) and cosine.
    """
    sizes = split.value_counts()
    order = sorted(SPLITS, key=lambda s: (sizes.get(s, 0), SPLITS.index(s) == 0))  # smallest first, train last
    remove, pairs = np.zeros(len(split), dtype=bool), []
    for i, smaller in enumerate(order):
        for larger in order[i + 1 :]:
            left = np.flatnonzero((split == smaller).to_numpy() & ~remove)
            right = np.flatnonzero((split == larger).to_numpy() & ~remove)
            for start in range(0, len(right), block):
                part = right[start : start + block]
                if not len(left):
                    continue
                cosine = vectors[part] @ vectors[left].T
                close = cosine.max(axis=1)
                hit = close >= limit
                remove[part[hit]] = True
                pairs += zip(left[cosine.argmax(axis=1)[hit]], part[hit], close[hit])
    return remove, pd.DataFrame(pairs, columns=["left", "right", "cosine"])


def divide(frame: pd.DataFrame, data: Data, seed: int) -> pd.DataFrame:
    """Give every kept row of `frame` its `split`, in place, and drop what leaks or is beyond `train_max`.

    Returns the leaking pairs: kept question, removed question, cosine.
    """
    kept = frame[frame["dropped"] == ""]
    split = assign(kept, data, seed)
    vectors = embed(kept["question"].tolist(), data.embedder, data.embedder_tokens, label="embed questions")
    remove, pairs = leaks(vectors, split, data.leakage_cosine)
    frame["split"] = split.reindex(frame.index).fillna("")
    frame.loc[kept.index[remove], ["dropped", "split"]] = [
        f"cosine {data.leakage_cosine:g} or more to a smaller split",
        "",
    ]
    for name in data.sources if data.train_max else ():
        rows = frame.index[(frame["split"] == "train") & (frame["dataset"] == name)].to_numpy(copy=True)
        beyond = np.random.default_rng(seed).permutation(rows)[data.train_max :]
        frame.loc[beyond, ["dropped", "split"]] = ["not needed: data.train_max", ""]
    left = frame[frame["split"] == "train"]["dataset"].value_counts()
    if short := [name for name in data.sources if not left.get(name)]:
        raise ValueError(
            f"{short[0]}: {(kept['dataset'] == short[0]).sum()} records survive the filter, too few for data.validation and "
            "data.test: none is left to train on. Take smaller splits, more records, or wider limits in s2."
        )
    asked = kept["question"].to_numpy()
    return pd.DataFrame(
        {
            "kept": asked[pairs["left"].astype(int)],
            "removed": asked[pairs["right"].astype(int)],
            "cosine": pairs["cosine"],
        }
    )


def write(frame: pd.DataFrame, folder: Path) -> None:
    """One Parquet a split, in a fixed order of rows."""
    for name in SPLITS:
        rows = frame[frame["split"] == name].sort_values(["dataset", "id"])[COLUMNS].reset_index(drop=True)
        with artefacts.replacing(folder / f"{name}.parquet", "wb") as file:
            rows.to_parquet(file, index=False)


def read(folder: Path, split: str, dataset: str, union: str) -> pd.DataFrame:
    """Rows of a split: one data set's, or all of them for the union."""
    frame = pd.read_parquet(folder / f"{split}.parquet")
    return frame if dataset == union else frame[frame["dataset"] == dataset].reset_index(drop=True)


def sample(folder: Path, split: str, dataset: str, union: str, n: int, seed: int) -> pd.DataFrame:
    """The first `n` rows after a seeded shuffle (the study: seed 50, first 100); `source` is a row's own data set."""
    frame = read(folder, split, dataset, union)
    order = np.random.default_rng(seed).permutation(len(frame))[:n]
    return frame.iloc[order].reset_index(drop=True).rename(columns={"dataset": "source"}).assign(dataset=dataset)
