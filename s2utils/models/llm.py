"""Ask a language model a list of chats: local weights or any OpenAI-compatible server.

What is asked, and how a reply is read: `client` carries both. Replies are cached in a JSONL by a hash of model, chat
and settings, as they come: a killed run asks nothing twice. A request that fails for good comes back as a failure with
its reason, never dropped. Money is US dollars, prices are a million tokens, estimated tokens are characters / 4.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import types
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from s2utils.models.parameters import Endpoint, Weights
from s2utils.workflow import artefacts
from s2utils.workflow.params import ParameterError, Params

UNCOUNTED = types.MappingProxyType({"prompt_tokens": None, "completion_tokens": None})  # older caches have neither


@dataclass(frozen=True)
class Local:
    """The weights behind a local endpoint, loaded once, when the first reply is missing."""

    weights: Weights
    dtype: str
    device: str

    @functools.cached_property
    def loaded(self) -> tuple:
        """(model, tokenizer)"""
        from s2utils.models import loading

        return loading.full(self.weights, self.dtype, self.device), loading.tokenizer(self.weights)


def local(endpoint: Endpoint, params: Params) -> Local | None:
    """The weights of a local endpoint, computing as the study's own models do; None for others."""
    if endpoint.backend != "local":
        return None
    return Local(Weights(path=endpoint.model, revision=endpoint.revision), params.model.dtype, params.runtime.device)


def ask(
    endpoint: Endpoint,
    chats: list[list[dict]],
    cache: Path,
    *,
    seed: int,
    label: str = "ask",
    local: Local | None = None,
) -> list[dict]:
    """Replies {text, ended, error, prompt_tokens, completion_tokens} to `chats` (lists of {role, content}), in order.

    The same chat is asked once. Tokens are None where nobody counted them. What a server will cost is printed
    first; ParameterError, before the first request, when that is above `endpoint.budget`. Raises ServerError when
    requests failed for good in a way that passes (limits, outages), after all the others were kept: a rerun asks
    only for those.

    A local endpoint needs `local`, its weights.
    """
    known = {row["id"]: UNCOUNTED | row for row in artefacts.read_jsonl(cache)}
    ids = [_identity(endpoint, chat, seed, local) for chat in chats]
    missing = _missing(ids, chats, known)
    if missing:
        if endpoint.backend == "local":
            batches = _ask_local(endpoint, dict(zip(ids, chats)), set(missing), seed, label, local)
        else:
            _agree(endpoint, _estimate(endpoint, missing.values()), len(set(ids)) - len(missing), label)
            batches = _ask_server(endpoint, missing, seed, label, cache.name)
        with contextlib.closing(batches):  # Ctrl-C ends the threads even while a notebook holds the traceback
            for batch in batches:
                artefacts.append_jsonl(cache, batch)
                known |= {row["id"]: row for row in batch}
    return [known[i] for i in ids]


def estimate(endpoint: Endpoint, chats: list[list[dict]], cache: Path, seed: int) -> dict:
    """{requests, prompt_tokens, completion_tokens, dollars} that `ask` would take: distinct chats not in the cache.

    Prompt tokens are a guess (characters / 4), completion tokens the most there can be; retries are not in it.
    """
    known = {row["id"]: row for row in artefacts.read_jsonl(cache)}
    ids = [_identity(endpoint, chat, seed) for chat in chats]
    return _estimate(endpoint, _missing(ids, chats, known).values())


def usage(cache: Path) -> dict:
    """{requests, failed, uncounted, prompt_tokens, completion_tokens} of all that a cache holds, as the server counted.

    `uncounted` replies came without a count. `cost` turns the tokens into dollars.
    """
    rows = [UNCOUNTED | row for row in artefacts.read_jsonl(cache)]
    answered = [row for row in rows if not row["error"]]
    return {
        "requests": len(rows),
        "failed": len(rows) - len(answered),
        "uncounted": sum(row["prompt_tokens"] is None for row in answered),
        **{key: sum(row[key] or 0 for row in answered) for key in UNCOUNTED},
    }


def cost(endpoint: Endpoint, prompt_tokens: int, completion_tokens: int) -> float:
    """US dollars for so many tokens."""
    return (prompt_tokens * endpoint.price_in + completion_tokens * endpoint.price_out) / 1e6


def _missing(ids: list[str], chats: list[list[dict]], known: dict[str, dict]) -> dict[str, list[dict]]:
    return {i: chat for i, chat in zip(ids, chats) if i not in known or known[i]["error"]}


