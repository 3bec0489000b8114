"""Parameters, cache, FLOP and bytes of a decoder from its configuration alone: no weights are needed to know them.

`parts` counts parameters by what they are for; a token uses all of them but the experts that it does not choose. FLOP
are 2 a parameter that multiplies, plus attention to what lies in the cache; bytes are those that a step of decoding
must read, weights once for the whole batch. Trap: with a batch, other tokens choose other experts, so nearly all are
read: a mixture saves work, and memory traffic only where few tokens are decoded at once.
Source: configurations of transformers; Jiang et al. 2023, table 1; Jiang et al. 2024, section 2.
"""

from __future__ import annotations

from transformers import PretrainedConfig

BIASED = ("qwen2", "qwen2_moe")  # their query, key and value projections have biases, which no field tells
NORMED = {  # what the norms of queries and keys are as wide as, where a model has them
    "olmoe": "all heads",
    "qwen3": "one head",
    "qwen3_moe": "one head",
}
KNOWN = ("llama", "mistral", "mixtral", *BIASED, *NORMED)


def heads(config: PretrainedConfig) -> tuple[int, int, int]:
    """(query heads, key-value heads, dimensions of a head)."""
    return config.num_attention_heads, config.num_key_value_heads or config.num_attention_heads, head_dim(config)


def head_dim(config: PretrainedConfig) -> int:
    """Dimensions of a head; where no field says so, its share of the hidden size."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def experts(config: PretrainedConfig) -> tuple[int, int]:
    """(experts of a layer, those that a token chooses); (1, 1) of a dense model."""
    names = ("num_local_experts", "num_experts", "n_routed_experts")
    n_experts = next((getattr(config, name) for name in names if getattr(config, name, None)), 1)
    return n_experts, config.num_experts_per_tok if n_experts > 1 else 1


def sparse_layers(config: PretrainedConfig) -> int:
    """Layers with experts: all of a mixture's but `mlp_only_layers` and those that `decoder_sparse_step` passes by."""
    if experts(config)[0] == 1:
        return 0
    dense, step = getattr(config, "mlp_only_layers", None) or (), getattr(config, "decoder_sparse_step", 1)
    return sum(i not in dense and (i + 1) % step == 0 for i in range(config.num_hidden_layers))


def parts(config: PretrainedConfig) -> dict[str, int]:
    """Parameters by part: embedding, attention, mlp, experts, router, norms, head; a tied head has none of its own.

    `mlp` is of dense layers and of experts that every token uses. ValueError for a model whose parts are not known.
    """
    if config.model_type not in KNOWN:
        raise ValueError(f"parameters of {config.model_type!r} are not known from its fields: only of {KNOWN}")
    hidden, layers, sparse = config.hidden_size, config.num_hidden_layers, sparse_layers(config)
    queries, pairs, width = heads(config)
    n_experts, _ = experts(config)
    projected = (queries + 2 * pairs) * width
    biases = projected if config.model_type in BIASED else 0
    if getattr(config, "attention_bias", False):
        biases = projected + (0 if config.model_type == "olmoe" else hidden)
    normed = {None: 0, "all heads": (queries + pairs) * width, "one head": 2 * width}
    shared = getattr(config, "shared_expert_intermediate_size", 0)
    shared = 3 * hidden * shared + hidden if shared else 0  # with its gate
    embedding = config.vocab_size * hidden
    mlp = 3 * hidden * config.intermediate_size + getattr(config, "mlp_bias", False) * (
        2 * config.intermediate_size + hidden
    )
    return {
        "embedding": embedding,
        "attention": layers * (hidden * projected + queries * width * hidden + biases),
        "mlp": (layers - sparse) * mlp + sparse * shared,
        "experts": sparse * n_experts * expert_parameters(config),
        "router": sparse * hidden * n_experts,
        "norms": (2 * layers + 1) * hidden + layers * normed[NORMED.get(config.model_type)],
        "head": 0 if config.tie_word_embeddings else embedding,
    }


def expert_parameters(config: PretrainedConfig) -> int:
    """Parameters of one expert of one layer: three matrices."""
    inner = getattr(config, "moe_intermediate_size", None) or config.intermediate_size
    return 3 * config.hidden_size * inner


def total_parameters(config: PretrainedConfig) -> int:
    """Parameters of the whole model."""
    return sum(parts(config).values())


def active_parameters(config: PretrainedConfig) -> int:
    """Parameters that one token uses, the embedding included as published counts do."""
    n_experts, chosen = experts(config)
    return total_parameters(config) - sparse_layers(config) * (n_experts - chosen) * expert_parameters(config)


def flop_per_token(config: PretrainedConfig, context: int) -> int:
    """FLOP of one token's forward pass with `context` tokens in the cache; looking up an embedding is none."""
    sizes = parts(config)
    looked_up = sizes["embedding"] if sizes["head"] else 0  # a tied embedding multiplies as the head
    queries, _, width = heads(config)
    scores = 4 * config.num_hidden_layers * queries * width * context
    return 2 * (active_parameters(config) - looked_up - sizes["norms"]) + scores


def cache_bytes(config: PretrainedConfig, item_bytes: int) -> int:
    """Bytes that a token's keys and values take in the cache, all layers; `item_bytes` is 2 in bfloat16."""
    _, pairs, width = heads(config)
    return 2 * config.num_hidden_layers * pairs * width * item_bytes


def expected_experts(n_experts: int, chosen: int, batch_size: int) -> float:
    """Different experts of a layer that a batch of tokens needs if all choices are equally likely.

    E·(1 − (1 − k/E)^B) of E = n_experts, k = chosen, B = batch_size.
    """
    return n_experts * (1 - (1 - chosen / n_experts) ** batch_size)


def bytes_read(config: PretrainedConfig, batch_size: int, context: int, item_bytes: int) -> float:
    """Bytes that one step of decoding reads: weights once a batch, the experts it needs, and every sequence's cache.

    Experts are those of `expected_experts`; of the embedding a row a token is read, unless it is the head.
    """
    sizes = parts(config)
    n_experts, chosen = experts(config)
    looked_up = sizes["embedding"] - batch_size * config.hidden_size if sizes["head"] else 0
    unread = sizes["experts"] * (1 - expected_experts(n_experts, chosen, batch_size) / n_experts)
    weights = total_parameters(config) - looked_up - unread
    return weights * item_bytes + batch_size * context * cache_bytes(config, item_bytes)
