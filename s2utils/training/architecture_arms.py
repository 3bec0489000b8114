"""Small decoders that differ in one choice each: norm, activation, block, positions, heads; the same text for all.

An arm is the baseline (RMSNorm, SwiGLU, sequential, RoPE, a key-value head a query head: a Llama of the ladder) with
one change, so the baseline stands in every choice. The width of the MLP is fitted so that all arms have as many
parameters outside of their embeddings; the table of learned positions is an embedding. Traps: what an arm's heads save
its MLP gets, so arms are equal in size and not in time; learning rates are the baseline's.
"""

from __future__ import annotations

import dataclasses

import pandas as pd
import torch

from s2utils.architecture.decoder import Config, Decoder
from s2utils.training import ladder, pretraining
from s2utils.training.parameters import Architecture
from s2utils.workflow.errors import ParameterError
from s2utils.workflow.notebook import Run

BASELINE = "baseline"
CHANGES = {  # arm → fields of its configuration
    BASELINE: {},
    "layernorm": {"norm": "layernorm"},
    "layernorm_plain": {"norm": "layernorm_plain"},
    "gelu": {"activation": "gelu"},
    "parallel": {"block": "parallel"},
    "learned": {"positions": "learned"},
    "t5": {"positions": "t5"},
    "gqa": {},  # as many groups as `grouped` says
    "mqa": {"num_key_value_heads": 1},
}
CHOICES = {  # choice → {variant, as a table has it: arm}
    "norm": {
        "RMSNorm": BASELINE, "LayerNorm": "layernorm", "LayerNorm without parameters": "layernorm_plain",
    },
    "activation": {"SwiGLU": BASELINE, "GeLU": "gelu"},
    "block": {"sequential": BASELINE, "parallel": "parallel"},
    "positions": {"RoPE": BASELINE, "learned": "learned", "T5 bias": "t5"},
    "heads": {"MHA": BASELINE, "GQA": "gqa", "MQA": "mqa"},
}  # fmt: skip


def plan(settings: Architecture, weights: dict[str, float]) -> list[ladder.Run]:
    """One run an arm and seed, on the mix `weights`; those of one seed see the same text."""
    return [
        ladder.Run(f"{arm}-{seed}", settings.parameters, dict(weights), settings.bytes, (), seed, arm)
        for seed in settings.seeds
        for arm in CHANGES
    ]


def build(run: ladder.Run, vocab_size: int, context: int) -> Decoder:
    """The decoder of a run with new weights: a `build` of `ladder.train`."""
    return Decoder(config(run.variant, run.parameters, vocab_size, context))


def config(arm: str, parameters: int, vocab_size: int, context: int) -> Config:
    """Configuration of an arm, its MLP as wide as its parameters allow; ParameterError where no groups share heads."""
    given = ladder.config(parameters, vocab_size, context)
    sizes = {field.name: getattr(given, field.name, None) for field in dataclasses.fields(Config)}
    baseline = Config(**{name: size for name, size in sizes.items() if size is not None})
    changes = CHANGES[arm] if arm != "gqa" else {"num_key_value_heads": grouped(baseline.num_attention_heads)}
    changed = dataclasses.replace(baseline, **changes)
    a_unit = changed.num_hidden_layers * changed.hidden_size * (3 if changed.activation == "swiglu" else 2)
    wider = round((size(baseline) - size(changed)) / a_unit)
    return dataclasses.replace(changed, intermediate_size=changed.intermediate_size + wider)


def grouped(heads: int) -> int:
    """Key-value heads of the grouped arm: the largest divisor up to the root of `heads`, other than 1 and all."""
    fitting = [n for n in range(2, heads) if heads % n == 0 and n * n <= heads]
    if not fitting:
        raise ParameterError(f"'architecture.parameters' makes {heads} heads, which no groups share: take another size")
    return max(fitting)


def size(config: Config) -> int:
    """Parameters outside of the embeddings, of which none is made."""
    with torch.device("meta"):
        return ladder.outside_embedding(Decoder(config))


def make(run: Run) -> pd.DataFrame:
    """Train a model an arm and seed, unless that is done; one row each, as `ladder.train`."""
    return pretraining.make(run, "arms", lambda _, weights: plan(run.params.architecture, weights), build)
