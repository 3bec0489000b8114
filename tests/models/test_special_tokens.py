import functools

import pandas as pd
import pytest
from families import KINDS, tokenizer
from hypothesis import given
from hypothesis import strategies as st

from s2utils.models import loading, special_tokens
from s2utils.training import sft
from s2utils.workflow.params import ParameterError, load


@functools.cache
def tok_of(kind: str):
    return loading.prepared(tokenizer(kind))


PADS = {
    "gpt2": "ÿ", "pythia": "<|padding|>", "llama3": "<|finetune_right_pad_id|>", "qwen2": "<|im_start|>",
    "gemma": "<pad>",
}  # fmt: skip


def params_of(kind: str, **changes):
    """The smoke profile with the template that models of this kind know."""
    template = "chat" if KINDS[kind][2] else "human_assistant"
    return load("smoke", {"model": {"template": template}} | changes)


@pytest.mark.parametrize("kind", KINDS)
def test_the_padding_token_is_one_of_the_vocabulary_and_not_the_end(kind):
    tok = tok_of(kind)
    assert tok.pad_token == PADS[kind] and tok.pad_token_id != tok.eos_token_id
    assert len(tok) == len(tokenizer(kind)), "nothing is added"


def test_what_stands_for_nothing_pads_before_what_has_a_use():
    tok = tokenizer("llama3")
    assert special_tokens.padding(tok) == "<|finetune_right_pad_id|>"
    tok = tokenizer("qwen2")
    tok.eos_token, tok.pad_token = "<|im_end|>", None
    assert special_tokens.padding(tok) == "<|endoftext|>", "its instruct models end with <|im_end|>"
    tok.pad_token = "<|im_start|>"
    assert special_tokens.padding(tok) == "<|im_start|>", "one's own choice stays"
    tok.pad_token = "[PAD]"
    assert special_tokens.padding(tok) == "<|endoftext|>", "a token that the vocabulary does not have"


def test_a_vocabulary_that_has_nothing_but_its_end_is_refused_by_name():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"a": 0, "<end>": 1}, unk_token="a"))
    tok = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", name_or_path="words")
    with pytest.raises(
        ParameterError, match="tokenizer of words has no token to pad with .*: name another one as pad_token"
    ):
        special_tokens.padding(tok)


@pytest.mark.parametrize("kind", KINDS)
def test_the_padding_token_is_the_same_when_saved_and_loaded(tmp_path, kind):
    from transformers import AutoTokenizer

    tok = tok_of(kind)
    tok.save_pretrained(tmp_path)
    again = loading.prepared(AutoTokenizer.from_pretrained(tmp_path))
    assert (again.pad_token, again.pad_token_id) == (tok.pad_token, tok.pad_token_id)
    text = special_tokens.marked("L'Haÿ-les-Roses", again)  # ÿ names the token that pads GPT-2
    ids = special_tokens.ids([text], again, begin=False)[0]
    assert again.pad_token_id not in ids and again.decode(ids, skip_special_tokens=True) == "L'Haÿ-les-Roses"


def written(kind: str) -> list[str]:
    """What a mean or careless user writes."""
    tok = tok_of(kind)
    turns = ["<start_of_turn>", "<end_of_turn>"] if kind == "gemma" else []
    return [f"Does {token} end it?{token}" for token in [*special_tokens.special(tok), *turns]]


VARIANTS = [(k, v) for k, (_, _, template) in KINDS.items() for v in ("base", "sft", "chat") if template or v != "chat"]


@pytest.mark.parametrize(("kind", "variant"), VARIANTS)
def test_special_tokens_that_a_user_wrote_are_read_as_text(tree, kind, variant):
    tok, model = tok_of(kind), params_of(kind).model
    added = set(tok.added_tokens_decoder)

    def of_template(turns: list[str]) -> tuple[list[int], str]:
        ids = loading.encoded([loading.prompt(turns, variant, tok, model)], tok, variant)[0]
        return [i for i in ids if i in added], tok.decode(ids, skip_special_tokens=False)

    plain, _ = of_template(["Does it?", "So.", "Why?"])
    for text in written(kind):
        found, said = of_template([text, f"So {text}", text])
        assert found == plain and said.count(text) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_without_marks_is_tokenized_as_ever(kind):
    tok = tok_of(kind)
    texts = ["Why is the sky blue?", "", " two  blanks\n\nand lines ", "café 😀 水"]
    assert [special_tokens.marked(text, tok) for text in texts] == texts
    assert special_tokens.ids(texts, tok, begin=True) == tok(texts)["input_ids"]
    assert special_tokens.ids(texts, tok, begin=False) == tok(texts, add_special_tokens=False)["input_ids"]
    assert special_tokens.ids([], tok, begin=True) == []


@given(st.lists(st.sampled_from(["a", " ", "\n", "<", ">", "|", "<|im_end|>", "<|endoftext|>", "<|im_start|>", "ä"])))
def test_any_text_is_read_back_and_never_ends_a_sequence(parts):
    tok, text = tok_of("qwen2"), "".join(parts)
    marked = special_tokens.marked(text, tok)
    ids = special_tokens.ids([marked], tok, begin=True)[0]
    assert not set(ids) & set(tok.added_tokens_decoder) and tok.decode(ids) == text
    assert special_tokens.readable(marked) == text


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_row_ends_once_and_only_the_answer_is_learnt(tree, kind):
    tok = tok_of(kind)
    end = tok.eos_token
    answers = [f"It is {end} and no more: {end}", "So."]
    frame = pd.DataFrame({"question": [f"What is {end}?", "Why?"], "answer": answers})
    rows, dropped = sft.rows(frame, params_of(kind, sft={"max_length": 512}), tok)
    assert dropped == 0
    for row, answer in zip(rows, answers):
        ids, learnt = row["input_ids"], row["completion_mask"].index(1)
        assert ids.count(tok.eos_token_id) == 1 and ids[-1] == tok.eos_token_id
        assert tok.decode(ids[learnt:-1]).strip() == answer
        assert ids[:learnt] == loading.encoded([row["prompt"]], tok, "sft")[0]


def test_a_tokenizer_without_an_end_is_refused_before_training(tree):
    tok = loading.prepared(tokenizer("gemma"))
    tok.eos_token = None
    with pytest.raises(ParameterError, match="has no eos_token"):
        sft.rows(pd.DataFrame({"question": ["Why?"], "answer": ["So."]}), load("smoke"), tok)
