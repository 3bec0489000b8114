"""What key-value heads cost and give: a model with its own, with all (copied) and with one (averaged), in real use.

A step of decoding makes one token for each text of a batch, over a cache of `context` tokens that holds one number:
what is in a cache does not change the time, and reading real prompts would take longer than the measurement. Units:
tokens a second over the whole batch, bytes of cache for the whole batch. Traps: the time is transformers' own, whose
dynamic cache copies itself at every step, which weighs more the larger it is; at batch 1 the weights are what is read,
so little is told apart. Sources: Shazeer 2019; Ainslie and others 2023.
"""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pandas as pd
import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from s2utils.architecture import heads, shapes
from s2utils.evaluation import fit
from s2utils.evaluation.parameters import AttentionHeads
from s2utils.models import likelihood
from s2utils.stats import intervals, ratios
from s2utils.workflow import progress
from s2utils.workflow.params import ParameterError, Params

SAME = 1e-4  # of logits that are to be those of the same function


def variants(config) -> dict[str, int]:
    """{name: key-value heads}: all query heads, the model's own, one; ParameterError where its own are all or one."""
    queries, own = config.num_attention_heads, config.num_key_value_heads
    if not 1 < own < queries:
        raise ParameterError(
            f"'attention_heads.model' has {own} key-value heads for {queries} heads: name one with groups of heads"
        )
    return {f"MHA, {queries} heads": queries, f"GQA, {own} heads": own, "MQA, 1 head": 1}


def documents(held_out: pd.DataFrame, settings: AttentionHeads, seed: int) -> pd.DataFrame:
    """So many held-out documents, domains in turn, cut at so many characters: domain, id, text."""
    shuffled = held_out[held_out["text"].str.strip() != ""].sample(frac=1, random_state=seed)
    turn = shuffled.groupby("domain", sort=False).cumcount()
    chosen = shuffled.assign(turn=turn).sort_values(["turn", "domain"], kind="stable").head(settings.documents)
    texts = [fit.cut(text.strip(), settings.max_characters) for text in chosen["text"]]
    return chosen[["domain", "id"]].assign(text=texts).reset_index(drop=True)


def same_function(model: PreTrainedModel, tok: PreTrainedTokenizerBase, texts: list[str]) -> float:
    """Largest difference of logits between a model and itself with every key-value head copied to its query heads."""
    copied, apart = heads.with_kv_heads(model, model.config.num_attention_heads), 0.0
    with torch.inference_mode():
        for text in texts:
            ids = tok(text, return_tensors="pt")["input_ids"].to(model.device)
            apart = max(apart, float((model(ids).logits.float() - copied(ids).logits.float()).abs().max()))
    return apart


def measured(model: PreTrainedModel, tok: PreTrainedTokenizerBase, texts: list[str], params: Params) -> pd.DataFrame:
    """One row a variant, batch size and context: variant, kv_heads, batch_size, context, cache_bytes, n, speed, loss.

    `cache_bytes` of the batch; `n` steps were timed, `tokens_per_second` with its interval over them is missing where
    the cache is larger than `attention_heads.cache_gib`. `loss` in nats a token of `texts`.
    """
    settings, rows = params.attention_heads, []
    models = {name: heads.with_kv_heads(model, n) for name, n in variants(model.config).items()}
    losses = {name: intervals.columns("loss", mean_loss(made, tok, texts, params)) for name, made in models.items()}
    grid = list(itertools.product(settings.batch_sizes, settings.contexts))
    for batch_size, context in progress.bar(grid, desc="decode", unit="setting"):
        sizes = {name: batch_size * context * bytes_a_token(made) for name, made in models.items()}
        fitting = {name: models[name] for name, size in sizes.items() if size <= settings.cache_gib * 2**30}
        speeds = decode(fitting, batch_size, context, settings.steps)
        for name, made in models.items():
            row = {"variant": name, "kv_heads": made.config.num_key_value_heads, "batch_size": batch_size}
            row |= {"context": context, "cache_bytes": sizes[name], "n": len(speeds.get(name, []))}
            row |= intervals.columns("tokens_per_second", intervals.mean(speeds.get(name, []), params, few=True))
            rows.append(row | {"n_documents": len(texts)} | losses[name])
    return pd.DataFrame(rows).sort_values(["kv_heads", "batch_size", "context"], ascending=[False, True, True])


def bytes_a_token(model: PreTrainedModel) -> int:
    """Bytes of a model's cache a token, in the dtype that it computes in."""
    return shapes.cache_bytes(model.config, model.dtype.itemsize)


