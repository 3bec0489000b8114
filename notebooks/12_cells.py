# ruff: noqa: E501
# Cells of the first part of 12_experts, in order; `run`, `p`, `profile`, `plt`, `pd`, `sns`, `figures` and `intervals`
# are what the notebook's first cells give. The text of a markdown cell stands in its comment.

# %% [markdown]
# ## A layer of experts, by hand
#
# A router scores the experts for each token and keeps the best k: G = Softmax(TopK(x·Wg)). An expert is the MLP of the dense model, a SwiGLU: w2(SiLU(w1 x)·w3 x). The layer returns Σ Gᵢ·expertᵢ(x) over those k alone. One token, eight experts, two chosen:

# %%
import torch
from torch.nn.functional import silu

from s2utils.architecture import experts

torch.manual_seed(p.seed)
layer, tokens = experts.TopKLayer(n_experts=8, k=2, hidden_size=64, intermediate_size=224), torch.randn(1, 32, 64)
token, logits = tokens[0, 0], layer.gate(tokens[0, 0])
chosen = logits.topk(2).indices
gates = logits[chosen].softmax(-1)
pd.DataFrame({"expert": chosen, "router logit": logits[chosen].detach(), "gate": gates.detach()}).round(3)

# %%
outputs = []
for i in chosen:
    w1, w3 = layer.experts.gate_up_proj[i].chunk(2)
    outputs.append(layer.experts.down_proj[i] @ (silu(w1 @ token) * (w3 @ token)))
by_hand = gates[0] * outputs[0] + gates[1] * outputs[1]
torch.testing.assert_close(by_hand, layer(tokens)[0, 0], atol=1e-6, rtol=1e-4)

# %% [markdown]
# transformers takes the softmax of all experts first, keeps two, and divides by their sum. In exact arithmetic that is the same, for a softmax of some is the softmax of all made to sum to 1. The same weights, loaded from its block into ours by name:

# %%
from transformers import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock, load_balancing_loss_func

config = MixtralConfig(hidden_size=64, intermediate_size=224, experts_implementation="eager")
block = MixtralSparseMoeBlock(config)
block.load_state_dict(layer.state_dict())
of_all = layer.gate(tokens[0]).softmax(-1).topk(2).values
torch.testing.assert_close(of_all / of_all.sum(-1, keepdim=True), experts.top_k(layer.gate(tokens[0]), 2)[0])
torch.testing.assert_close(layer(tokens), block(tokens), atol=1e-6, rtol=1e-4)
f"largest difference from transformers' block: {(layer(tokens) - block(tokens)).abs().max():.1e}"

# %% [markdown]
# ## What keeps experts busy, and what the usual loss does not see
#
# Left alone, a router soon prefers the experts that were lucky first. The Switch loss E·Σ fᵢ·Pᵢ (share of tokens times mean probability) is k where all experts get as much and E where one gets all. transformers pools the tokens of all layers *before* the product. We expect the pooled loss to call balanced what is as unbalanced as it can be: four layers that each send every token to one expert, but to different ones.

# %%
collapsed = tuple(10 * torch.eye(4)[favourite].repeat(16, 1) for favourite in range(4))
alike = (10 * torch.eye(4)[0].repeat(16, 1),) * 4
even = (10 * torch.eye(4).repeat(4, 1),) * 4
kinds = {"each layer collapsed, to another expert": collapsed, "all collapsed to one": alike, "balanced": even}
seen = {
    name: {
        "by layer, mean": float(experts.balance_losses(layers, 1).mean()),
        "pooled": float(load_balancing_loss_func(layers, 4, 1)),
    }
    for name, layers in kinds.items()
}
pd.DataFrame(seen).T.round(3)

# %%
assert seen["balanced"]["by layer, mean"] < 1.01 and seen["balanced"]["pooled"] < 1.01
assert seen["each layer collapsed, to another expert"]["by layer, mean"] > 3.9, "by layer: as bad as can be"
assert seen["each layer collapsed, to another expert"]["pooled"] < 1.01, "pooled: as good as can be"

# %% [markdown]
# ## What a mixture costs
#
# Parameters follow from the configuration alone. Mixtral is Mistral with eight MLPs in place of one; each token uses two. A step of decoding reads the weights once for the whole batch, and each sequence's cache. At a batch of one we expect Mixtral to read as much as a model of its active size.

# %%
from transformers import MistralConfig

from s2utils.architecture import shapes

configs = {
    "Mistral 7B": MistralConfig(vocab_size=32_000, num_key_value_heads=8),
    "Mixtral 8x7B": MixtralConfig(vocab_size=32_000),
}
parts = pd.DataFrame({name: shapes.parts(config) for name, config in configs.items()})
parts.loc["total"] = [shapes.total_parameters(config) for config in configs.values()]
parts.loc["active"] = [shapes.active_parameters(config) for config in configs.values()]
assert parts.loc["total"].tolist() == [7_241_732_096, 46_702_792_704]
assert parts.loc["active", "Mixtral 8x7B"] == 12_879_925_248
parts.map("{:,}".format)

# %%
costs = pd.DataFrame(index=configs)
costs["GFLOP a token"] = [shapes.flop_per_token(config, 4096) / 1e9 for config in configs.values()]
costs["cache, bytes a token"] = [shapes.cache_bytes(config, 2) for config in configs.values()]
costs["GB in bfloat16"] = 2 * parts.loc["total"] / 1e9
assert (costs["cache, bytes a token"] == 131_072).all(), "experts leave the cache as it is"
costs.round(1)

