"""Positions scaled and put back, and loss by position."""

import pandas as pd
import pytest
import torch
from tiny_ladder import TEXTS, tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from s2utils.evaluation import long_context
from s2utils.workflow.errors import ParameterError
from s2utils.workflow.params import load

SIZES = {
    "vocab_size": 512, "hidden_size": 32, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2,
    "num_hidden_layers": 2, "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1,
    "initializer_range": 0.3,
}  # fmt: skip
HELD_OUT = pd.DataFrame([{"domain": d, "id": str(i), "text": 9 * t} for d in TEXTS for i, t in enumerate(TEXTS[d][:4])])


def llama():
    torch.manual_seed(2)
    return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()


def mixtral():
    torch.manual_seed(2)
    return MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=2)).eval()


def logits(model, ids):
    with torch.no_grad():
        return model(input_ids=ids).logits


@pytest.mark.parametrize("make", [llama, mixtral])
@pytest.mark.parametrize("rope", ["linear", "dynamic", "yarn"])
def test_scaling_is_that_of_a_model_configured_so_and_goes_again(make, rope):
    model, ids = make(), torch.randint(512, (1, 40))
    before = logits(model, ids)
    with long_context.scaled(model, rope, 4):
        within = logits(model, ids)
    assert torch.equal(logits(model, ids), before) and not torch.allclose(within, before, atol=1e-3)
    facts = model.config.to_dict() | {"head_dim": 16}
    original = {"original_max_position_embeddings": 16} if rope == "yarn" else {}
    facts["rope_parameters"] = {
        "rope_type": rope,
        "factor": 4.0,
        "rope_theta": facts["rope_parameters"]["rope_theta"],
    } | original
    other = type(model)(type(model.config)(**facts)).eval()
    other.load_state_dict(model.state_dict())
    assert torch.allclose(logits(other, ids), within, atol=1e-5)


def test_linear_scaling_by_one_and_dynamic_within_the_trained_length_change_nothing():
    model, ids = llama(), torch.randint(512, (1, 16))
    before = logits(model, ids)
    for rope, factor in (("linear", 1), ("dynamic", 4)):
        with long_context.scaled(model, rope, factor):
            assert torch.allclose(logits(model, ids), before, atol=1e-5), rope


def test_a_window_changes_nothing_before_it_is_full():
    given = load("smoke", {"long_context": {"windows": [8], "ropes": ["yarn"], "documents": 4}})
    frame = long_context.table(llama(), tokenizer(), HELD_OUT, given, "m", 32)
    losses = frame[frame["positions"] == long_context.PLAIN].pivot(index="position", columns="window", values="loss")
    assert losses.index.tolist() == [0, 1, 2, 4, 8, 16] and set(frame["n"]) == {4} and set(frame["trained"]) == {16}
    assert losses.loc[:4, 0].tolist() == pytest.approx(losses.loc[:4, 8].tolist(), abs=1e-5)
    assert abs(losses.loc[16, 0] - losses.loc[16, 8]) > 1e-3
    assert frame.groupby(["positions", "window"]).size().tolist() == [6, 6, 6]


def test_so_many_documents_are_read_and_long_ones_only():
    given = load("smoke", {"long_context": {"documents": 2}})
    assert set(long_context.table(llama(), tokenizer(), HELD_OUT, given, "m", 32)["n"]) == {2}
    with pytest.raises(ParameterError, match="no held-out document has 100,000 tokens.*long_context"):
        long_context.table(llama(), tokenizer(), HELD_OUT, given, "m", 100_000)


def test_a_model_with_a_window_of_its_own_is_read_under_it():
    given = load("smoke", {"long_context": {"windows": [8], "ropes": ["linear"], "documents": 2}})
    own = mixtral()
    own.config.sliding_window = 8
    frame = long_context.table(own, tokenizer(), HELD_OUT, given, "m", 32)
    plain = frame[frame["positions"] == long_context.PLAIN].pivot(index="position", columns="window", values="loss")
    assert set(frame["own_window"]) == {8} and plain[0].tolist() == plain[8].tolist()
    assert set(long_context.table(llama(), tokenizer(), HELD_OUT, given, "m", 32)["own_window"]) == {0}
