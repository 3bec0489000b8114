"""Special tokens: the one that pads, and those that somebody only wrote, which stay text.

A question, an answer or an article may hold `</s>` or `<|im_end|>`. `marked` marks these, `ids` reads what is marked as
the characters it is and the rest, a template's own special tokens among it, as usual; `readable` takes the marks off.
They are transformers' own (`apply_chat_template(…, sanitize_control_tokens=True)`), here for prompts without a template
too. Trap: text that goes into a prompt unmarked ends the sequence where its author wrote so.
"""

from __future__ import annotations

import functools
import math
import re

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import encode_marked_chat, mark_control_tokens

from s2utils.workflow.params import ParameterError

SPARE = ("pad", "reserved", "unused", "")  # in the name of a token that stands for nothing: the first is preferred
# byte 255, which no UTF-8 text holds, as vocabularies of bytes and those that fall back to bytes write it
NEVER = ("ÿ", "<0xFF>")
NONE = re.compile("(?!)")


def padding(tok: PreTrainedTokenizerBase, vocab_size: int | None = None) -> str:
    """A token of the vocabulary to pad with, never EOS, whose prediction must be learnt; the first that there is of

    the tokenizer's own; <unk>; special tokens that the chat template does not write, named as in SPARE; BOS; special
    tokens that it writes; byte 255. None is part of an answer, so a penalty on repetition may see it. No token is
    added, and one that was added beyond the model's `vocab_size` is passed over: there is nothing to look up for it.
    """
    template, vocabulary = str(tok.chat_template), tok.get_vocab()
    others = [token for token in special(tok) if token != tok.bos_token]
    others.sort(key=lambda token: (token in template, next(i for i, w in enumerate(SPARE) if w in token.lower())))
    free = sum(token not in template for token in others)
    for token in (tok.pad_token, tok.unk_token, *others[:free], tok.bos_token, *others[free:], *NEVER):
        if token in vocabulary and token != tok.eos_token and vocabulary[token] < (vocab_size or math.inf):
            return token
    raise ParameterError(
        f"the tokenizer of {tok.name_or_path} has no token to pad with but the one that ends a sequence: name another "
        "one as pad_token in its tokenizer_config.json"
    )


def special(tok: PreTrainedTokenizerBase) -> list[str]:
    """Tokens that are found in a text as they are written and mean something else, by id."""
    return [token.content for _, token in sorted(tok.added_tokens_decoder.items()) if token.special]


@functools.lru_cache(maxsize=8)
def _written(tok: PreTrainedTokenizerBase) -> re.Pattern:
    """Matches special tokens, and added ones that the chat template writes (Gemma's turns); longest first."""
    template = str(tok.chat_template)
    added = {token.content for token in tok.added_tokens_decoder.values() if not token.content.isspace()}
    tokens = set(special(tok)) | {token for token in added if token in template}
    return re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) or NONE.pattern)


def marked(text: str, tok: PreTrainedTokenizerBase) -> str:
    """`text` in which the special tokens are marked as mere text; unchanged without any."""
    return mark_control_tokens(text, _written(tok))


def readable(text: str) -> str:
    """`text` without marks."""
    return mark_control_tokens(text, NONE)


def begins(tok: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts BOS in front of a text; the leaderboard's `harness` leaves it there, v1 does not."""
    return tok.bos_token is not None and tok("")["input_ids"][:1] == [tok.bos_token_id]


def ids(texts: list[str], tok: PreTrainedTokenizerBase, begin: bool) -> list[list[int]]:
    """Token ids of texts, with marks or without; `begin`: with the BOS that the tokenizer puts in front."""
    encoded = tok(texts, add_special_tokens=begin)["input_ids"] if texts else []
    front = [tok.bos_token_id] if begin and begins(tok) else []
    for place, text in enumerate(texts):
        if text != readable(text):
            try:
                encoded[place] = front + encode_marked_chat(tok, text)
            except ValueError as error:
                raise ParameterError(f"the tokenizer of {tok.name_or_path}: {error}") from error
    return encoded
