# Cells for 11, between "Which to pick" and "Turn it". They use the names of its first cells (run, p, profile, figures,
# torch, np, pd, plt, sns, Markdown). Metadata: a step
#   {"name": "windows", "made_by": "evaluation.attention_windows:make", "reads": "corpus", "cpu_mb": 2500,
#    "gpu_mb": 40000, "gpu_minutes": 30, "priority": 5,
#    "parameters": "seed runtime model.dtype attention_windows text_metrics.resamples text_metrics.confidence"}
# and, of the notebook's own step: reads "… windows", parameters "… configurations", tables
# "… attention_window attention_reach cache cache_exact architectures".

# %% [markdown]
# ## A window, and how far layers reach
#
# Under a window of W a query sees W keys, itself counted, whatever the length of the text: attention costs W a token
# and no more. What lies further back is not lost: the key at the window's far end has itself seen W keys a layer
# below. After l layers a token can reach l(W − 1) + 1 tokens; papers that do not count the token itself say W · l.
# Below, the mask of a window of 4 is multiplied with itself: which tokens can have reached the last one after 1, 2, …
# layers.

# %%
from s2utils.architecture import cache

window, layers, places = 4, 5, torch.arange(18)
mask = cache.visible(places, places, window).float()
reached = torch.stack([torch.linalg.matrix_power(mask, layer)[-1] > 0 for layer in range(1, layers + 1)])
assert reached.sum(1).tolist() == [layer * (window - 1) + 1 for layer in range(1, layers + 1)]

# %%
figure, axis = plt.subplots(figsize=(8, 2.2))
sns.heatmap(reached.float(), cmap="Blues", vmin=0, vmax=1.4, cbar=False, linewidths=1, ax=axis)
axis.set(xlabel="token", ylabel="layers", yticklabels=range(1, layers + 1))
axis.set_xticks(np.arange(0, 18, 3) + 0.5, range(0, 18, 3))
axis.invert_yaxis()
alt = "A staircase: each further layer reaches three tokens further back from the last one."
figures.save(figure, "attention_reach", run.figures, alt, f"What reaches the last token under a window of {window}.")

# %% [markdown]
# The same of a model: a token is exchanged, and the states of later ones are compared, layer by layer. In a small
# Mistral of noise the farthest that changes at all is exactly where the arithmetic puts it.

# %%
from transformers import MistralConfig, MistralForCausalLM

from s2utils.evaluation import attention_windows