def _estimate(endpoint: Endpoint, chats: Collection[list[dict]]) -> dict:
    said = sum(len(message["content"]) for chat in chats for message in chat) // 4
    most = endpoint.max_new_tokens * len(chats)
    dollars = cost(endpoint, said, most)
    return {"requests": len(chats), "prompt_tokens": said, "completion_tokens": most, "dollars": dollars}


def _agree(endpoint: Endpoint, needed: dict, cached: int, label: str) -> None:
    """Say what is about to be spent, and refuse what is above the budget."""
    print(
        f"{label}: {needed['requests']:,} requests to {endpoint.model} ({cached:,} more are cached), about "
        f"{needed['prompt_tokens']:,} tokens in, at most {needed['completion_tokens']:,} out, "
        f"{needed['dollars']:.2f} dollars"
    )
    if needed["dollars"] > endpoint.budget > 0:
        raise ParameterError(
            f"{label}: {needed['requests']:,} requests to {endpoint.model} are estimated at {needed['dollars']:.2f} "
            f"dollars, above 'budget: {endpoint.budget:g}'. Nothing was asked: raise 'budget' beside 'model: "
            f"{endpoint.model}' in params/, or take fewer records (max_records of the source, n of the benchmark)"
        )


def _identity(endpoint: Endpoint, chat: list[dict], seed: int, local: Local | None = None) -> str:
    facts = [endpoint.model, endpoint.revision, endpoint.base_url, endpoint.max_new_tokens, endpoint.temperature]
    facts += [seed, chat]  # not the pace, the prices or the batch size: they change no answer
    facts += [local.dtype] if local else []
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def _ask_server(
    endpoint: Endpoint, chats: dict[str, list[dict]], seed: int, label: str, cache: str
) -> Iterator[list[dict]]:
    """Each reply as it comes; ServerError after the last where some failed in a way that passes."""
    from s2utils.models import client

    settings = {"max_tokens": endpoint.max_new_tokens, "temperature": endpoint.temperature, "seed": seed}
    requests = {i: {"model": endpoint.model, "messages": chat, **settings} for i, chat in chats.items()}
    failed = Counter()
    with contextlib.closing(client.replies(endpoint, requests, _read, label)) as replies:
        for i, reply in replies:
            if isinstance(reply, str):
                failed[reply] += reply in client.PASSING
                reply = _row("", False, reply)
            yield [{"id": i} | reply]
    if failed.total():
        raise client.ServerError(
            f"{failed.total()} of {len(chats)} requests to {endpoint.model} failed six times ({', '.join(+failed)}). "
            f"The other replies are kept in {cache}: run again to ask only for these."
        )


def _row(text: str, ended: bool, error: str = "") -> dict:
    """A reply as it is kept, beside its id; nobody has counted its tokens yet."""
    return {"text": text, "ended": ended, "error": error, **UNCOUNTED}


def _read(completion) -> dict:
    """A server's reply as a row; TypeError where its text is none. Of tokens the server's own count, if that is one."""
    choice, usage = completion.choices[0], getattr(completion, "usage", None)
    text = choice.message.content or ""
    if not isinstance(text, str):
        raise TypeError
    counts = {key: getattr(usage, key, None) for key in UNCOUNTED}
    return _row(text, choice.finish_reason == "stop") | {k: n if type(n) is int else None for k, n in counts.items()}


def _ask_local(
    endpoint: Endpoint, chats: dict[str, list[dict]], missing: set[str], seed: int, label: str, local: Local
) -> Iterator[list[dict]]:
    """Batches are cut from all chats, so that one asked again after a kill sees the same neighbours."""
    from s2utils.models import generation, loading

    model, tok = local.loaded
    ids = list(chats)
    prompts = loading.encoded([loading.chat_prompt(chats[i], tok) for i in ids], tok, "chat")
    size = endpoint.batch_size
    for start in tqdm(range(0, len(ids), size), desc=label, unit="batch"):
        batch = ids[start : start + size]
        if not missing & set(batch):
            continue
        rows = next(
            generation.completions(
                model, tok, prompts[start : start + size], seed=f"{seed}/{label}/{start}", batch_size=size,
                max_new_tokens=endpoint.max_new_tokens, temperature=endpoint.temperature, label=None,
            )
        )  # fmt: skip
        yield [{"id": i} | _row(r["text"], r["ended"]) for i, r in zip(batch, rows) if i in missing]
