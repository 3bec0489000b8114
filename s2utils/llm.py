"""Ask a language model a list of chats: local weights or any OpenAI-compatible server.

Replies are cached in a JSONL by a hash of model, chat and settings, as they come: a killed run asks
nothing twice. A failed request is retried, then returned as a failure with its reason, never dropped.
Trap: the key is read from the environment and never written anywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tqdm.auto import tqdm

from s2utils import artefacts
from s2utils.params import Endpoint, ParameterError, Weights

PASSING = ("RateLimitError", "APIConnectionError", "APITimeoutError", "InternalServerError")


class ServerError(RuntimeError):
    """A server did not answer; what it did answer is kept."""


def ask(
    endpoint: Endpoint, chats: list[list[dict]], cache: Path, *, seed: int, label: str = "ask", loaded=None
) -> list[dict]:
    """Replies {text, ended, error} to `chats` (lists of {role, content}), in order.

    Raises ServerError when requests failed for good in a way that passes (limits, outages), after all the
    others were kept: a rerun asks only for those.

    `loaded` is an optional (model, tokenizer) to use for a local endpoint instead of loading its weights.
    """
    known = {row["id"]: row for row in artefacts.read_jsonl(cache)}
    ids = [_identity(endpoint, chat, seed) for chat in chats]
    missing = {i: chat for i, chat in zip(ids, chats) if i not in known or known[i]["error"]}
    if missing:
        local = endpoint.backend == "local"
        batches = (
            _ask_local(endpoint, dict(zip(ids, chats)), set(missing), seed, label, loaded)
            if local
            else _ask_server(endpoint, missing, seed, label)
        )
        for batch in batches:
            artefacts.append_jsonl(cache, batch)
            known |= {row["id"]: row for row in batch}
    failed = Counter(known[i]["error"] for i in missing if known[i]["error"] in PASSING)
    if failed:
        raise ServerError(
            f"{sum(failed.values())} of {len(missing)} requests to {endpoint.model} failed six times "
            f"({', '.join(failed)}). The other replies are kept in {cache.name}: run again to ask only for these."
        )
    return [known[i] for i in ids]


def _identity(endpoint: Endpoint, chat: list[dict], seed: int) -> str:
    facts = [
        endpoint.model,
        endpoint.revision,
        endpoint.base_url,
        endpoint.max_new_tokens,
        endpoint.temperature,
        seed,
        chat,
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def _ask_local(endpoint: Endpoint, chats: dict[str, list[dict]], missing: set[str], seed: int, label: str, loaded):
    """Batches are cut from all chats, so that one asked again after a kill sees the same neighbours."""
    import torch

    from s2utils import generate, models

    weights = Weights(endpoint.model, endpoint.revision)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, tok = loaded or (models.full(weights, "bfloat16", device), models.tokenizer(weights))
    ids = list(chats)
    prompts = models.encoded([models.chat_prompt(chats[i], tok) for i in ids], tok, "chat")
    size = endpoint.batch_size
    for start in tqdm(range(0, len(ids), size), desc=label, unit="batch"):
        batch = ids[start : start + size]
        if not missing & set(batch):
            continue
        rows = next(
            generate.completions(
                model, tok, prompts[start : start + size], seed=f"{seed}/{label}/{start}", batch_size=size,
                max_new_tokens=endpoint.max_new_tokens, temperature=endpoint.temperature, label=None,
            )
        )  # fmt: skip
        replies = [{"id": i, "text": r["text"], "ended": r["ended"], "error": ""} for i, r in zip(batch, rows)]
        yield [r for r in replies if r["id"] in missing]


def _ask_server(endpoint: Endpoint, chats: dict[str, list[dict]], seed: int, label: str):
    import openai
    import tenacity

    key = os.environ.get(endpoint.key_env, "")
    if not key and not endpoint.base_url:
        raise ParameterError(
            f"{endpoint.model} needs a key: set {endpoint.key_env} in the environment, name another server in base_url, "
            "or use backend: local"
        )
    client = openai.OpenAI(api_key=key or "none", base_url=endpoint.base_url or None, max_retries=0, timeout=120)
    transient = (openai.RateLimitError, openai.APIConnectionError, openai.InternalServerError)

    def wait(state: tenacity.RetryCallState) -> float:
        response = getattr(state.outcome.exception(), "response", None)
        asked = response.headers.get("retry-after", "") if response is not None else ""
        return (
            min(float(asked), 120.0)
            if asked.replace(".", "", 1).isdigit()
            else tenacity.wait_random_exponential(max=60)(state)
        )

    @tenacity.retry(
        retry=tenacity.retry_if_exception_type(transient), stop=tenacity.stop_after_attempt(6), wait=wait, reraise=True
    )
    def one(chat: list[dict]):
        return client.chat.completions.create(
            model=endpoint.model,
            messages=chat,
            max_tokens=endpoint.max_new_tokens,
            temperature=endpoint.temperature,
            seed=seed,
        )

    def reply(identity: str) -> dict:
        try:
            choice = one(chats[identity]).choices[0]
            return {
                "id": identity,
                "text": choice.message.content or "",
                "ended": choice.finish_reason == "stop",
                "error": "",
            }
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError):
            raise  # the same for every request: stop and say so
        except openai.OpenAIError as error:
            why = type(error).__name__
        except (ValueError, TypeError, AttributeError, IndexError):  # status 200, and not what the protocol says
            why = "malformed reply"
        return {"id": identity, "text": "", "ended": False, "error": why}

    with ThreadPoolExecutor(endpoint.concurrency) as pool:
        jobs = [pool.submit(reply, i) for i in chats]
        try:
            for job in tqdm(as_completed(jobs), total=len(jobs), desc=label, unit="request"):
                yield [job.result()]
        finally:
            for job in jobs:
                job.cancel()
