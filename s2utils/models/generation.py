"""Batched, seeded, resumable generation.

The list of prompts is cut into fixed batches; a batch is seeded by its own number, so a killed run that
goes on later ends in the same answers. What all prompts of a batch begin with is computed once, and prompts of about
the same length are read together. Trap: an answer that hits the token limit is not a finished one; each answer says
whether it ended by itself.

The token is drawn here, not by transformers, which sorts the whole vocabulary at every step and then draws from all of
it: half of the time on a CPU. The nucleus nearly always lies within the LIKELY tokens; where it does not, all are
sorted.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm.auto import tqdm
from transformers import DynamicCache, LogitsProcessor, PreTrainedModel, PreTrainedTokenizerBase

from s2utils.workflow import artefacts

PENALTY = ("vllm", "sglang")  # owners, as GET /models names them, of servers that know `repetition_penalty`
LIKELY = 256  # tokens that are looked at before all are sorted
PASS = 32  # tokens; to spare fewer is not worth a pass of its own


class Nucleus(LogitsProcessor):
    """Draws the next token from the nucleus (Holtzman et al. 2020) and leaves it alone possible.

    The nucleus is the fewest likeliest tokens that hold `top_p` of the probability. One uniform number a row and step
    picks from them in the order of their probability, so models that are nearly one draw the same token from one seed.
    """

    def __init__(self, temperature: float, top_p: float):
        self.temperature, self.top_p = temperature, top_p

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """`scores` (B, V) with all but the token drawn at minus infinity."""
        tokens = self.draw(scores, torch.rand(len(scores), 1, device=scores.device))
        return torch.full_like(scores, -torch.inf).scatter(1, tokens, 0.0)

    def draw(self, scores: torch.Tensor, chance: torch.Tensor, likely: int = LIKELY) -> torch.Tensor:
        """Token of each row (B, 1), from its scores (B, V) and a number in [0, 1) (B, 1)."""
        scaled = scores.float() / self.temperature
        values, tokens = torch.topk(scaled, min(likely, scaled.shape[1]))
        shares = (values - torch.logsumexp(scaled, -1, keepdim=True)).exp()
        reached = shares.cumsum(-1)
        last = ((reached - shares) < self.top_p).sum(-1, keepdim=True).clamp(min=1) - 1  # of the nucleus
        most = reached.gather(1, last)
        place = torch.minimum((reached <= chance * most).sum(-1, keepdim=True), last)
        drawn = tokens.gather(1, place)
        short = most[:, 0] < self.top_p
        if likely < scaled.shape[1] and short.any():
            drawn[short] = self.draw(scores[short], chance[short], scaled.shape[1])
        return drawn


def stop_ids(model: PreTrainedModel, tok: PreTrainedTokenizerBase) -> list[int]:
    """Ids that end an answer: the tokenizer's and the model's own."""
    own = model.generation_config.eos_token_id
    return sorted({tok.eos_token_id, *(own if isinstance(own, list) else [own])} - {None})


def completions(
    model: PreTrainedModel,
    tok: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    *,
    seed: str,
    batch_size: int,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    skip: int = 0,
    label: str | None = "generate",
) -> Iterator[list[dict]]:
    """Yield a batch of {text, n_tokens, ended} at a time, in the order of `prompts` (lists of token ids).

    `skip` prompts at the start, a whole number of batches, are left out. `temperature` 0 is greedy.
    `ended` is False where the answer was cut at `max_new_tokens`.
    """
    stops = stop_ids(model, tok)
    drawing = [Nucleus(temperature, top_p)] if temperature else []
    with tqdm(total=len(prompts), initial=skip, desc=label, unit="answer", disable=label is None) as bar:
        for start in range(skip, len(prompts), batch_size):
            batch = prompts[start : start + batch_size]
            torch.manual_seed(int(hashlib.sha256(f"{seed}/{start}".encode()).hexdigest()[:15], 16))
            with torch.inference_mode():
                inputs = _inputs(model, tok, batch)
                output = model.generate(
                    **inputs, max_new_tokens=max_new_tokens, repetition_penalty=repetition_penalty, do_sample=False,
                    logits_processor=drawing, eos_token_id=stops, pad_token_id=tok.pad_token_id,
                )  # fmt: skip
            rows = []
            for ids in output[:, inputs["input_ids"].shape[1] :].tolist():
                end = next((i for i, token in enumerate(ids) if token in stops), None)
                kept = ids if end is None else ids[:end]
                text = tok.decode(kept, skip_special_tokens=True).strip()
                rows.append({"text": text, "n_tokens": len(kept), "ended": end is not None})
            bar.update(len(batch))
            yield rows


def served_completions(
    base_url: str,
    model: str,
    prompts: list[str] | list[list[int]],
    *,
    seed: str,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    stop: list[str] | None = None,
    key_env: str = "",
    **carrying,
) -> Iterator[list[dict]]:
    """As `completions`, from a server of OpenAI's completions protocol that loads `model` in an environment of its own.

    A prompt goes out as it is, token ids or text that is templated already, and its seed hangs on its place alone.
    `stop` are texts that end an answer, besides the model's own end token; `carrying` are batch_size, concurrency, skip
    and label of `client.completions`. `n_tokens` is the server's count, which may hold the end token. Nothing falls
    back: a server that is away, serves another model or keeps to other limits raises ServerError. Trap:
    `repetition_penalty` and `top_k` are no part of the protocol, and a server may ignore what it does not know.
    """
    from s2utils.models import client

    owner = client.served(base_url, model, key_env)["owned_by"]
    if repetition_penalty != 1 and owner not in PENALTY:
        raise client.ServerError(
            f"{base_url} (owned_by {owner!r}) may ignore generate.repetition_penalty={repetition_penalty:g}: "
            f"serve the model by {' or '.join(PENALTY)}, or set it to 1.0"
        )
    settings = {
        "model": model, "max_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p, "stop": stop or None,
        "extra_body": {"repetition_penalty": repetition_penalty, "top_k": -1},
    }  # fmt: skip
    seeds = [int(hashlib.sha256(f"{seed}/{place}".encode()).hexdigest()[:7], 16) for place in range(len(prompts))]
    requests = [settings | {"prompt": prompt, "seed": drawn} for prompt, drawn in zip(prompts, seeds)]

    def read(completion) -> dict:
        """A reply as a row; ServerError where it breaks what the study counts on."""
        choice, count = completion.choices[0], getattr(completion.usage, "completion_tokens", None)
        reason = choice.finish_reason
        if not isinstance(choice.text, str) or type(count) is not int:
            broken = "the reply holds no text or no count of its tokens (usage.completion_tokens)"
        elif reason not in ("stop", "length"):
            broken = f"finish_reason is {reason!r}, so nobody knows whether the answer is whole"
        elif count > max_new_tokens:
            broken = f"{count} tokens where at most {max_new_tokens} were asked for: it does not honour max_tokens"
        elif reason == "length" and count < max_new_tokens:
            broken = (
                f"cut after {count} of {max_new_tokens} tokens: its context is too short (vllm serve --max-model-len)"
            )
        else:
            return {"text": choice.text.strip(), "n_tokens": count, "ended": reason == "stop"}
        raise client.ServerError(broken)

    yield from client.completions(base_url, requests, read, key_env=key_env, **carrying)


def _inputs(model: PreTrainedModel, tok: PreTrainedTokenizerBase, batch: list[list[int]]) -> dict:
    """Arguments of `generate` for a batch: ids and mask, padded on the left of what is each prompt's own.

    What all prompts begin with comes first, its keys and values computed once for the whole batch. Where prompts differ
    much in length, those alike are read together, so that little of the work is padding; one token of each is left.
    """
    shared = os.path.commonprefix(batch)[: min(map(len, batch)) - 1]  # one token at least is left to predict from
    shared = shared if len(batch) > 1 and len(shared) >= PASS else []
    own = tok.pad({"input_ids": [ids[len(shared) :] for ids in batch]}, padding=True, return_tensors="pt")
    heads = torch.tensor(shared, dtype=torch.long).expand(len(batch), -1)
    ids = torch.cat([heads, own["input_ids"]], dim=1).to(model.device)
    mask = torch.cat([torch.ones_like(heads), own["attention_mask"]], dim=1).to(model.device)
    inputs = {"input_ids": ids, "attention_mask": mask}
    parts = alike([len(prompt) - len(shared) - 1 for prompt in batch])
    if len(parts) > 1 and "position_ids" not in inspect.signature(model.forward).parameters:
        parts = parts[:1]
    if not shared and len(parts) == 1:
        return inputs
    cache = DynamicCache(config=model.config)
    if shared:
        model(ids[:1, : len(shared)], past_key_values=cache, use_cache=True, logits_to_keep=1)
    # a sliding window forgets what would be put together
    if len(parts) == 1 or any(layer.is_sliding for layer in cache.layers):
        cache.batch_repeat_interleave(len(batch))
        return inputs | ({"past_key_values": cache} if shared else {})
    return inputs | {"past_key_values": _read(model, ids[:, :-1], mask[:, :-1], cache, parts)}


def alike(lengths: list[int]) -> list[list[int]]:
    """Numbers of prompts that are read together, shortest first: one more while padding is less than PASS tokens."""
    parts, tokens = [[]], 0
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if len(parts[-1]) * lengths[i] - tokens > PASS:
            parts.append([])
            tokens = 0
        parts[-1].append(i)
        tokens += lengths[i]
    return parts


def _read(
    model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, head: DynamicCache, parts: list[list[int]]
) -> DynamicCache:
    """Keys and values of `ids` (B, T) under `mask`, whose first tokens are those in `head`, read part by part."""
    start, joined = head.get_seq_length(), DynamicCache(config=model.config)
    for rows in parts:
        seen, cache = mask[rows], copy.deepcopy(head)
        cache.batch_repeat_interleave(len(rows))
        width = int(seen[:, start:].sum(-1).max())  # of the longest of them, without the padding that all have
        if width:
            seen = torch.cat([seen[:, :start], seen[:, seen.shape[1] - width :]], dim=1)
            model(
                input_ids=ids[rows, -width:], attention_mask=seen, past_key_values=cache, use_cache=True,
                position_ids=(seen.cumsum(-1) - 1).clamp(0)[:, -width:], logits_to_keep=1,
            )  # fmt: skip
        for number, layer in enumerate(cache.layers):
            if rows is parts[0]:
                shape = (len(ids), layer.keys.shape[1], ids.shape[1])
                joined.update(*(x.new_zeros(*shape, x.shape[-1]) for x in (layer.keys, layer.values)), number)
            whole = joined.layers[number]
            for to, part in ((whole.keys, layer.keys), (whole.values, layer.values)):
                to[rows, :, :start] = part[:, :, :start]
                to[rows, :, ids.shape[1] - width :] = part[:, :, start:]
    return joined


def answer_all(path: Path, rows: list[dict], batch_size: int, make) -> list[dict]:
    """Append an answer to each of `rows` in the JSONL `path`, going on where an earlier attempt stopped.

    `make(skip)` yields batches as `completions` does. Returns all rows with their answers.
    """
    done = artefacts.read_jsonl(path)
    whole = len(done) if len(done) == len(rows) else len(done) // batch_size * batch_size
    if whole < len(done):
        with artefacts.replacing(path) as file:
            file.writelines(line + "\n" for line in path.read_text(encoding="utf-8").split("\n")[:whole])
    position = whole
    for batch in make(whole) if whole < len(rows) else ():
        artefacts.append_jsonl(path, [rows[position + i] | answer for i, answer in enumerate(batch)])
        position += len(batch)
    return artefacts.read_jsonl(path)
