"""Disjoint splits without leakage: no question of one split is close to a question of another.

Questions are embedded (mean-pooled sentence encoder, unit length); across splits a cosine at or above
the limit removes the example from the larger split (the study: all-mpnet-base-v2, 0.6).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from s2utils.data.parameters import Data
from s2utils.models.parameters import Weights
from s2utils.workflow import artefacts

SPLITS = ("train", "validation", "test")
COLUMNS = ["dataset", "id", "question", "answer", "group", "score", "n_words", "fre", "fkg"]


def embed(
    texts: list[str], weights: Weights, max_tokens: int, batch_size: int = 64, label: str = "embed"
) -> np.ndarray:
    """Unit sentence vectors, shape (len(texts), d), float32. Texts are cut at `max_tokens`."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    from s2utils.models import loading

    path, options = loading.located(weights)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tok = AutoTokenizer.from_pretrained(path, **options)
    encoder = AutoModel.from_pretrained(path, use_safetensors=True, **options).eval().to(device)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    vectors = np.empty((len(texts), encoder.config.hidden_size), dtype=np.float32)
    for start in tqdm(range(0, len(order), batch_size), desc=label, unit="batch"):
        rows = order[start : start + batch_size]
        cut = {"padding": True, "truncation": True, "max_length": max_tokens}
        batch = tok([texts[i] for i in rows], return_tensors="pt", **cut).to(device)
        with torch.inference_mode():
            hidden = encoder(**batch).last_hidden_state  # (B, T, d)
        mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        vectors[rows] = torch.nn.functional.normalize(mean, dim=1).float().cpu().numpy()
    return vectors


def assign(questions: pd.DataFrame, data: Data, seed: int) -> pd.Series:
    """Split of each question (dataset, post, set): a seeded share for validation and test, the rest for training.

    The order of the rows does not matter: the seed and the name of a question decide.
    """
    split = pd.Series("train", index=questions.index)
    names = (questions["set"] + "/" + questions["dataset"] + "/" + questions["post"]).to_numpy()
    rank = pd.Series([hashlib.sha256(f"{seed}/{n}".encode()).digest() for n in names], index=questions.index)
    for (dataset, kind), rows in questions.groupby(["dataset", "set"], sort=False):
        order = rank[rows.index].sort_values().index
        validation, test = data.validation[dataset], data.test[dataset]
        if kind != "sft":
            validation = test = round(len(order) * data.held_out)
        split[order[:validation]] = "validation"
        split[order[validation : validation + test]] = "test"
    return split


def leaks(
    vectors: np.ndarray, split: pd.Series, limit: float, block: int = 2048, show: int = 20
) -> tuple[np.ndarray, pd.DataFrame, pd.DataFrame]:
    """(mask of rows to remove, the pairs behind it, the closest pairs that remain).

    Larger splits lose what comes too close to smaller ones. `vectors` are unit length, one a row of `split`.
    The frames have left, right (positions) and cosine.
    """
    sizes = split.value_counts()
    order = sorted(SPLITS, key=lambda s: (sizes.get(s, 0), SPLITS.index(s) == 0))  # smallest first, train last
    remove, pairs, near = np.zeros(len(split), dtype=bool), [], []
    for i, smaller in enumerate(order):
        for larger in order[i + 1 :]:
            left = np.flatnonzero((split == smaller).to_numpy() & ~remove)
            right = np.flatnonzero((split == larger).to_numpy() & ~remove)
            for start in range(0, len(right) if len(left) else 0, block):
                part = right[start : start + block]
                cosine = vectors[part] @ vectors[left].T
                nearest = cosine.argmax(axis=1)
                close = cosine[np.arange(len(part)), nearest]
                hit = close >= limit
                remove[part[hit]] = True
                pairs += zip(left[nearest[hit]], part[hit], close[hit])
                most = np.argsort(-np.where(hit, -2, close))[: 10 * show]  # some of them are removed later
                near += zip(left[nearest[most]], part[most], close[most])
            near = sorted(near, key=lambda p: -p[2])[: 10 * show]
    near = [p for p in near if not remove[p[0]] and not remove[p[1]]][:show]
    columns = ["left", "right", "cosine"]
    return remove, pd.DataFrame(pairs, columns=columns), pd.DataFrame(near, columns=columns)