torch.manual_seed(p.seed)
small = MistralConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=layers)
small.update({"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.3})
noise = MistralForCausalLM(small).double().eval()
moved = attention_windows.change(noise, torch.randint(0, 64, (3, 24)), window)
by_layer = attention_windows.reach(moved, window, p)
assert (by_layer["reached"] == by_layer["bound"]).all()
by_layer[["layer", "bound", "reached", "felt"]]

# %% [markdown]
# ## What a window costs a model that was not trained for one
#
# Real text under windows of several sizes, by a model that always saw everything: its weights load unchanged into
# Mistral's class. The first tokens are cut off with the rest, or kept: many models put weight there that they need
# nowhere else (attention sinks, Xiao 2023). Sinks count in W, so both rows of a window hold as many keys. We expect
# the loss to rise as W shrinks, steeply once it is a sentence or less, and most of that to be the missing first
# tokens: with them kept a window should cost little.

# %%
found = attention_windows.make(run)
given = p.attention_windows
caption = (
    f"Profile {profile}, {given.model.path}, {p.model.dtype}: first {given.tokens:,} tokens of n held-out documents, "
    "nats a token; window 0: none. `added`: the loss above that, document by document. Sinks count in the window."
)
title, keys = "Loss under a window", ["window", "sinks"]
run.save_table(found["attention_window"], "attention_window", caption, title=title, unit="document", keys=keys)

# %%
loss = found["attention_window"]
whole, narrow = loss[loss["window"] == 0].iloc[0], loss[loss["window"] > 0]
figure, axis = plt.subplots(figsize=(6.5, 3.4))
for sinks, part in narrow.groupby("sinks"):
    spread = [part["loss"] - part["loss_ci_low"], part["loss_ci_high"] - part["loss"]]
    axis.errorbar(part["window"], part["loss"], spread, fmt="o-", capsize=3, label=f"{sinks} first tokens kept")
axis.axhline(whole["loss"], color="k", ls=":", label="no window")
axis.set(xscale="log", xlabel="window W, tokens", ylabel="loss, nats a token")
axis.set_xticks(narrow["window"].unique(), narrow["window"].unique(), minor=False)
axis.set_xticks([], minor=True)
axis.legend(fontsize="small")
alt = "Loss against the window, with the first tokens kept and without; a dotted line is the loss without a window."
figures.save(figure, "attention_window", run.figures, alt, f"Intervals: documents. Profile {profile}.")

# %% [markdown]
# How far does a change travel in real weights? `reached` is the farthest token whose state differs at all, `felt` by
# a hundredth of its length or more. We expect the first to follow the arithmetic, as it must, and the second to fall
# far behind it: every layer's residual stream passes on mostly the token's own.

# %%
reach = found["attention_reach"]
caption = (
    f"Profile {profile}, {given.model.path}, W = {given.reach_window}: tokens from a changed one to the farthest that "
    "differs after so many layers, itself counted; mean of n documents."
)
run.save_table(reach, "attention_reach", caption, rows=12, title="Reach by layer", unit="document", keys=["layer"])

# %%
figure, axis = plt.subplots(figsize=(6.5, 3.2))
axis.plot(reach["layer"], reach["bound"], "k:", label="l(W − 1) + 1")
for column, label in (("reached", "differs at all"), ("felt", f"differs by {attention_windows.FELT:.0%}")):
    (line,) = axis.plot(reach["layer"], reach[column], label=label)
    low, high = reach[f"{column}_ci_low"], reach[f"{column}_ci_high"]
    axis.fill_between(reach["layer"], low, high, color=line.get_color(), alpha=0.2)
axis.set(xlabel="layers", ylabel="tokens reached")
axis.legend(fontsize="small")
alt = "Tokens reached by layer: what differs at all lies on the line of the arithmetic, what is felt far below it."
figures.save(figure, "attention_reach_layers", run.figures, alt, f"W = {given.reach_window}. Profile {profile}.")

# %% [markdown]
# ## The rolling buffer
#
# If no query looks back further than W, keys and values of W tokens are enough. Token i goes to slot i mod W, over
# the one that has just fallen out of sight. Nothing is moved: keys were turned to their place in the text before they
# were stored, and softmax does not ask for the order. Three prompts of 5, 7 and 2 tokens, W = 3, and four more tokens
# for each; the slots of Mistral's own example (whose prompts begin at places 0, 1 and 3) come first.

# %%
one_head = MistralConfig(hidden_size=4, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1)
buffer, lengths = cache.RollingBuffer(one_head, 3, 3), torch.tensor([5, 7, 2])
buffer.lengths = torch.tensor([0, 1, 3])
buffer.begin(7, lengths)
assert (buffer.rows * 3 + buffer.slots).tolist() == [2, 0, 1, 5, 3, 4, 6, 7]

# %%
buffer, history = cache.RollingBuffer(one_head, 3, 3), []
for counts in (lengths, *[torch.ones(3, dtype=torch.long)] * 4):
    buffer.begin(int(counts.max()), counts)
    history.append(buffer.places.clone())
history = torch.stack(history, dim=-1)  # (prompt, slot, time)

# %%
figure, axes = plt.subplots(1, 3, figsize=(10, 2.2), sharey=True)
for axis, slots, length in zip(axes, history, lengths.tolist()):
    names = np.where(slots < 0, "", slots.numpy().astype(str))
    newest = slots == slots.max(0).values
    sns.heatmap(newest, annot=names, fmt="", cmap="Blues", vmax=2, cbar=False, linewidths=1, ax=axis)
    axis.set(title=f"prompt of {length} tokens", xlabel="time", xticklabels=["prompt", "+1", "+2", "+3", "+4"])
axes[0].set_ylabel("slot")
alt = "Slots by time for three prompts: the newest token, shaded, goes round and overwrites the oldest."
caption = "A cell holds the place of the token in that slot; shaded: the newest."
figures.save(figure, "attention_slots", run.figures, alt, caption)

# %% [markdown]
# A long prompt is read in chunks. A chunk sees the slots as they were, through the window, and itself causally: with
# chunks of W the scores are W × 2W, however long the prompt. The third chunk of four tokens, W = 4:

# %%
buffer, chunk = cache.RollingBuffer(one_head, 1, 4), torch.tensor([4])
for _ in range(2):
    buffer.begin(4, chunk)
in_slots = buffer.places[0].clone()
queries, seen = buffer.begin(4, chunk)
parts = np.zeros((4, 12))  # 0: not seen
parts[:, torch.cat([in_slots, queries[0]])] = seen[0] * np.repeat([1, 2], 4)  # by place: from a slot, from the chunk
assert ((parts > 0) == cache.visible(queries[0], torch.arange(12), 4).numpy()).all()

# %%
figure, axis = plt.subplots(figsize=(7, 2.4))
sns.heatmap(parts, cmap=["#eeeeee", "#e6a05c", "#4878b0"], cbar=False, linewidths=1, yticklabels=range(8, 12), ax=axis)
for edge, x, name in ((4, 2, "past: overwritten"), (8, 6, "cache: the slots"), (12, 10, "current: the chunk")):
    axis.axvline(edge, color="k")
    axis.text(x, -0.2, name, ha="center", fontsize=9)
axis.set(xlabel="key", ylabel="query")
alt = "Four queries by twelve keys: none of the past, a triangle of the cache, a triangle of the chunk itself."
caption = "Orange: seen in a slot; blue: seen in the chunk; grey: not seen."
figures.save(figure, "attention_chunks", run.figures, alt, caption)

# %% [markdown]
# Is it the same model? Logits over the buffer against transformers' own mask, six windows of real text, in chunks of
# a token, of W and of more than W. On a CPU in float64: in float32 rounding alone moves this model's logits by more,
# under any cache, as `max_difference` of the next table shows.

# %%
exact = found["cache_exact"]
caption = f"Profile {profile}, {given.model.path}: largest difference of a logit from the text at once, under the mask."
title = "A rolling buffer is exact"
run.save_table(exact, "cache_exact", caption, title=title, unit="token", keys=["chunk"], digits=18)

# %% [markdown]
# Transformers' caches beside it: the dynamic one; the same told of the window by `config`, which keeps the last W − 1
# tokens by concatenation; and the static one, which keeps W and moves them all at every step. `bytes` counts all
# memory that a cache keeps alive, `peak_bytes` the most so far. We expect the dynamic one to grow with the text; the
# one with config to hold a chunk more than the window while a prompt is read, for what it keeps is a slice of what it
# was given; the static one and ours to stay at W. Speed at batch 1 should not differ: it is the weights that are
# read.

# %%
held = found["cache"]
caption = (
    f"Profile {profile}, {given.model.path}, {p.model.dtype}, batch 1: n tokens one at a time after `context` tokens "
    "in chunks. `slots`: bytes over those of one token. `max_difference`: of a logit from the text at once."
)
keys = ["kind", "context", "chunk"]
run.save_table(held, "cache", caption, rows=24, title="What a cache holds", unit="step", keys=keys)

# %%
part = held[held["chunk"] == held["chunk"].max()]
token = part["bytes"] / part["slots"]
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4))
for name, rows in part.assign(peak=part["peak_bytes"] / token).groupby("kind", sort=False):
    axes[0].plot(rows["context"], rows["peak"], "o-", alpha=0.7, label=name)
    speed = rows["tokens_per_second"]
    error = [speed - rows["tokens_per_second_ci_low"], rows["tokens_per_second_ci_high"] - speed]
    axes[1].errorbar(rows["context"], speed, error, fmt="o-", capsize=3, alpha=0.7)
