"""Overlap with the reference (ROUGE, BERTScore) and readability (FRE, FKG) of answers.

Only the answer is scored, never its prompt. Empty answers score 0 in ROUGE; BERTScore and readability
are not defined for them, so they count as failed. Trap: rougeLsum compares line by line, and BERTScore
cuts texts at the encoder's limit (512 tokens) without a word: `bertscore` counts them.
"""

from __future__ import annotations

import math

import pandas as pd
from rouge_score.rouge_scorer import RougeScorer
from tqdm.auto import tqdm

from s2utils import intervals, models
from s2utils.params import Params, TextMetrics, Weights
from s2utils.readability import flesch

ROUGE = {"rouge_1_f1": "rouge1", "rouge_2_f1": "rouge2", "rouge_l_f1": "rougeL", "rouge_lsum_f1": "rougeLsum"}
BERTSCORE = ["bertscore_precision", "bertscore_recall", "bertscore_f1"]
FLESCH = ["flesch_reading_ease", "flesch_kincaid_grade"]


def rouge(answers: list[str], references: list[str], stemmer: bool) -> pd.DataFrame:
    """One row per pair: F1 of ROUGE-1, -2, -L and -Lsum, 0–1."""
    scorer = RougeScorer(list(ROUGE.values()), use_stemmer=stemmer)
    scored = [scorer.score(r, a) for a, r in tqdm(list(zip(answers, references)), desc="ROUGE", unit="answer")]
    return pd.DataFrame([{name: s[kind].fmeasure for name, kind in ROUGE.items()} for s in scored])


def bertscore(
    answers: list[str], references: list[str], weights: Weights, layer: int, device: str
) -> tuple[pd.DataFrame, dict]:
    """(one row per pair: precision, recall, F1; {hash, n_cut}). NaN for an empty answer."""
    from bert_score import BERTScorer

    path, _ = models.located(weights)
    scorer = BERTScorer(model_type=path, num_layers=layer, device=models.usable(device), batch_size=32)
    scorer._tokenizer.model_max_length = 512  # encoders without a stated limit overflow otherwise
    restore_prefix_space(scorer._tokenizer)
    frame = pd.DataFrame(math.nan, index=range(len(answers)), columns=BERTSCORE)
    some = [i for i, (a, r) in enumerate(zip(answers, references)) if a.strip() and r.strip()]
    if some:
        parts = scorer.score([answers[i] for i in some], [references[i] for i in some], verbose=False)
        frame.loc[some, BERTSCORE] = [[float(v) for v in row] for row in zip(*parts)]
    texts = sorted({*answers, *references})
    cut = sum(len(ids) > 512 for ids in scorer._tokenizer(texts, truncation=False)["input_ids"]) if texts else 0
    return frame, {"bertscore_hash": scorer.hash.replace(path, weights.path), "bertscore_texts_cut": cut}


def restore_prefix_space(tok) -> None:
    """Let a byte-level tokenizer (RoBERTa) treat the first word as any other, as BERTScore asks for.

    bert_score passes `add_prefix_space=True` to `encode`, which transformers 5 ignores without a word.
    """
    from tokenizers.pre_tokenizers import ByteLevel

    backend = getattr(tok, "backend_tokenizer", None)
    if backend is not None and isinstance(backend.pre_tokenizer, ByteLevel):
        backend.pre_tokenizer = ByteLevel(add_prefix_space=True, use_regex=True)


def readability(answers: list[str], backend: str) -> pd.DataFrame:
    """One row per answer: FRE and FKG, NaN where it has no word."""
    return pd.DataFrame([flesch(a, backend) for a in answers], columns=FLESCH)


def summary(scores: pd.DataFrame, metrics: list[str], params: Params) -> pd.DataFrame:
    """One row per (dataset, model, merge_mode): n, n_cut, and each metric with interval and failures."""
    settings: TextMetrics = params.text_metrics
    keys = ["model", "base", "variant", "train_set", "merge_mode", "dataset"]
    rows = []
    for group, part in scores.groupby(keys, sort=False, dropna=False):
        row = dict(zip(keys, group)) | {"n": len(part), "n_cut": int((~part["ended"]).sum())}
        for metric in metrics:
            mean, low, high = intervals.bootstrap(part[metric], settings.resamples, settings.confidence, params.seed)
            row |= {
                metric: mean,
                f"{metric}_ci_low": low,
                f"{metric}_ci_high": high,
                f"{metric}_n_failed": int(part[metric].isna().sum()),
            }
        rows.append(row)
    frame = pd.DataFrame(rows)
    return frame.sort_values("dataset", key=lambda d: d.map(params.datasets.index), kind="stable").reset_index(
        drop=True
    )
