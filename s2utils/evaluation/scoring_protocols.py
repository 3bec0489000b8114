"""How answers are scored: which text, against which reference, by which back end.

Protocol `answer` scores the answer alone. `study` scores prompt and answer as one text (for overlap against prompt and
reference as one text) and counts syllables with Pyphen: the published values need it. Reference `own` is the
question's; `other` is a question's of another data set, for the draft's overlap on two data sets looks like that. A way
of scoring is (protocol, back end, reference). Trap: every row of `answers` keeps its place; where a text is missing,
its scores are.
"""

from __future__ import annotations

import pandas as pd

from s2utils.evaluation import text_metrics
from s2utils.text.readability import BACKENDS
from s2utils.workflow import steps
from s2utils.workflow.params import Params

Way = tuple[str, str, str]
STUDY, ANSWER, OWN, OTHER = "study", "answer", "own", "other"
ROUGE = {False: "rouge_score", True: "rouge_score, stemmed"}


def prompts(answers: pd.DataFrame, params: Params) -> list[str]:
    """The prompt of each answer (question, variant) as a decoder gives it back: without special tokens."""
    from s2utils.models import loading

    seen: dict[tuple[str, str], str] = {}
    rows = {row.variant: row for row in steps.models(params, None)}  # all of a kind are asked alike
    for variant, part in answers.groupby("variant", sort=False):
        whose, tok = rows[variant].prompt, loading.tokenizer(getattr(params.model, rows[variant].published))
        questions = list(dict.fromkeys(part["question"]))
        ids = loading.encoded([loading.prompt([q], whose, tok, params.model) for q in questions], tok, whose)
        texts = tok.batch_decode(ids, skip_special_tokens=True)
        seen |= {(variant, question): text.strip() for question, text in zip(questions, texts)}
    return [seen[key] for key in zip(answers["variant"], answers["question"])]


def other_references(answers: pd.DataFrame, model: str = "model") -> pd.Series:
    """Of each answer a reference that is not its own, missing where there is none; `model` names the column of models.

    It is one of the model's first data set, for the first data set's answers of the second; where there is only one, of
    its next question.
    """
    chosen = {}
    for _, part in answers.groupby(model, sort=False):
        by_set = {d: r.dropna() for d, r in part.groupby("dataset", sort=False)["reference"] if r.notna().any()}
        for dataset, own in by_set.items():
            others = list(next((r for d, r in by_set.items() if d != dataset), own))
            after = _next_unlike(others)
            for i, (place, mine) in enumerate(own.items(), start=1):
                other = others[i % len(others)]
                chosen[place] = other if other != mine else after[i % len(others)]
    return pd.Series([chosen.get(place) for place in answers.index], index=answers.index, dtype="str")


def _next_unlike(texts: list[str]) -> list[str | None]:
    """Of each place in a circle of texts the next text that differs from its own, None where all are alike."""
    n, unlike = len(texts), [None] * len(texts)
    for i in range(2 * n - 1, -1, -1):  # twice around, backwards: the first round learns what follows the last text
        after = (i + 1) % n
        unlike[i % n] = texts[after] if texts[after] != texts[i % n] else unlike[after]
    return unlike