axes[0].axhline(given.cache_window, color="k", ls=":", label="W")
axes[0].set(xlabel="tokens read", ylabel="most kept so far, in tokens")
axes[1].set(xlabel="tokens read", ylabel="tokens a second", ylim=(0, None))
axes[0].legend(fontsize="small")
alt = "Left, the most tokens a cache has kept, by length: ours and the static one flat at W. Right, tokens a second."
caption = f"Chunks of {part['chunk'].iat[0]} tokens, W = {given.cache_window}. Profile {profile}."
figures.save(figure, "cache", run.figures, alt, caption)

# %% [markdown]
# ## Printed tables, live configurations
#
# The papers' tables of their models, cell by cell beside configurations at hand: the hub's where
# `configurations.models` names them, else transformers' defaults, which are documented to be one published model
# each. What does not agree is either an error of the table or a library that means another thing by the word.

# %%
from s2utils.evaluation import architectures

assert architectures.parameters(MistralConfig()) == 7_241_732_096
cells = architectures.table(p.configurations.models)
caption = "Printed cells; a configuration's words are read off the model it builds. `context_len`: positions allowed."
keys = ["table", "model", "field"]
run.save_table(cells, "architectures", caption, rows=20, title="Printed architectures", unit="cell", keys=keys)
cells[cells["agrees"] == "no"]

