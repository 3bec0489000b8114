"""Loss, reach and memory under windows, of a tiny model that is made in a second."""

import functools

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_ladder import TEXTS, tokenizer
from transformers import MistralConfig, MistralForCausalLM

from s2utils.evaluation import attention_windows
from s2utils.models import loading
from s2utils.workflow import params
from s2utils.workflow.errors import ParameterError


@functools.cache
def model(window: int | None = 4, layers: int = 3) -> MistralForCausalLM:
    torch.manual_seed(3)
    facts = MistralConfig(
        vocab_size=512, hidden_size=32, intermediate_size=48, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, sliding_window=window, initializer_range=0.3,
    )  # fmt: skip
    return MistralForCausalLM(facts).eval()


def asked(**changes):
    p = params.load("smoke")
    given = p.attention_windows.model_copy(update={"tokens": 24, "documents": 3, "windows": [24, 6], **changes})
    return p.model_copy(update={"attention_windows": given})


def held_out() -> pd.DataFrame:
    rows = [(domain, str(i), text) for domain, texts in TEXTS.items() for i, text in enumerate(texts)]
    return pd.DataFrame(rows, columns=["domain", "id", "text"])


def chosen(p) -> pd.DataFrame:
    given = p.attention_windows
    return attention_windows.chosen(held_out(), tokenizer(), given.documents, given.tokens)


def ids(p) -> torch.Tensor:
    return attention_windows.rows(chosen(p), tokenizer())


def test_documents_are_long_enough_and_domains_take_turns():
    few = chosen(asked())
    assert few["tokens"].map(len).eq(24).all() and few["domain"].nunique() == 2 and not few["id"].eq("0").any()
    some = chosen(asked(documents=9_999))
    assert len(few) < len(some) <= len(held_out()), "fewer than are asked for are what there is"
    with pytest.raises(ParameterError, match="attention_windows.tokens"):
        chosen(asked(tokens=5_000))


def test_a_window_as_long_as_the_text_costs_nothing_and_a_short_one_changes_the_loss():
    p = asked()
    table = attention_windows.by_window(model(), ids(p), p)
    assert table[["window", "sinks"]].to_numpy().tolist() == [[0, 0], [24, 0], [24, 2], [6, 0], [6, 2]]
    assert table["n"].eq(3).all()
    np.testing.assert_allclose(table["added"][:3], 0, atol=1e-6)
    assert (table["added"][3:].abs() > 1e-3).all() and (table["loss_ci_low"] <= table["loss"]).all()


@pytest.mark.parametrize(("window", "layers"), [(2, 3), (4, 3), (5, 2), (1, 2)])
def test_change_reaches_l_times_w_minus_1_and_1_tokens(window, layers):
    p = asked()
    moved = attention_windows.change(model(None, layers).double(), ids(p), window)
    table = attention_windows.reach(moved, window, p)
    assert table["bound"].tolist() == [layer * (window - 1) + 1 for layer in range(layers + 1)]
    assert (table["reached"] == table["bound"]).all() and (table["felt"] <= table["reached"]).all()
    assert not moved[:, :, 0].any(), "nothing looks ahead"


def test_every_cache_has_the_logits_of_the_whole_text_and_the_ring_has_w_slots():
    p = asked(contexts=[8, 16], chunks=[4, 7], steps=3, cache_window=4)
    table = attention_windows.caches(model(), ids(p)[:1], p)
    assert len(table) == 2 * 2 * len(attention_windows.KINDS) and (table["max_difference"] < 1e-4).all()
    slots = table.groupby("kind")[["slots", "peak_bytes", "bytes"]].max()
    assert slots.loc["rolling buffer", "slots"] == 4 and slots.loc["dynamic", "slots"] == 19
    assert slots.loc["rolling buffer", "peak_bytes"] == slots.loc["rolling buffer", "bytes"]
    assert slots.loc["dynamic, with config", "peak_bytes"] > slots.loc["rolling buffer", "bytes"]
    assert table["n"].eq(3).all()


def test_the_ring_is_exact_in_chunks_of_one_of_the_window_and_of_more():
    table = attention_windows.exactness(model(None), ids(asked()), 4)
    assert table["chunk"].tolist() == [1, 4, 13] and table["tokens"].eq(24).all() and table["dtype"].eq("float64").all()
    assert (table["max_difference"] < 1e-6).all()
    model.cache_clear()  # it is in float64 now


@pytest.mark.slow
def test_logits_of_a_published_model_are_equal_far_beyond_the_window():
    p = params.load("cpu")
    given = p.attention_windows
    tok, lm = loading.tokenizer(given.model), loading.full(given.model, "float32")
    text = tok(" ".join(TEXTS["prose"]), return_tensors="pt")["input_ids"]
    assert (attention_windows.exactness(lm, text, 9)["max_difference"] < 1e-4).all()