def texts(answers: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """(protocol, reference) → the two texts that are compared, `said` and `wanted`; rows that lack one are left out.

    `answers` has answer, whole (prompt and answer), prompt (what stands before the answer in it), reference, other.
    """
    references = {OWN: answers["reference"], OTHER: answers["other"]}
    pairs = {}
    for whose, wanted in references.items():
        pairs[STUDY, whose] = {"said": answers["whole"], "wanted": answers["prompt"] + wanted}
        pairs[ANSWER, whose] = {"said": answers["answer"], "wanted": wanted}
    return {way: pd.DataFrame(pair).dropna() for way, pair in pairs.items()}


def rouge(answers: pd.DataFrame, params: Params) -> dict[Way, pd.DataFrame]:
    """ROUGE under every way: the study's, ours, ours stemmed, ours against another reference, and the profile's own."""
    settings, scores, pairs = params.text_metrics, {}, texts(answers)
    own = (settings.protocol, settings.rouge_stemmer, settings.reference)
    ways = [(STUDY, False, OWN), (ANSWER, False, OWN), (ANSWER, True, OWN), (ANSWER, False, OTHER), own]
    for protocol, stemmed, whose in dict.fromkeys(ways):
        pair = pairs[protocol, whose]
        scored = text_metrics.rouge(list(pair["said"]), list(pair["wanted"]), stemmed)
        scores[protocol, ROUGE[stemmed], whose] = _placed(scored, pair, answers)
    return scores


def bertscore(answers: pd.DataFrame, params: Params) -> tuple[dict[Way, pd.DataFrame], dict]:
    """(BERTScore under every way, as `rouge` without stemmer; its facts). The back end is the encoder's hash."""
    from s2utils.evaluation import bertscore as scorer

    settings, pairs = params.text_metrics, texts(answers)
    ways = [(STUDY, OWN), (ANSWER, OWN), (ANSWER, OTHER), (settings.protocol, settings.reference)]
    pairs = {way: pairs[way] for way in dict.fromkeys(ways)}
    every = pd.concat(pairs)  # one call: the encoder is loaded once, each text encoded once
    scored, facts = scorer.score(
        list(every["said"]), list(every["wanted"]), settings.bertscore, settings.bertscore_layer, params.runtime.device
    )
    scores, start = {}, 0
    for (protocol, whose), pair in pairs.items():
        part = scored.iloc[start : start + len(pair)]
        scores[protocol, facts["bertscore_hash"], whose] = _placed(part, pair, answers)
        start += len(pair)
    return scores, facts


def readability(answers: pd.DataFrame) -> dict[Way, pd.DataFrame]:
    """Reading ease and grade, both protocols and back ends; a text without a word or in other letters has failed."""
    said = {STUDY: answers["whole"].fillna(""), ANSWER: answers["answer"].fillna("")}
    return {
        (protocol, backend, "none"): text_metrics.readability(list(texts), backend).set_axis(answers.index)
        for protocol, texts in said.items()
        for backend in BACKENDS
    }


def chosen(ways: dict[Way, pd.DataFrame], params: Params) -> pd.DataFrame:
    """The scores under the profile's own protocol, of ways that `rouge`, `bertscore` or `readability` gave."""
    settings = params.text_metrics
    left_out = {ROUGE[not settings.rouge_stemmer], *BACKENDS} - {syllables(params)}
    (frame,) = (
        frame
        for (protocol, backend, whose), frame in ways.items()
        if protocol == settings.protocol and backend not in left_out and whose in (settings.reference, "none")
    )
    return frame


def flat(scored: dict[str, dict[Way, pd.DataFrame]]) -> pd.DataFrame:
    """The ways of several tables ("rouge", "bertscore", "flesch") as one frame, a row per answer; see `ways`."""
    columns = {(name, *way): frame for name, ways in scored.items() for way, frame in ways.items()}
    return pd.concat(columns, axis=1).set_axis(["\t".join((*key, c)) for key, f in columns.items() for c in f], axis=1)


def ways(frame: pd.DataFrame) -> dict[str, dict[Way, pd.DataFrame]]:
    """What `flat` made one frame of."""
    tables: dict[str, dict[Way, pd.DataFrame]] = {}
    for column in frame:
        name, protocol, backend, whose, metric = column.split("\t")
        table = tables.setdefault(name, {}).setdefault((protocol, backend, whose), pd.DataFrame(index=frame.index))
        table[metric] = frame[column]
    return tables


def syllables(params: Params) -> str:
    """The back end that counts syllables: the study's protocol needs Pyphen."""
    return "pyphen" if params.text_metrics.protocol == STUDY else params.text_metrics.readability


def described(params: Params) -> str:
    """The profile's protocol in words, for captions."""
    settings = params.text_metrics
    scored = {
        ANSWER: "the answer alone is scored (protocol answer)",
        STUDY: "prompt and answer are scored as one text, as the study did (protocol study)",
    }[settings.protocol]
    return scored + (", against another data set's references (reference other)" if settings.reference == OTHER else "")


def _placed(scored: pd.DataFrame, pair: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """The scores of `pair` in the rows of `answers`, missing where a text of the pair is."""
    return scored.set_axis(pair.index).reindex(index=answers.index).astype(float)
