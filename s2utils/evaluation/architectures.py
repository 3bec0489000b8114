"""Published tables of architectures, cell by cell beside live configurations.

A configuration is the hub's where `configurations.models` names it, else the defaults of transformers' class, which are
documented to be one published model; where there is neither, the cell says so. What a table prints in words (norm,
biases, block) is read off the model that the configuration builds, on the meta device, where nothing is allocated.
Trap: `max_position_embeddings` is what a library allows, not what a model was trained on. Printed tables lie in
reports/published/<paper>/; sources: Jiang et al. 2023, 2024; Groeneveld et al. 2024; Touvron et al. 2023.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import pandas as pd
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    FalconConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    OlmoConfig,
    PretrainedConfig,
)

from s2utils.architecture import shapes
from s2utils.data import corpus_mix
from s2utils.models import loading
from s2utils.models.parameters import Weights

YES, NO, ABSENT = "yes", "no", "not at hand"
DEFAULTS: dict[str, tuple[type[PretrainedConfig], frozenset[str]]] = {  # and the fields in which another model differs
    "Mistral-7B": (MistralConfig, frozenset()),
    "Mixtral-8x7B": (MixtralConfig, frozenset()),
    "OLMo-7B": (OlmoConfig, frozenset()),
    "LLaMA1-7B": (LlamaConfig, frozenset()),
    "LLaMA2-7B": (LlamaConfig, frozenset({"context_len", "context_k_tokens"})),
    "Falcon-7B": (FalconConfig, frozenset()),
}
FIELDS = {  # as the tables of OLMo and Llama 2 print them → as ours and Mistral's are called
    "dimension": "dim", "num_heads": "n_heads", "num_layers": "n_layers", "layer_norm_type": "norm",
    "positional_embeddings": "positions", "attention_variant": "attention", "block_type": "block",
    "sequence_length": "context_len", "layers": "n_layers", "hidden_size": "dim", "attention_heads": "n_heads",
    "size_billions": "parameters_billions", "params_billions": "parameters_billions",
    "context_length_k_tokens": "context_k_tokens",
}  # fmt: skip
OF_TRAINING = ("batch_size_instances", "batch_size_million_tokens")
MULTIPLE = 256  # to which Llama and OLMo round the width of an MLP up


def table(models: Mapping[str, Weights]) -> pd.DataFrame:
    """One row a printed cell: table, model, field, config, printed, agrees (yes, no, not at hand), source.

    `models` are configurations of the hub by name, as the tables name them.
    """
    rows, known = [], {}
    for source_table, model, field, text in printed():
        if model not in known:
            known[model] = _facts(model, models)
        found, source = known[model]
        value = found.get(field, "")
        agrees = ABSENT if value == "" else YES if _alike(field, value, text, found) else NO
        row = {"table": source_table, "model": model, "field": field, "config": str(value), "printed": text}
        rows.append(row | {"agrees": agrees, "source": source if value != "" else ABSENT})
    return pd.DataFrame(rows)


def printed() -> list[tuple[str, str, str, str]]:
    """(table, model, field, text as printed) of every cell about an architecture, in the order of the tables."""
    cells = []
    for paper, model in (("mistral", "Mistral-7B"), ("mixtral", "Mixtral-8x7B")):
        frame = corpus_mix.published(paper, "architecture")
        cells += [(f"{paper}/architecture", model, row.parameter, row.value) for row in frame.itertuples()]
    for row in corpus_mix.published("olmo", "architecture").drop(columns=[*OF_TRAINING]).to_dict("records"):
        model = row.pop("model")
        cells += [("olmo/architecture", model, FIELDS.get(field, field), text) for field, text in row.items()]
    for row in corpus_mix.published("olmo", "sizes").to_dict("records"):
        shape = ("size_billions", "layers", "hidden_size", "attention_heads")
        cells += [("olmo/sizes", f"OLMo-{row['size_billions']}B", FIELDS[field], row[field]) for field in shape]
    for row in corpus_mix.published("llama2", "family").to_dict("records"):
        model = f"{row['family'].replace('Llama ', 'LLaMA')}-{row['params_billions']}B"
        shape = ("params_billions", "context_length_k_tokens", "gqa")
        cells += [("llama2/family", model, FIELDS.get(field, field), row[field]) for field in shape]
    return cells


def built(config: PretrainedConfig) -> torch.nn.Module:
    """The language model of a configuration, without any numbers in it."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def facts(config: PretrainedConfig) -> dict[str, object]:
    """{field: value} of a configuration, fields as `printed` names them."""
    model, heads = built(config), config.num_attention_heads
    modules, weights = dict(model.named_modules()), dict(model.named_parameters())
    one_key_head = getattr(config, "multi_query", False)
    key_heads = 1 if one_key_head else getattr(config, "num_key_value_heads", None) or heads
    norms = {type(m).__name__: m for m in modules.values() if "norm" in type(m).__name__.lower()}
    norm_name, norm = next(iter(norms.items()))
    biased = {name for name in weights if name.endswith("bias")}
    inside_norms = {name for name in biased if "norm" in type(modules[name.rpartition(".")[0]]).__name__.lower()}
    gated = config.to_dict().get("hidden_act") == "silu"
    found = {
        "dim": config.hidden_size,
        "n_layers": config.num_hidden_layers,
        "head_dim": shapes.head_dim(config),
        "hidden_dim": getattr(config, "intermediate_size", None) or config.ffn_hidden_size,
        "n_heads": heads,
        "n_kv_heads": key_heads,
        "window_size": getattr(config, "sliding_window", None) or "",
        "context_len": config.max_position_embeddings,
        "context_k_tokens": config.max_position_embeddings // 1024,
        "vocab_size": config.vocab_size,
        "num_experts": getattr(config, "num_local_experts", ""),
        "top_k_experts": getattr(config, "num_experts_per_tok", ""),
        "attention": "full" if key_heads == heads else "MQA" if key_heads == 1 else "GQA",
        "gqa": YES if 1 < key_heads < heads else NO,
        "norm": "RMSNorm" if "RMS" in norm_name else "parametric" if list(norm.parameters()) else "non-parametric",
        "positions": "RoPE" if any("rotary" in name for name in modules) else "learned",
        "biases": "none" if not biased else "in LN only" if biased == inside_norms else "yes",
        "block": "parallel" if getattr(config, "parallel_attn", False) else "sequential",
        "activation": "SwiGLU" if gated else "GeLU",
        "weight_tying": YES if config.tie_word_embeddings else NO,
        "parameters_billions": round(sum(weight.numel() for weight in weights.values()) / 1e9, 2),
    }
    return found | {"mlp_ratio": round(found["hidden_dim"] / found["dim"], 4)}


def _facts(model: str, models: Mapping[str, Weights]) -> tuple[dict[str, object], str]:
    """(`facts`, where they are from) of a model by its printed name."""
    if model in models:
        path, options = loading.located(models[model])
        return facts(AutoConfig.from_pretrained(path, **options)), path
    if model not in DEFAULTS:
        return {}, ABSENT
    maker, without = DEFAULTS[model]
    return {k: v for k, v in facts(maker()).items() if k not in without}, f"defaults of {maker.__name__}"


def _alike(field: str, value: object, text: str, of: Mapping[str, object]) -> bool:
    """Whether a value is what is printed: a ratio where the width is that many times `dim`, rounded up."""
    if field == "mlp_ratio":
        return of["hidden_dim"] == math.ceil(Fraction(text) * of["dim"] / MULTIPLE) * MULTIPLE
    if field == "parameters_billions":
        return round(value) == int(text)
    return str(value) == text
