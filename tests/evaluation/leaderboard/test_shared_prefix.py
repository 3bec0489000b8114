import math

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM

from s2utils.evaluation.leaderboard import shared_prefix
from s2utils.models import likelihood

HEAD = "Why is the sky blue? Light from the sun. "
PAIRS = [
    *((HEAD + "What is rain? Answer:", f" {c}") for c in ("A", "B", "C", "D")),
    *((HEAD + "Was the cat warm? Answer:", c) for c in (" because the dog was away", " because it", " Water")),
    (HEAD + "What falls? ", "clouds that fall"),  # the space moves to the continuation
    (HEAD, "What is rain?"),  # its path is inside that of others
    ("", "Water that falls from clouds."),
    ("The cat sat on the mat", " and the dog was not there to chase it away."),
    ("The cat sat on the mat", " and the dog was not there to chase it away."),
]
SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
COMMON = {
    "vocab_size": 400, "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    "initializer_range": 0.3,  # large, so that what a token attends to shows in its prediction
}  # fmt: skip
WIDE = SMALL | COMMON | {"num_key_value_heads": 2}
TREES = {
    "Llama, grouped queries": transformers.LlamaConfig(**WIDE),
    "GPT-2, learned positions": transformers.GPT2Config(**COMMON, n_embd=64, n_layer=2, n_head=4, n_positions=512),
    "GPT-NeoX": transformers.GPTNeoXConfig(**SMALL, **COMMON),
    "Mistral, window not reached": transformers.MistralConfig(**WIDE, sliding_window=300),
    "Qwen2": transformers.Qwen2Config(**WIDE),
}
LOCAL = {"attention_types": [[["global", "local"], 1]], "window_size": 16}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}
OTHERS = {
    "Mistral, window full": transformers.MistralConfig(**WIDE, sliding_window=16),
    "Bloom, ALiBi": transformers.BloomConfig(**COMMON, hidden_size=64, n_layer=2, n_head=4),
    "GPT-Neo, local layers": transformers.GPTNeoConfig(**COMMON, hidden_size=64, num_layers=2, num_heads=4, **LOCAL),
    "Gemma-3, mixed windows": transformers.Gemma3TextConfig(**WIDE, sliding_window=16),
    "Mamba, no attention": transformers.MambaConfig(**COMMON, hidden_size=64, num_hidden_layers=2),
    "Llama, dynamic rotary": transformers.LlamaConfig(
        **SMALL, **(COMMON | {"max_position_embeddings": 24}), rope_parameters=DYNAMIC
    ),
}


def made(config):
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def ours(model, tok, **more):
    lm = get_model("hf-shared-prefix")(pretrained=model, tokenizer=tok, **({"tokens": 40} | more))
    assert type(lm) is shared_prefix.SharedPrefixLM
    return lm


def scored(lm, pairs=PAIRS):
    found = lm.loglikelihood([Instance("loglikelihood", {}, pair, 0) for pair in pairs], disable_tqdm=True)
    return np.array([f[0] for f in found]), [f[1] for f in found]


def equal(model, tok, more=None, pairs=PAIRS, **hf):
    """Both backends over the same requests; returns ours."""
    lm = ours(model, tok, **hf, **(more or {}))
    values, greedy = scored(lm, pairs)
    expected, expected_greedy = scored(HFLM(pretrained=model, tokenizer=tok, **hf), pairs)
    assert np.ptp(expected) > 1  # else any answer would do
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-3)
    assert greedy == expected_greedy
    return lm


sequences = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=12)


@given(sequences, st.integers(1, 9))
def test_the_tree_holds_every_prefix_once(lists, tokens):
    tree = shared_prefix.grow(lists, [min(3, len(ids)) for ids in lists])
    prefixes = {tuple(ids[: n + 1]) for ids in lists for n in range(len(ids))}
    size = len(tree.tokens)
    found = set()
    for node in range(size):
        line = [m for m in range(node + 1) if node < tree.ends[m]]  # ancestors, then itself
        assert tree.depths[line].tolist() == list(range(len(line)))
        found.add(tuple(tree.tokens[line]))
    assert found == prefixes and size == len(prefixes)
    for ids, tail in zip(lists, tree.tails):
        assert tree.tokens[tail].tolist() == ids[-3:] and tree.depths[tail[-1]] == len(ids) - 1
    cuts = shared_prefix.chunks(tree, tokens)
    assert [n for first, last in cuts for n in range(first, last)] == list(range(size))
    assert max(last - first for first, last in cuts) <= tokens


@pytest.mark.parametrize("name", TREES)
def test_every_architecture_equals_hf(name, llama2):
    lm = equal(made(TREES[name]), llama2)
    assert not lm.fallback
    prefixes = set()
    for context, continuation in PAIRS:
        pair = lm._encode_pair(context, continuation) if context else ([], lm.tok_encode(continuation))
        ids = (pair[0] or [lm.prefix_token_id]) + pair[1]
        ids = ids if context or pair[1][0] != lm.prefix_token_id else pair[1]
        prefixes |= {tuple(ids[:n]) for n in range(1, len(ids))}
    assert lm.forwarded == len(prefixes)  # each token of the tree once


@pytest.mark.parametrize("name", OTHERS)
def test_what_cannot_follow_the_tree_is_computed_by_hf(name, llama2, caplog):
    lm = equal(made(OTHERS[name]), llama2)
    assert lm.fallback and lm.fallback in caplog.text and lm.forwarded == 0


