"""Routing read from checkpoints: what a model chooses is what is counted, and what is no router is refused."""

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_ladder import TEXTS, tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM, OlmoeConfig, OlmoeForCausalLM

from s2utils.evaluation import expert_routing
from s2utils.workflow.params import load

SIZES = {
    "vocab_size": 512, "hidden_size": 32, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2,
    "num_hidden_layers": 5, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1,
}  # fmt: skip
DOCUMENTS = pd.DataFrame(
    [{"domain": domain, "id": str(i), "text": TEXTS[domain][i]} for domain in TEXTS for i in range(3)]
)


def mixtral():
    torch.manual_seed(1)
    return MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2)).eval()


def olmoe():
    torch.manual_seed(1)
    return OlmoeForCausalLM(OlmoeConfig(**SIZES, num_experts=6, num_experts_per_tok=3)).eval()


def params():
    return load("smoke")


def test_layers_of_mixtral_s_paper():
    assert expert_routing.layers_shown(32) == {"first": 0, "middle": 15, "last": 31}
    assert set(expert_routing.layers_shown(1).values()) == {0}


@pytest.mark.parametrize("make", [mixtral, olmoe])
def test_choices_are_those_that_the_model_makes(make):
    model, tok = make(), tokenizer()
    frame = expert_routing.routed(model, tok, DOCUMENTS, 12, "m")
    assert len(frame) == 3 * len(DOCUMENTS) and frame["ids"].map(len).max() == 12
    seen = []
    gate = model.model.layers[2].mlp.gate
    handle = gate.register_forward_hook(lambda module, given, output: seen.append(output[2]))
    row = frame[(frame["place"] == "middle")].iloc[4]
    with torch.no_grad():
        model(input_ids=torch.tensor([[0, *row["ids"]]]))
    handle.remove()
    probabilities, choices, documents = expert_routing.stacked(pd.DataFrame([row]))
    assert np.array_equal(choices, seen[0][1:].numpy()) and not documents.any()
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_tables_of_domains_have_shares_of_one_and_the_layer_of_their_paper():
    frame = expert_routing.routed(mixtral(), tokenizer(), DOCUMENTS, 16, "m").assign(trained=7)
    shares = expert_routing.shares(frame, params())
    sums = shares.groupby(["model", "place", "domain", "choice"])["share"].sum()
    assert np.allclose(sums, 1) and len(sums) == 3 * 2 * 3
    assert sorted(shares["layer"].unique()) == [0, 2, 4] and set(shares["expert"]) == {0, 1, 2, 3}
    repeats = expert_routing.repeats(frame, params())
    assert len(repeats) == 3 * 2 * 2 and np.allclose(repeats.groupby("kind")["uniform_null"].first(), [5 / 6, 0.25])
    pairs = expert_routing.co_activation(frame, params())
    assert len(pairs) == 3 * 6 and np.allclose(pairs.groupby("place")["share"].sum(), 1)
    entropy = expert_routing.entropy(frame, params())
    assert entropy["entropy"].between(0, 2).all() and (entropy["tokens"] == 7).all()


def test_of_every_model_its_last_checkpoint():
    frame = pd.DataFrame({"model": list("aabb"), "trained": [1, 2, 0, 0]})
    assert expert_routing.last(frame)["trained"].tolist() == [2, 0, 0]


def test_a_dense_model_is_refused():
    with pytest.raises(expert_routing.RoutingError, match="LlamaForCausalLM is no mixture"):
        expert_routing.router_logits(LlamaForCausalLM(LlamaConfig(**SIZES)), [0, 5, 6])


def test_probabilities_in_place_of_logits_are_refused(monkeypatch):
    model = mixtral()
    gate = model.model.layers[1].mlp.gate
    forward = gate.forward
    monkeypatch.setattr(gate, "forward", lambda hidden: (lambda out: (out[0].softmax(-1), *out[1:]))(forward(hidden)))
    with pytest.raises(expert_routing.RoutingError, match="probabilities"):
        expert_routing.router_logits(model, [0, 5, 6])
