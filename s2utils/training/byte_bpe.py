"""Byte-level BPE of a few hundred or thousand tokens, trained on given texts: a tokenizer for models made from nothing.

It begins with the 256 bytes, so it takes any UTF-8 text and gives it back byte for byte, and every token stands for a
known number of bytes: what bits per byte needs. One special token both begins and ends a document. Trap: text that is
normalised on the way (Unicode forms, spaces, line ends) comes back other than it was, and bits per byte are then of
another text: `likelihood.encoded` refuses that. Source: Sennrich and others 2016; over bytes, Radford and others 2019.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from s2utils.models import special_tokens
from s2utils.workflow.errors import ParameterError

DOCUMENT = "<|document|>"  # begins and ends one
PADDING = "<|padding|>"
FEWEST, MOST = 512, 65_536  # tokens of a vocabulary; an id then fits 16 bits
AT_A_TIME = 256  # texts
_BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())


def train(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of `vocab_size` tokens, the two special ones among them, learnt from `texts`; the same each time.

    It puts `DOCUMENT` in front of a text where special tokens are asked for. ParameterError where `vocab_size` is out
    of range, or the texts hold too few pairs of bytes for so many tokens.
    """
    if not FEWEST <= vocab_size <= MOST:
        raise ParameterError(f"a byte-level vocabulary has {FEWEST} to {MOST:,} tokens, not {vocab_size:,}")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[DOCUMENT, PADDING], initial_alphabet=_BYTES, show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    if (learnt := bpe.get_vocab_size()) < vocab_size:
        raise ParameterError(
            f"the texts bear a vocabulary of {learnt}, not {vocab_size:,}: give more text, or ask for less"
        )
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{DOCUMENT} $A", special_tokens=[(DOCUMENT, bpe.token_to_id(DOCUMENT))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=DOCUMENT, eos_token=DOCUMENT, pad_token=PADDING,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


def ids(texts: Sequence[str], tok: PreTrainedTokenizerBase) -> list[list[int]]:
    """Token ids of texts, no special token in front; one that is written in a text is read as its characters."""
    return special_tokens.ids([special_tokens.marked(text, tok) for text in texts], tok, begin=False)


def token_bytes(tok: PreTrainedTokenizerBase) -> np.ndarray:
    """(V,) UTF-8 bytes that each token of a byte-level vocabulary stands for; special tokens stand for none."""
    special = set(tok.all_special_ids)
    tokens = tok.convert_ids_to_tokens(range(len(tok)))
    return np.array([0 if i in special else len(token) for i, token in enumerate(tokens)], dtype=np.int64)
