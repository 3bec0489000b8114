"""Losses of whole documents: a uniform model, windows, packing, and the bytes that tokens must give back."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedTokenizerFast,
)

from s2utils.models import likelihood
from s2utils.models.likelihood import Windows

SHAPE = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 256}  # fmt: skip
DRAW = np.random.default_rng(3)
DOCUMENTS = [DRAW.integers(0, 64, size).tolist() for size in (1, 7, 30, 90, 33, 0, 2)]


def network(kind: str):
    torch.manual_seed(0)
    made = {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
        "window": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=8)),
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=256)),
        "scaled": lambda: CohereForCausalLM(CohereConfig(**SHAPE, logit_scale=0.3, pad_token_id=0)),
        "state": lambda: MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=24, num_hidden_layers=2)),
        "opt": lambda: OPTForCausalLM(OPTConfig(
            vocab_size=64, hidden_size=32, word_embed_proj_dim=32, ffn_dim=48, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=256,
        )),
    }[kind]()  # fmt: skip
    for weight in made.parameters():  # so that what a token sees matters
        torch.nn.init.normal_(weight, std=0.3)
    return made.eval()


def plain(model, ids: list[int], begin: int, start: int, end: int) -> np.ndarray:
    """Losses of tokens start … end of [0, *ids], read from `begin`, by the model's own forward."""
    whole = [0, *ids]
    with torch.inference_mode():
        logits = model(torch.tensor([whole[begin:end]]), use_cache=False).logits[0].float().log_softmax(-1)
    return np.array([-float(logits[i - begin, whole[i + 1]]) for i in range(start, end)])


KINDS = ["llama", "window", "gpt2", "scaled", "state", "opt"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [1, 16, 64, 1000])
def test_losses_are_the_model_s_own_whatever_shares_a_pass(kind, tokens):
    model = network(kind)
    found = likelihood.losses(model, DOCUMENTS, 0, Windows(256, 0), tokens)
    assert [len(loss) for loss in found] == [len(ids) for ids in DOCUMENTS]
    for ids, loss in zip(DOCUMENTS, found):
        if ids:
            assert np.allclose(loss, plain(model, ids, 0, 0, len(ids)), atol=1e-4)


class Logits(TorchDispatchMode):
    """Remembers how many rows the largest tensor over the vocabulary of 64 has."""

    rows = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = function(*args, **(kwargs or {}))
        sizes = [t.numel() // 64 for t in tree_leaves(given) if isinstance(t, torch.Tensor) and t.shape[-1:] == (64,)]
        self.rows = max([self.rows, *sizes])
        return given


@pytest.mark.parametrize("kind", KINDS)
def test_memory_never_holds_tokens_times_vocabulary(kind):
    model, (ids,) = network(kind), DRAW.integers(0, 64, (1, 250)).tolist()
    with Logits() as whole:
        plain(model, ids, 0, 0, 250)
    with Logits() as seen:
        likelihood.losses(model, [ids], 0, Windows(256, 0), 256)
    assert seen.rows == likelihood.ROWS < 250 == whole.rows


def test_what_stands_before_a_document_may_be_its_own():
    model, before = network("llama"), [row[0] if row else 5 for row in DOCUMENTS]
    found = likelihood.losses(model, [row[1:] for row in DOCUMENTS], before, Windows(256, 0))
    for ids, loss in zip(DOCUMENTS, found):
        assert len(loss) == max(0, len(ids) - 1)
        (alone,) = likelihood.losses(model, [ids[1:]], ids[0] if ids else 0, Windows(256, 0))
        assert np.allclose(loss, alone, atol=1e-4)


@pytest.mark.parametrize("windows", [Windows(16, 16), Windows(16, 5), Windows(16, 1), Windows(16, 0), Windows(256, 7)])
def test_a_long_document_is_read_window_by_window(windows):
    model, ids = network("llama"), DOCUMENTS[3]
    (found,) = likelihood.losses(model, [ids], 0, windows, 64)
    ends = 16 if not windows.stride and windows.length == 16 else len(ids)
    assert len(found) == ends and np.isfinite(found).all()
    for begin, start, end in windows.over(len(ids)):
        assert np.allclose(found[start:end], plain(model, ids, begin, start, end), atol=1e-4)


@given(st.integers(1, 400), st.integers(1, 60), st.data())
def test_windows_score_every_token_once_and_see_no_more_than_their_length(size, length, data):
    stride = data.draw(st.integers(1, length))
    seen = list(Windows(length, stride).over(size))
    assert [start for _, start, _ in seen] == [0, *(end for *_, end in seen[:-1])] and seen[-1][2] == size
    assert all(0 < end - begin <= length and begin <= start < end for begin, start, end in seen)
    assert all(end - begin == min(length, end) for begin, _, end in seen), "the last is filled up with context"


@pytest.mark.parametrize("length, stride", [(0, 0), (4, 5), (4, -1)])
def test_windows_without_sense_are_refused(length, stride):
    with pytest.raises(ValueError, match="stride must be"):
        Windows(length, stride)


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 60))
def test_every_window_is_packed_once_and_passes_keep_their_size(sizes, tokens):
    jobs = [likelihood.Window(i, 0, 0, size) for i, size in enumerate(sizes)]
    passes = list(likelihood.packed(jobs, tokens))
    assert sorted(job.document for of_one in passes for job in of_one) == list(range(len(sizes)))
    assert all(len(of_one) == 1 or sum(job.size for job in of_one) <= tokens for of_one in passes)


def byte_tokenizer(*, lossy: bool = False) -> PreTrainedTokenizerFast:
    """A token a byte; `lossy` forgets upper case."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({c: i for i, c in enumerate(["<s>", *alphabet])}, []))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    if lossy:
        from tokenizers import normalizers

        made.normalizer = normalizers.Lowercase()
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>")


def test_a_uniform_model_has_log2_of_the_vocabulary_times_tokens_over_bytes():
    tok = byte_tokenizer()
    model = LlamaForCausalLM(LlamaConfig(**SHAPE | {"vocab_size": len(tok)})).eval()
    torch.nn.init.zeros_(model.lm_head.weight)
    text = "Zwölf Boxkämpfer 猫 </s><s>"
    (ids,) = likelihood.encoded(tok, [text])
    (loss,) = likelihood.losses(model, [ids], likelihood.beginning(tok), Windows(256, 0))
    n_bytes = len(text.encode())
    assert len(ids) == n_bytes, "a token a byte, what looks like a special token too"
    found = likelihood.bits_per_byte(float(loss.sum()), n_bytes)
    assert found == pytest.approx(math.log2(len(tok)) * len(ids) / n_bytes, rel=1e-6)


def test_bits_per_byte_by_hand():
    assert likelihood.bits_per_byte(3 * math.log(2), 2) == pytest.approx(1.5)
    assert math.isnan(likelihood.bits_per_byte(1.0, 0))


def test_a_tokenizer_that_loses_bytes_is_refused_with_the_place():
    with pytest.raises(likelihood.BytesError, match=r"text 1: .* its bytes \(character 3: 'Berlin' comes back as"):
        likelihood.encoded(byte_tokenizer(lossy=True), ["in Paris".lower(), "in Berlin"])


def test_half_a_surrogate_pair_is_named():
    with pytest.raises(likelihood.BytesError, match="text 1, character 2: half a surrogate pair"):
        likelihood.encoded(byte_tokenizer(), ["a", "bc\ud800"])


def test_nothing_to_score_is_nothing():
    assert likelihood.losses(network("llama"), [], 0, Windows(8, 0)) == []
