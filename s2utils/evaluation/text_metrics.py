"""Overlap with the reference (ROUGE; for BERTScore see `bertscore`), readability (FRE, FKG) and manner of answers.

Empty answers score 0 in ROUGE; BERTScore, readability and manner are not defined for them, so they count as failed, as
do texts in other letters than Latin ones (ROUGE: references in them, for an answer in them shares no word with an
English one). What a model thought aloud is no part of its answer. An answer is finished if it ended by itself and does
not loop. Trap: rougeLsum compares line by line.
"""

from __future__ import annotations

import math

import pandas as pd
from rouge_score.rouge_scorer import RougeScorer
from tqdm.auto import tqdm

from s2utils.data.splits import embed
from s2utils.evaluation import metrics
from s2utils.text import reasoning
from s2utils.text.alphabet import latin
from s2utils.text.readability import flesch, words
from s2utils.text.toxicity import toxicity
from s2utils.workflow.params import Params

ROUGE = {"rouge_1_f1": "rouge1", "rouge_2_f1": "rouge2", "rouge_l_f1": "rougeL", "rouge_lsum_f1": "rougeLsum"}
FLESCH = metrics.columns("flesch")


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
    """One row per answer, a column each of MANNER; NaN for an answer without a word or not in Latin letters."""
    frame = pd.DataFrame(
        {column: function(answers, references, params) for column, function in MANNER.items()}, dtype=float
    )
    return frame.where((frame["answer_words"] > 0) & pd.Series([latin(a) for a in answers], dtype=bool))


def answer_words(answers: list[str], references: list[str], params: Params) -> list[float]:
    """Number of words of each answer."""
    return [float(len(words(answer.lower()))) for answer in answers]


def distinct_2(answers: list[str], references: list[str], params: Params) -> list[float]:
    """Share of an answer's two-word phrases that differ; NaN where it has none (Li et al. 2016)."""
    spoken = [words(answer.lower()) for answer in answers]
    phrases = [list(zip(said, said[1:])) for said in spoken]
    return [len(set(pairs)) / len(pairs) if pairs else math.nan for pairs in phrases]


def within_limits(answers: list[str], references: list[str], params: Params) -> pd.Series:
    """1 where an answer is within the limits of the S² filter on reading ease and grade, else 0."""
    ease, s2 = readability(answers, params.s2.readability), params.s2
    return (ease["flesch_reading_ease"] >= s2.fre_min) & (ease["flesch_kincaid_grade"] < s2.fkg_max)


def toxic(answers: list[str], references: list[str], params: Params) -> pd.Series:
    """1 where an answer's toxicity is above the limit of the S² filter, else 0."""
    return toxicity(answers, params.s2.toxicity_model) > params.s2.toxicity_max


def reference_cosine(answers: list[str], references: list[str], params: Params) -> pd.Series:
    """Cosine of the sentence vectors of answer and reference, −1 to 1."""
    place = {text: i for i, text in enumerate(dict.fromkeys([*answers, *references]))}  # models share their references
    vectors = embed(list(place), params.data.embedder, params.data.embedder_tokens, label="embed answers")
    mine, theirs = (vectors[[place[text] for text in texts]] for texts in (answers, references))
    return (mine * theirs).sum(axis=1).astype(float)


MANNER = {f.__name__: f for f in (answer_words, distinct_2, within_limits, toxic, reference_cosine)}