def test_chunks_shrink_to_what_a_window_leaves(llama2):
    config = transformers.MistralConfig(**WIDE, sliding_window=150)
    lm = equal(made(config), llama2, {"tokens": 1000})
    longest = max(len(lm.tok_encode(a + b)) for a, b in PAIRS)
    assert not lm.fallback and 20 < longest < 86 < lm.forwarded
    assert equal(made(config), llama2, {"tokens": 1000}, [(HEAD * 6, "rain"), ("The", " cat")]).fallback


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("argument", ["attention_mask", "position_ids"])
def test_a_model_that_ignores_an_argument_is_found_out(argument, dtype, llama2, monkeypatch):
    """Branches that see each other, or stand at other places, give wrong numbers and no error."""
    model = made(TREES["Llama, grouped queries"]).to(dtype)
    forward = model.model.forward
    monkeypatch.setattr(model.model, "forward", lambda **kwargs: forward(**(kwargs | {argument: None})))
    lm = equal(model, llama2, softmax_dtype="float32")
    assert ("see each other" if argument == "attention_mask" else "nat off") in lm.fallback


@pytest.mark.parametrize("side", ["left", "right"])
def test_no_score_moves_with_batch_size_chunk_or_padding_side(side, llama2):
    llama2.padding_side = side
    model = made(TREES["Llama, grouped queries"])
    expected, greedy = scored(ours(model, llama2))
    for batch_size, tokens in ((1, 1), (8, 7), (64, 1024)):
        values, hits = scored(ours(model, llama2, batch_size=batch_size, tokens=tokens))
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-4)
        assert hits == greedy


def test_batch_size_alone_changes_nothing_in_bf16(llama2):
    model = made(TREES["Llama, grouped queries"]).to(torch.bfloat16)
    first, again = (scored(ours(model, llama2, batch_size=b, softmax_dtype="float32"))[0] for b in (1, 8))
    assert first.tolist() == again.tolist()
    hf = scored(HFLM(pretrained=model, tokenizer=llama2, softmax_dtype="float32"))[0]
    assert np.abs(first - hf).max() < 0.1 * np.abs(hf).max()


# one text split in two places: `hf` reads the shorter continuation at the wrong positions, unless it merges no requests
SPLIT = [(HEAD + "What is rain? Answer:", " A"), (HEAD, "What is rain? Answer: B"), ("The cat", " sat")]


@pytest.mark.parametrize(
    ("name", "attention", "settings"),
    [
        ("GPT-2, learned positions", "sdpa", {"max_length": 30}),  # cut on the left as hf cuts them
        ("GPT-2, learned positions", "sdpa", {"max_length": 41}),
        ("Llama, grouped queries", "sdpa", {"add_bos_token": False}),
        ("Llama, grouped queries", "sdpa", {"pairs": SPLIT, "logits_cache": False}),
        ("Llama, grouped queries", "eager", {}),
    ],
)
def test_every_setting_equals_hf(name, attention, settings, llama2):
    model = made(TREES[name])
    model.set_attn_implementation(attention)
    assert not equal(model, llama2, **settings).fallback


def test_a_request_of_several_chunks_and_many_documents(llama2):
    texts = [f"{HEAD} {n} What is rain?" for n in range(20)]
    pairs = [(text, end) for text in texts for end in (" Water", " the cat sat on the mat", " Water that falls")]
    lm = ours(made(TREES["Llama, grouped queries"]), llama2, tokens=16)
    scored(lm)  # the comparison at first use has its own chunks
    passes, forward = [], lm._forward
    lm._forward = lambda ids, depths, visible, cache, wanted: (
        passes.append(visible.shape) or forward(ids, depths, visible, cache, wanted)
    )
    values, _ = scored(lm, pairs)
    longest = max(len(lm.tok_encode(a + b)) for a, b in pairs)
    assert len(passes) > 10 and all(rows <= 16 and columns <= longest + 16 for rows, columns in passes)
    np.testing.assert_allclose(values, scored(HFLM(pretrained=lm.model, tokenizer=llama2), pairs)[0], atol=1e-3)


def test_rolling_and_generation_are_those_of_hf(llama2):
    model = made(TREES["Llama, grouped queries"])
    lm, hf = ours(model, llama2, max_length=20), HFLM(pretrained=model, tokenizer=llama2, max_length=20)
    texts = [Instance("loglikelihood_rolling", {}, (t,), 0) for t in (HEAD * 3, "rain")]
    rolled = [model.loglikelihood_rolling(texts, disable_tqdm=True) for model in (lm, hf)]
    np.testing.assert_allclose(*rolled, atol=1e-3)
    ask = [Instance("generate_until", {}, (HEAD, {"until": ["\n"], "max_gen_toks": 4}), 0)]
    assert lm.generate_until(ask, disable_tqdm=True) == hf.generate_until(ask, disable_tqdm=True)


def test_the_harness_can_keep_every_answer(llama2):
    class Kept(list):
        def add_partial(self, attribute, texts, answer):
            self.append((attribute, texts, answer))

    lm = ours(made(TREES["Llama, grouped queries"]), llama2)
    lm.set_cache_hook(Kept())
    values, _ = scored(lm)
    assert [k[1] for k in lm.cache_hook] == PAIRS and [k[2][0] for k in lm.cache_hook] == values.tolist()
    assert lm.loglikelihood([], disable_tqdm=True) == []


def test_a_chunk_needs_a_token(llama2, tiny_llama):
    with pytest.raises(ValueError, match="tokens=0"):
        ours(tiny_llama(), llama2, tokens=0)


def test_where_attention_stops_being_plain():
    limit = likelihood.longest_exact
    assert limit(transformers.LlamaConfig()) == limit(transformers.Qwen2Config()) == math.inf
    assert limit(transformers.MistralConfig(sliding_window=4096)) == 4096
    assert limit(OTHERS["Llama, dynamic rotary"]) == 24