def divide(questions: pd.DataFrame, data: Data, seed: int, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give every question its `split`, in place, "" where it leaks (`reason` says so) or is beyond `train_max`.

    `questions` has dataset, post, set and question, one row each. Embeddings are kept in `folder` under a hash of the
    questions: a killed run does not compute them again. Returns (pairs that leaked, closest pairs left), as text.
    """
    listed = "\0".join(questions["question"]).encode("utf-8", "replace")
    vectors = folder / f"vectors-{hashlib.sha256(listed).hexdigest()[:16]}.npy"
    if not vectors.is_file():
        embedded = embed(questions["question"].tolist(), data.embedder, data.embedder_tokens, label="embed questions")
        with artefacts.replacing(vectors, "wb") as file:
            np.save(file, embedded)
    split = assign(questions, data, seed)
    remove, pairs, near = leaks(np.load(vectors), split, data.leakage_cosine)
    questions["split"], questions["reason"] = split, ""
    leaked = f"cosine {data.leakage_cosine:g} or more to a smaller split"
    questions.loc[questions.index[remove], ["split", "reason"]] = ["", leaked]
    sft = questions[questions["set"] == "sft"]
    for name in data.sources if data.train_max else ():
        rows = sft.index[(sft["split"] == "train") & (sft["dataset"] == name)].to_numpy(copy=True)
        beyond = np.random.default_rng(seed).permutation(rows)[data.train_max :]
        questions.loc[beyond, ["split", "reason"]] = ["", "not needed: data.train_max"]
    left = sft[sft["split"] == "train"]["dataset"].value_counts()
    for name in data.sources:
        if not left.get(name):
            raise ValueError(
                f"{name}: {(sft['dataset'] == name).sum()} records survive the filter, too few for data.validation "
                "and data.test: none is left to train on. Take smaller splits, more records, or wider limits in s2."
            )

    def as_text(positions: pd.DataFrame, left: str, right: str) -> pd.DataFrame:
        """The two questions of each pair, and their splits, under these names."""
        columns = {}
        for name, column in ((left, "left"), (right, "right")):
            rows = positions[column].to_numpy(dtype=int)
            columns |= {name: questions["question"].to_numpy()[rows], f"{name}_split": split.to_numpy()[rows]}
        return pd.DataFrame(columns | {"cosine": positions["cosine"]})

    return as_text(pairs, "kept", "removed"), as_text(near, "one", "other")


def questions(frame: pd.DataFrame, prompts: pd.DataFrame) -> pd.DataFrame:
    """One row per question of the three sets: dataset, post, set, question."""
    kept = frame[frame["dropped"] == ""].drop_duplicates(["dataset", "post"])
    table = pd.concat([kept, prompts.assign(set="rl")], ignore_index=True)
    return table[["dataset", "post", "set", "question"]]


def apply(questions: pd.DataFrame, *tables: pd.DataFrame) -> None:
    """Carry `split` and `reason` of the questions over to the rows of `tables` that ask them, in place."""
    known = questions.set_index(["dataset", "post"])[["split", "reason"]]
    for table in tables:
        asked = known.reindex(pd.MultiIndex.from_frame(table[["dataset", "post"]])).fillna("")
        kept = (table["dropped"] == "").to_numpy()
        table["split"] = np.where(kept, asked["split"], "")
        table.loc[kept, "dropped"] = asked["reason"].to_numpy()[kept]


def sizes(frame: pd.DataFrame, pairs: pd.DataFrame, prompts: pd.DataFrame) -> pd.DataFrame:
    """One row per dataset, set and split: n rows. Leaked and unneeded questions stand under those splits."""
    parts = [frame[frame["set"] == "sft"], pairs.assign(set="rm"), prompts.assign(set="rl")]
    table = pd.concat([part[["dataset", "set", "split", "dropped"]] for part in parts])
    table.loc[table["dropped"].str.startswith("cosine "), "split"] = "leaked"
    counts = table[table["split"] != ""].groupby(["dataset", "set", "split"], sort=False).size()
    return counts.rename("n").reset_index()


def write(frame: pd.DataFrame, folder: Path, prefix: str = "", columns: list[str] = COLUMNS) -> None:
    """One Parquet a split, in a fixed order of rows."""
    for name in SPLITS:
        rows = frame[frame["split"] == name].sort_values(columns[:4], kind="stable")[columns].reset_index(drop=True)
        with artefacts.replacing(folder / f"{prefix}{name}.parquet", "wb") as file:
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