def mean_loss(model: PreTrainedModel, tok: PreTrainedTokenizerBase, texts: list[str], params: Params) -> tuple:
    """(nats a token, low, high) of texts, each by itself; drawn anew as whole texts."""
    ids = likelihood.encoded(tok, texts)
    windows = likelihood.Windows(max(len(row) for row in ids), 0)
    scored = likelihood.losses(model, ids, likelihood.beginning(tok), windows, params.fit.batch_tokens)
    rng, sums = np.random.default_rng(params.seed), [row.sum(dtype=float) for row in scored]
    value, drawn = ratios.resampled(sums, [len(row) for row in scored], params.text_metrics.resamples, rng)
    return value, *intervals.percentiles(drawn, params.text_metrics.confidence, [len(ids)])


@torch.inference_mode()
def decode(models: dict[str, PreTrainedModel], batch_size: int, context: int, steps: int) -> dict[str, list[float]]:
    """Tokens a second of each of `steps` steps of each model over a cache of `context` tokens, after one to warm up.

    The models take turns, so that what else a machine does falls on all of them.
    """
    caches = {name: _filled(model, batch_size, context) for name, model in models.items()}
    speeds = {name: [] for name in models}
    for step in range(steps + 1):
        for name, model in models.items():
            token = torch.zeros(batch_size, 1, dtype=torch.long, device=model.device)
            places = torch.full_like(token, context + step)
            started = time.perf_counter()
            model(token, past_key_values=caches[name], position_ids=places, use_cache=True).logits.argmax(-1).tolist()
            speeds[name].append(batch_size / (time.perf_counter() - started))
    return {name: values[1:] for name, values in speeds.items()}


def _filled(model: PreTrainedModel, batch_size: int, context: int) -> DynamicCache:
    """A cache of `context` tokens whose keys and values are all alike."""
    c = model.config
    shape = (batch_size, c.num_key_value_heads, context, shapes.head_dim(c))
    cache = DynamicCache(config=c)
    for layer in range(c.num_hidden_layers):
        keys, values = (torch.full(shape, 0.1, dtype=model.dtype, device=model.device) for _ in range(2))
        cache.update(keys, values, layer)
    return cache


def advice(table: pd.DataFrame, verdicts: pd.DataFrame, own: str) -> str:
    """Which heads to pick, from the table's largest setting that all were timed in, and the arms' verdicts.

    Where there is no such setting, that.
    """
    timed = table.dropna(subset="tokens_per_second")
    settings = timed.groupby(["batch_size", "context"])["variant"].nunique()
    of_all = settings[settings == table["variant"].nunique()]
    if of_all.empty:
        return "At none of the settings do all caches fit attention_heads.cache_gib: raise it, or read less at once."
    batch_size, context = of_all.index.max()
    rows = timed[(timed["batch_size"] == batch_size) & (timed["context"] == context)].set_index("variant")
    every, one = rows.index[0], rows.index[-1]
    faster = rows["tokens_per_second"] / rows.at[every, "tokens_per_second"]
    smaller = rows.at[every, "cache_bytes"] / rows["cache_bytes"]
    arms = verdicts[verdicts["choice"] == "heads"].set_index("variant")
    trained = "; ".join(
        f"{name} {row.difference:+.3f} nats a token against all heads ({row.verdict})" for name, row in arms.iterrows()
    )
    return (
        f"At batch {batch_size} and {context:,} tokens of context {own} makes {faster[own]:.1f} times the tokens a "
        f"second of {every} with a cache {smaller[own]:g} times smaller, and is the same function. {one} makes "
        f"{faster[one]:.1f} times as many with one {smaller[one]:g} times smaller; averaged from these weights it has "
        f"a loss of {rows.at[one, 'loss']:.2f} instead of {rows.at[own, 'loss']:.2f}, so heads must be trained as they "
        f"are to be used. Trained so from nothing, at equal parameters: {trained}."
    )


def budget(batches: dict[str, int], context: int, gib: float) -> pd.DataFrame:
    """Largest batch of `context` tokens within `gib` of cache: one row a name of `batches`, {name: bytes a token}."""
    rows = [(name, size, heads.largest_batch(math.floor(gib * 2**30), context, size)) for name, size in batches.items()]
    return pd.DataFrame(rows, columns=["heads", "cache_bytes_a_token", "largest_batch"]).set_index("heads")
