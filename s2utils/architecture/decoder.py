"""A small decoder whose choices are fields of its configuration: norm, MLP, block, positions, heads, window.

With its defaults it is a Llama of transformers, whose weights it takes (`from_transformers`; those of Mistral, OLMo and
Phi too) and whose logits it has. The head is the embedding. A block is sequential, x + MLP(norm(x)) after
x + attention(norm(x)), or parallel, x + attention(norm(x)) + MLP(norm(x)) with one norm (PaLM, Chowdhery and others
2022). T5's bias is shared by all layers, as in T5. Trap: there is no cache; every forward computes all positions.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from s2utils.architecture.attention import Attention, biased, visible
from s2utils.architecture.blocks import GeluMLP, LayerNorm, RMSNorm, SwiGLU
from s2utils.architecture.positions import RelativeBias, angles

STD = 0.02  # of new weights
KINDS = {  # model_type of transformers → what is not as in Llama
    "olmo": {"norm": "layernorm_plain"},
    "phi": {"norm": "layernorm", "activation": "gelu", "block": "parallel"},
}
NAMES = {  # of Phi's weights → Llama's
    "self_attn.dense": "self_attn.o_proj", "mlp.fc1": "mlp.up_proj", "mlp.fc2": "mlp.down_proj",
    "final_layernorm": "norm",
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """What a decoder is; names of sizes are transformers'. ValueError for sizes that do not go together."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int  # of training; learned positions have no others
    norm: Literal["rmsnorm", "layernorm", "layernorm_plain"] = "rmsnorm"  # plain: without parameters
    activation: Literal["swiglu", "gelu"] = "swiglu"
    block: Literal["sequential", "parallel"] = "sequential"
    positions: Literal["rope", "learned", "t5"] = "rope"
    window: int | None = None
    sinks: int = 0  # of the window
    norm_eps: float = 1e-6
    rope_theta: float = 10_000.0

    def __post_init__(self):
        for name, hint in typing.get_type_hints(type(self)).items():
            known = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
            if known and getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r} is none of {', '.join(known)}")
        if self.hidden_size % self.num_attention_heads or self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"{self.num_key_value_heads} key-value heads, {self.num_attention_heads} heads and a hidden size of "
                f"{self.hidden_size} must each divide the next"
            )


class Output(NamedTuple):
    """What a forward gives, as transformers calls it."""

    logits: Tensor  # (B, T, vocabulary)


class Block(nn.Module):
    """Attention and MLP, each on normed input, added to the stream that runs through all blocks."""

    def __init__(self, config: Config):
        super().__init__()
        self.parallel = config.block == "parallel"
        self.input_layernorm = norm(config)
        self.self_attn = Attention(config.hidden_size, config.num_attention_heads, config.num_key_value_heads)
        self.mlp = {"swiglu": SwiGLU, "gelu": GeluMLP}[config.activation](config.hidden_size, config.intermediate_size)
        if not self.parallel:
            self.post_attention_layernorm = norm(config)

    def forward(self, x: Tensor, seen: Tensor, turn: Tensor | None) -> Tensor:
        """(B, T, width) to the same; the rest as `Attention`."""
        normed = self.input_layernorm(x)
        attended = self.self_attn(normed, seen, turn)
        if self.parallel:
            return x + attended + self.mlp(normed)
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """Token ids to logits."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        if config.positions == "learned":
            self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        if config.positions == "t5":
            self.relative_bias = RelativeBias(config.num_attention_heads)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = norm(config)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=STD)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.embed_tokens.weight.device

    def get_input_embeddings(self) -> nn.Embedding:
        """The embedding of tokens, which is also the head."""
        return self.embed_tokens

    def get_output_embeddings(self) -> None:
        """None: there is no head beside the embedding."""

    def forward(self, input_ids: Tensor) -> Output:
        """Logits of the token after each of `input_ids` (B, T); ValueError beyond the last learned position."""
        places, config = torch.arange(input_ids.size(1), device=input_ids.device), self.config
        seen = visible(places, places, config.window, config.sinks)
        x, turn = self.embed_tokens(input_ids), None
        if config.positions == "rope":
            turn = angles(places, config.hidden_size // config.num_attention_heads, config.rope_theta)
        elif config.positions == "t5":
            seen = biased(seen, self.relative_bias(places, places))
        elif len(places) > config.max_position_embeddings:
            raise ValueError(
                f"{len(places)} tokens, and positions are learned for {config.max_position_embeddings}: give fewer"
            )
        else:
            x = x + self.embed_positions(places)
        for layer in self.layers:
            x = layer(x, seen, turn)
        return Output(functional.linear(self.norm(x), self.embed_tokens.weight))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors, which `load` reads."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "config.json").write_text(json.dumps(dataclasses.asdict(self.config), indent=2) + "\n")
        weights = {name: weight.contiguous() for name, weight in self.state_dict().items()}
        save_file(weights, Path(folder) / "model.safetensors")


def load(folder: str | Path) -> Decoder:
    """What `save_pretrained` has written, for inference."""
    config = Config(**json.loads((Path(folder) / "config.json").read_text()))
    return _with(config, load_file(Path(folder) / "model.safetensors"))


def norm(config: Config) -> nn.Module:
    """A new norm of that configuration."""
    if config.norm == "rmsnorm":
        return RMSNorm(config.hidden_size, config.norm_eps)
    return LayerNorm(config.hidden_size, config.norm_eps, affine=config.norm == "layernorm")


def from_transformers(model) -> Decoder:
    """A Llama, Mistral, OLMo or Phi of transformers as a decoder with the same weights, shared, and logits.

    ValueError for a head of its own, a rotation that is scaled or of some dimensions only, another activation, or
    biases of matrices that are not 0.
    """
    given, rotary = model.config, model.config.rope_parameters
    plain = rotary.get("rope_type", "default") == "default" and rotary.get("partial_rotary_factor", 1) == 1
    if not (given.tie_word_embeddings and plain and given.hidden_act in ("silu", "gelu")):
        raise ValueError(
            "only models whose head is the embedding, whose rotation is of all dimensions and not scaled, and whose "
            "activation is SiLU or GeLU can be taken"
        )
    sizes = {field.name: getattr(given, field.name, None) for field in dataclasses.fields(Config)}
    sizes = {name: size for name, size in sizes.items() if size is not None}
    config = Config(
        **sizes | KINDS.get(given.model_type, {}),
        norm_eps=getattr(given, "rms_norm_eps", None) or getattr(given, "layer_norm_eps", 1e-5),
        rope_theta=rotary["rope_theta"],
        window=getattr(given, "sliding_window", None),
    )
    weights = {}
    for name, weight in model.state_dict().items():
        for theirs, ours in NAMES.items():
            name = name.replace(theirs, ours)
        if name.endswith("bias") and "norm" not in name:
            if weight.any():
                raise ValueError(f"{name} is not 0, and there are no biases here")
        elif name != "lm_head.weight":
            weights[name.removeprefix("model.")] = weight
    return _with(config, weights)


def _with(config: Config, weights: dict[str, Tensor]) -> Decoder:
    """A decoder of these very weights, which are not copied."""
    with torch.device("meta"):
        model = Decoder(config)
    model.load_state_dict(weights, assign=True)
    return model.eval()
