"""What heads cost: on a tiny model, every number that the table holds."""

import math

import pandas as pd
import pytest
import torch
from tiny_ladder import tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from s2utils.architecture import shapes
from s2utils.evaluation import attention_heads
from s2utils.workflow.params import ParameterError, load

TEXTS = ["def f(x): return x + 1", "The cat sat on a mat."]


def tiny(kv_heads: int = 2) -> LlamaForCausalLM:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=kv_heads, max_position_embeddings=128, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def params(**changes):
    return load("smoke", {"attention_heads": {"batch_sizes": [1, 2], "contexts": [8, 16], "steps": 3} | changes})


def test_a_copy_is_the_same_function():
    assert attention_heads.same_function(tiny(), tokenizer(), TEXTS) < 1e-5


def test_every_setting_has_a_row_and_copies_lose_what_their_model_loses():
    found = attention_heads.measured(tiny(), tokenizer(), TEXTS, params())
    assert len(found) == 3 * 2 * 2 and not found.duplicated(["variant", "batch_size", "context"]).any()
    assert found["kv_heads"].unique().tolist() == [4, 2, 1] and (found["n"] == 3).all()
    assert (found["tokens_per_second_ci_low"] <= found["tokens_per_second"]).all()
    a_token = shapes.cache_bytes(tiny(1).config, 4)
    assert (found["cache_bytes"] == a_token * found["kv_heads"] * found["batch_size"] * found["context"]).all()
    loss = found.groupby("kv_heads")["loss"].first()
    assert math.isclose(loss[4], loss[2], rel_tol=1e-5) and not math.isclose(loss[1], loss[2], rel_tol=1e-5)


def test_a_cache_that_does_not_fit_is_not_timed_and_stays_in_the_table():
    gib = 2 * 16 * shapes.cache_bytes(tiny().config, 4) / 2**30  # of the largest setting, its own heads
    found = attention_heads.measured(tiny(), tokenizer(), TEXTS, params(cache_gib=gib))
    missing = found[found["tokens_per_second"].isna()]
    assert missing[["kv_heads", "batch_size", "context"]].to_numpy().tolist() == [[4, 2, 16]]
    assert missing["n"].tolist() == [0] and missing["cache_bytes"].notna().all()


@pytest.mark.parametrize("kv_heads", [1, 4])
def test_a_model_without_groups_is_refused(kv_heads):
    with pytest.raises(ParameterError, match="'attention_heads.model' has"):
        attention_heads.variants(tiny(kv_heads).config)


def test_documents_are_of_all_domains_in_turn_and_cut():
    held_out = pd.DataFrame(
        {"domain": ["a"] * 9 + ["b", "b"], "id": range(11), "text": ["word " * 90] * 9 + ["", "short"]}
    )
    settings = params(documents=3, max_characters=20).attention_heads
    found = attention_heads.documents(held_out, settings, 1)
    assert sorted(found["domain"]) == ["a", "a", "b"] and found["text"].str.len().max() <= 20
    assert found["text"].str.strip().ne("").all()
    assert found.equals(attention_heads.documents(held_out, settings, 1))


def test_largest_batches():
    found = attention_heads.budget({"all": 524_288, "one": 16_384}, context=4096, gib=40)
    assert found["largest_batch"].tolist() == [20, 640]


def test_advice_takes_the_largest_setting_that_all_were_timed_in():
    variants = [("MHA, 4 heads", 4, 10.0, 3.0), ("GQA, 2 heads", 2, 20.0, 3.0), ("MQA, 1 head", 1, 50.0, 7.5)]
    rows = [
        (name, kv, batch, 1024, kv * batch * 100, speed if batch < 32 or kv < 4 else math.nan, loss)
        for batch in (1, 16, 32)
        for name, kv, speed, loss in variants
    ]
    columns = ["variant", "kv_heads", "batch_size", "context", "cache_bytes", "tokens_per_second", "loss"]
    verdicts = pd.DataFrame({"choice": ["heads"], "variant": ["GQA"], "difference": [0.012], "verdict": ["can't tell"]})
    said = attention_heads.advice(pd.DataFrame(rows, columns=columns), verdicts, "GQA, 2 heads")
    none_fits = pd.DataFrame(rows, columns=columns).assign(tokens_per_second=math.nan)
    assert "At none of the settings" in attention_heads.advice(none_fits, verdicts, "GQA, 2 heads")
    for part in ("batch 16", "2.0 times", "5.0 times", "4 times smaller", "7.50 instead of 3.00", "GQA +0.012"):
        assert part in said, part
