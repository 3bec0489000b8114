"""Overlap with the reference (ROUGE; for BERTScore see `bertscore`), readability (FRE, FKG) and manner of answers.

Empty answers score 0 in ROUGE; BERTScore, readability and manner are not defined for them, so they count as failed, as
do texts in other letters than Latin ones (ROUGE: references in them, for an answer in them shares no word with an
English one). What a model thought aloud is no part of its answer. An answer is finished if it ended by itself and does
not loop. Trap: rougeLsum compares line by line.
"""

from __future__ import annotations

import itertools
import math

import pandas as pd
from rouge_score.rouge_scorer import RougeScorer
from tqdm.auto import tqdm

from s2utils.data.splits import embed
from s2utils.stats import intervals
from s2utils.text import reasoning
from s2utils.text.alphabet import latin
from s2utils.text.readability import flesch, words
from s2utils.text.toxicity import toxicity
from s2utils.workflow.params import Params

ROUGE = {"rouge_1_f1": "rouge1", "rouge_2_f1": "rouge2", "rouge_l_f1": "rougeL", "rouge_lsum_f1": "rougeLsum"}
FLESCH = ["flesch_reading_ease", "flesch_kincaid_grade"]
MANNER = ["answer_words", "distinct_2", "within_limits", "toxic", "reference_cosine"]


def answered(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with what the model thought aloud left out of `text`; `reasoned` says where there was any."""
    left = [reasoning.without(text) for text in frame["text"]]
    return frame.assign(text=[text for text, _ in left], reasoned=[had for _, had in left])


def rouge(answers: list[str], references: list[str], stemmer: bool) -> pd.DataFrame:
    """One row per pair: F1 of ROUGE-1, -2, -L and -Lsum, 0–1; NaN for a reference that is not in Latin letters.

    rouge_score knows the letters a to z only, so that such a text would share no word with itself.
    """
    scorer = RougeScorer(list(ROUGE.values()), use_stemmer=stemmer)
    pairs = tqdm(list(zip(answers, references)), desc="ROUGE", unit="answer")
    scored = [scorer.score(r, a) if latin(r) else {} for a, r in pairs]
    rows = [{name: s[kind].fmeasure if s else math.nan for name, kind in ROUGE.items()} for s in scored]
    return pd.DataFrame(rows, columns=list(ROUGE), dtype=float)


def readability(answers: list[str], backend: str) -> pd.DataFrame:
    """One row per answer: FRE and FKG, NaN where it has no word or is not in Latin letters."""
    return pd.DataFrame([flesch(a, backend) for a in answers], columns=FLESCH)


def manner(answers: list[str], references: list[str], params: Params) -> pd.DataFrame:
    """One row per answer, with the columns of MANNER; NaN for an answer without a word or not in Latin letters.

    Number of words; share of its two-word phrases that differ; 1 or 0 for within the limits of the S² filter, and for
    toxicity above its limit; cosine of the sentence vectors of answer and reference.
    """
    s2, data = params.s2, params.data
    spoken = [words(a.lower()) for a in answers]
    pairs = [list(zip(w, w[1:])) for w in spoken]
    ease = readability(answers, s2.readability)
    place = {text: i for i, text in enumerate(dict.fromkeys([*answers, *references]))}  # models share their references
    vectors = embed(list(place), data.embedder, data.embedder_tokens, label="embed answers")
    mine, theirs = (vectors[[place[text] for text in texts]] for texts in (answers, references))
    frame = pd.DataFrame({"answer_words": [float(len(w)) for w in spoken]})
    frame["distinct_2"] = [len(set(p)) / len(p) if p else math.nan for p in pairs]
    simple = (ease["flesch_reading_ease"] >= s2.fre_min) & (ease["flesch_kincaid_grade"] < s2.fkg_max)
    frame["within_limits"] = simple.astype(float)
    frame["toxic"] = (toxicity(answers, s2.toxicity_model) > s2.toxicity_max).astype(float)
    frame["reference_cosine"] = (mine * theirs).sum(axis=1).astype(float)
    return frame.where((frame["answer_words"] > 0) & pd.Series([latin(a) for a in answers], dtype=bool))


def compare(scores: pd.DataFrame, metrics: list[str], params: Params) -> pd.DataFrame:
    """One row per metric, data set and comparison: chat and fine-tunes with the base, merges with each other.

    Differences are question by question: n, n_failed, difference with bootstrap interval, p of flipped signs, p_holm
    corrected over all comparisons of the metric, d_z (effect size), and the verdict at the table's level.
    """
    settings, tables = params.text_metrics, []
    for metric in metrics:
        values = scores.pivot(index=["dataset", "source", "id"], columns="model_id", values=metric)
        apart = {
            (dataset, model, minus): (part[model] - part[minus]).to_numpy()
            for minus, model in _pairs(scores)
            for dataset, part in values.groupby(level="dataset", sort=False)
        }
        table = intervals.compared(apart, settings.resamples, settings.confidence, params.seed)
        keys = pd.DataFrame(table.pop("comparison").tolist(), columns=["dataset", "model", "minus"], index=table.index)
        tables.append(keys.assign(metric=metric).join(table))
    table, level = pd.concat(tables, ignore_index=True), 1 - settings.confidence
    return table.assign(verdict=["different" if p < level else "no evidence" for p in table["p_holm"]])


def _pairs(scores: pd.DataFrame) -> list[tuple[str, str]]:
    """(subtracted, from) of ids: the base from every other model, and each merge of a fine-tune from its later ones."""
    rows = scores[["model_id", "model", "variant"]].drop_duplicates()
    base = rows.loc[rows["variant"] == "base", "model_id"].iat[0]
    pairs = [(base, id) for id in rows["model_id"] if id != base]
    for _, merges in rows[rows["variant"] == "sft"].groupby("model", sort=False):
        pairs += itertools.combinations(merges["model_id"], 2)
    return pairs


def summary(scores: pd.DataFrame, metrics: list[str], params: Params) -> pd.DataFrame:
    """One row per (dataset, model, merge_mode): n, n_cut, n_looping, n_finished, and each metric.

    A metric has its mean with interval and failures, and `<metric>_finished`, its mean over the finished answers alone.
    """
    keys = ["model", "base", "variant", "train_set", "merge_mode", "dataset"]
    rows = []
    for group, part in scores.groupby(keys, sort=False, dropna=False):
        finished = part["ended"] & ~part["looping"]
        row = dict(zip(keys, group)) | {"n": len(part), "n_cut": int((~part["ended"]).sum())}
        row |= {"n_looping": int(part["looping"].sum()), "n_finished": int(finished.sum())}
        for metric in metrics:
            row |= intervals.mean_columns(metric, part[metric], params)
            row[f"{metric}_finished"] = part.loc[finished, metric].mean()
        rows.append(row)
    order = {"key": lambda column: column.map(params.datasets.index), "kind": "stable", "ignore_index": True}
    return pd.DataFrame(rows).sort_values("dataset", **order)
