"""BERTScore of many answers: each text encoded once, each pair matched alone.

The encoder, its hash and the matching are bert_score's own; what is ours is the order of work. Texts go through the
encoder with others of the same number of tokens, so nothing is padded, and each pair is matched by itself. bert_score
pads pairs of a batch to one length, and a token that is unlike every other (its best cosine below 0) is then matched to
the padding at 0: there a value depends on its neighbours. Ours is that of `bert_score.score(…, batch_size=1)`. Not
defined for a text without a token, nor, where the encoder has read Latin letters only, for one in others. Trap: texts
are cut at the encoder's limit (512 tokens) without a word; they are counted. Source: Zhang et al. 2020.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from bert_score.utils import get_bert_embedding, get_hash, get_model, get_tokenizer, greedy_cos_idf
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from s2utils.evaluation import metrics
from s2utils.models import loading
from s2utils.models.parameters import Weights
from s2utils.text.alphabet import latin

COLUMNS = metrics.columns("bertscore")
LIMIT = 512  # tokens
BATCH = 32  # texts
OTHERS = 0.1  # of a vocabulary: BERT's English one has 6 % in other letters, single ones, multilingual ones over 30 %


@dataclass(frozen=True)
class Encoder:
    """The first layers of an encoder and its tokenizer, as bert_score loads them."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    hash: str  # bert_score's name of how it scores


def score(
    answers: list[str], references: list[str], weights: Weights, layer: int, device: str
) -> tuple[pd.DataFrame, dict]:
    """(one row per pair: precision, recall, F1; {hash, different texts that were cut, and that it is not defined for}).

    NaN where it is not defined for a text of the pair.
    """
    scorer = encoder(weights, layer, device)
    frame, texts = matched(scorer, answers, references), sorted({*answers, *references})
    cut = sum(len(ids) > LIMIT for ids in scorer.tokenizer(texts, truncation=False)["input_ids"]) if texts else 0
    named = scorer.hash.replace(loading.located(weights)[0], weights.path)
    facts = {"bertscore_hash": named, "bertscore_texts_cut": cut}
    return frame, facts | {"bertscore_texts_undefined": len(texts) - len(defined(scorer.tokenizer, texts))}


def told(facts: dict) -> str:
    """For captions: how many texts were cut, and how many could not be scored."""
    cut, undefined = (facts[f"bertscore_texts_{why}"] for why in ("cut", "undefined"))
    failed = f", {undefined} without a token or in letters that it has not read: failed" if undefined else ""
    return f"{cut} texts over {LIMIT} tokens{failed}."


def encoder(weights: Weights, layer: int, device: str) -> Encoder:
    """The first `layer` layers of the encoder as bert_score takes them, and a tokenizer that cuts at LIMIT."""
    path, device = loading.located(weights)[0], loading.usable(device)
    tokenizer, model = get_tokenizer(path), get_model(path, layer).to(device)
    tokenizer.model_max_length = LIMIT  # encoders without a stated limit overflow otherwise
    restore_prefix_space(tokenizer)
    plain = {"idf": False, "rescale_with_baseline": False, "use_custom_baseline": False, "use_fast_tokenizer": False}
    return Encoder(model, tokenizer, get_hash(path, layer, **plain))


def matched(scorer: Encoder, answers: list[str], references: list[str]) -> pd.DataFrame:
    """One row per pair: precision, recall, F1.

    References are held in memory while the answers pass: 4 bytes × width of the encoder a token.
    """
    known = defined(scorer.tokenizer, sorted({*answers, *references}))
    pairs = defaultdict(list)  # answer → rows
    for i, (answer, reference) in enumerate(zip(answers, references)):
        if answer in known and reference in known:
            pairs[answer].append(i)
    rows = [[math.nan] * len(COLUMNS) for _ in answers]
    wanted = {references[i] for places in pairs.values() for i in places}
    vectors = dict(_encoded(scorer, wanted, "encode references"))
    for answer, own in _encoded(scorer, set(pairs), "BERTScore"):
        for i in pairs[answer]:  # the matching works in place
            both = [part.clone() for part in (*vectors[references[i]], *own)]
            rows[i] = [float(part) for part in greedy_cos_idf(*both)]
    return pd.DataFrame(rows, columns=COLUMNS, dtype=float)


def defined(tok: PreTrainedTokenizerBase, texts: list[str]) -> set[str]:
    """The texts that hold a token and are in letters that the encoder has read."""
    ids = tok([t.strip() for t in texts], truncation=True, add_special_tokens=False)["input_ids"] if texts else []
    with_tokens = {text for text, tokens in zip(texts, ids) if tokens}
    others = {text for text in with_tokens if not latin(text)}
    return with_tokens - others if others and latin_only(tok) else with_tokens


@functools.cache
def latin_only(tok: PreTrainedTokenizerBase) -> bool:
    """Whether next to nothing of the vocabulary is in other letters than Latin ones."""
    pieces = [tok.convert_tokens_to_string([piece]) for piece in tok.get_vocab()]
    return sum(not latin(piece) for piece in pieces) < OTHERS * len(pieces)


def _encoded(scorer: Encoder, texts: set[str], label: str) -> Iterator[tuple[str, tuple]]:
    """(text, (vectors (1, T, width), mask (1, T), weights (1, T))) of each text, the longest first."""
    tok = scorer.tokenizer
    weigh = defaultdict(lambda: 1.0, {tok.sep_token_id: 0.0, tok.cls_token_id: 0.0})
    order = sorted(texts)
    sizes = [len(ids) for ids in tok([t.strip() for t in order], truncation=True)["input_ids"]] if order else []
    order = sorted(zip(sizes, order), reverse=True)
    with tqdm(total=len(order), desc=label, unit="text") as bar:
        for _, alike in itertools.groupby(order, key=lambda pair: pair[0]):
            alike = [text for _, text in alike]
            for start in range(0, len(alike), BATCH):
                batch = alike[start : start + BATCH]
                parts = get_bert_embedding(batch, scorer.model, tok, weigh, device=scorer.model.device)
                bar.update(len(batch))
                yield from zip(batch, zip(*(part.cpu().split(1) for part in parts)))


def restore_prefix_space(tok) -> None:
    """Let a byte-level tokenizer (RoBERTa) treat the first word as any other, as BERTScore asks for.

    bert_score passes `add_prefix_space=True` to `encode`, which transformers 5 ignores without a word.
    """
    from tokenizers.pre_tokenizers import ByteLevel

    backend = getattr(tok, "backend_tokenizer", None)
    if backend is not None and isinstance(backend.pre_tokenizer, ByteLevel):
        backend.pre_tokenizer = ByteLevel(add_prefix_space=True, use_regex=True)