# %% [markdown]
# ## Checks (for the notebook's own cell)

# %%
ring = held[held["kind"] == "rolling buffer"]
assert (ring["slots"] == given.cache_window).all() and (ring["bytes"] == ring["peak_bytes"]).all(), "W slots, no more"
assert (exact["max_difference"] < 1e-4).all() or p.runtime.device != "cpu"
assert (reach["reached"] <= reach["bound"]).all() and (reach["felt"] <= reach["reached"]).all()
assert len(cells) == len(architectures.printed())

# %% [markdown]
# ## Reading (lines for the notebook's own cell)

# %%
smallest = narrow[narrow["window"] == narrow["window"].min()].set_index("sinks")
cut, kept = smallest.loc[0], smallest.loc[given.sinks]
last, growing = reach.iloc[-1], held[held["kind"] == "dynamic"].iloc[-1]
lines = [
    f"**Windows.** A window of {smallest['window'].iat[0]} tokens adds {cut['added']:.2f} nats a token "
    f"[{cut['added_ci_low']:.2f}, {cut['added_ci_high']:.2f}]; with the first {given.sinks} tokens among them "
    f"{kept['added']:.2f} [{kept['added_ci_low']:.2f}, {kept['added_ci_high']:.2f}]: "
    f"{1 - kept['added'] / cut['added']:.0%} of the cost is that of the first tokens.",
    f"**Reach.** After {last['layer']:.0f} layers of W = {last['window']:.0f} a change is found {last['reached']:.0f} "
    f"tokens on (arithmetic: {last['bound']:.0f}), and by a hundredth {last['felt']:.0f}: that layers reach W tokens "
    "each is true of what can pass and not of what does, in a model that was not trained for it.",
    f"**Buffer.** After {growing['context']:,} tokens the rolling buffer holds {ring['slots'].iat[-1]:.0f} tokens and "
    f"transformers' dynamic cache {growing['slots']:.0f}; told of the window, it has held up to "
    f"{(held['peak_bytes'] / held['bytes'] * held['slots'])[held['kind'] == 'dynamic, with config'].max():.0f}.",
    f"**Printed tables.** Of {len(cells)} cells {(cells['agrees'] == 'yes').sum()} agree with a live configuration, "
    f"{(cells['agrees'] == 'no').sum()} do not, and for {(cells['agrees'] == 'not at hand').sum()} none is at hand.",
]
Markdown("\n\n".join(lines))