# %% [markdown]
# ## What a batch does to the experts that must be read
#
# The tokens of a batch choose different experts, and a step reads all that any of them chose: E·(1 − (1 − k/E)^B) if all choices are equally likely. We expect the saving in what is read to be gone at batches of ten or so, while the saving in arithmetic stays.

# %%
sizes = [1, 2, 4, 8, 16, 32, 64]
needed = [shapes.expected_experts(8, 2, size) for size in sizes]
read = {
    name: [shapes.bytes_read(config, size, 0, 2) / size / 1e9 for size in sizes] for name, config in configs.items()
}
assert needed[0] == 2 and needed[3] > 7
pd.DataFrame({"batch": sizes, "experts read": needed} | {f"{n}, GB a token": v for n, v in read.items()}).round(2)

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4))
axes[0].plot(sizes, needed, marker="o")
axes[0].axhline(8, color="k", ls="--", lw=1)
axes[0].set(xlabel="batch", ylabel="experts of a layer that are read")
for name, gigabytes in read.items():
    axes[1].plot(sizes, gigabytes, marker="o", label=name)
axes[1].set(yscale="log", xlabel="batch", ylabel="GB of weights read a token")
axes[1].legend()
for axis in axes:
    axis.set_xscale("log", base=2)
alt = "Experts that a batch must read, and weights read a token, against the batch size."
caption = "Uniform choices, bfloat16, no context: arithmetic, not measured."
figures.save(figure, "experts_read", run.figures, alt, caption)

# %% [markdown]
# ## Routers through the years
#
# The same block, y = x + Σ Gᵢ(x)·expertᵢ(x), eight experts, and five ways to choose: a stochastic selector of one, whose experts compete (Jacobs 1991); all of them (Eigen 2013); noisy top-2 with losses of importance and load (Shazeer 2017); the best one, with room for so many tokens only (Switch, 2022); top-2 (Mixtral, 2024). Each learns the same synthetic task for as many steps: clusters of unequal size, each with a map of its own.
#
# We expect the balance losses to spread the tokens, and those without one not to; capacity to drop tokens, for the largest cluster alone is more than an expert has room for; and no loss to be better by more than seeds differ, but for the router that drops.

# %%
from s2utils.architecture import routers
from s2utils.stats import intervals

trained = routers.trained(p.routers.seeds, p.routers.steps)
columns = ["tokens_dropped", "balance", "loss"]
by_router = pd.DataFrame([
    {"router": name, "experts": part["experts"].iloc[0], "n": len(part)}
    | {k: v for c in columns for k, v in intervals.columns(c, intervals.mean(part[c], p)).items()}
    for name, part in trained.groupby("router", sort=False)
])  # fmt: skip
caption = (
    f"Profile {profile}: {p.routers.steps} steps of {routers.BATCH} points of a synthetic task; loss is the squared "
    "error relative to no experts at all, balance exp(entropy of the experts' shares) ÷ their number: 1 is even."
)
run.save_table(by_router, "routers", caption, title="Routers through the years", unit="seed", keys=["router"])

# %%
figure, axes = plt.subplots(1, 3, figsize=(11, 3), sharey=True)
labels = {"tokens_dropped": "share of tokens dropped", "balance": "balance (1: even)", "loss": "loss (1: no experts)"}
for axis, (column, label) in zip(axes, labels.items()):
    error = [by_router[column] - by_router[f"{column}_ci_low"], by_router[f"{column}_ci_high"] - by_router[column]]
    axis.errorbar(by_router[column], by_router["router"], xerr=error, fmt="o", capsize=3)
    axis.set(xlabel=label, xlim=(0, None))
axes[0].invert_yaxis()
alt = "Tokens dropped, balance of experts and loss of five routers, with intervals over seeds."
caption = f"Intervals over {len(p.routers.seeds)} seeds; a synthetic task. Profile {profile}."
figures.save(figure, "routers", run.figures, alt, caption)

# %% [markdown]
# What a seed moves, and what the router does: a sentence from the table.

# %%
told = by_router.set_index("router")
best, worst, evenest = told["loss"].idxmin(), told["loss"].idxmax(), told["balance"].idxmax()
dropping = told.index[told["tokens_dropped"] > 0]
assert told["balance"].between(1 / routers.N_EXPERTS, 1.0001).all() and trained.groupby("router").size().nunique() == 1
Markdown(
    f"Least loss: {best} ({told.at[best, 'loss']:.3f}), most: {worst} ({told.at[worst, 'loss']:.3f}). "
    f"Evenest: {evenest} ({told.at[evenest, 'balance']:.2f}). "
    + " ".join(f"{name} drops {told.at[name, 'tokens_dropped']:.0%} of the tokens." for name in dropping)
)

# %% [markdown]
# (Beside the routing analysis, whose frame is `routing`.) What a batch reads, measured: tokens of as many documents, one each, as in decoding. Experts that are shared out unevenly are fewer than uniform choices would need.

# %%
from s2utils.stats import routing as statistics

read = []
for (name, layer), part in routing.groupby(["model", "layer"], sort=False):
    probabilities, choices, numbers = expert_routing.stacked(part)
    for size in (size for size in (1, 4, 16, 64) if size <= len(part)):
        measured = statistics.experts_needed(choices, numbers, size, 200, p.seed)
        expected = shapes.expected_experts(probabilities.shape[1], choices.shape[1], size)
        read.append({"model": name, "layer": layer, "batch": size, "measured": measured, "uniform": expected})
pd.DataFrame(read).pivot(index=["model", "layer"], columns="batch", values=["measured", "uniform"]).round(2)
