"""Ask a language model a list of chats: local weights or any OpenAI-compatible server.

Replies are cached in a JSONL by a hash of model, chat and settings, as they come: a killed run asks
nothing twice. A failed request is retried, then returned as a failure with its reason, never dropped.
Money is US dollars, prices are a million tokens, estimated tokens are characters / 4.
Trap: the key is read from the environment and never written anywhere.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import threading
import time
import types
from collections import Counter
from collections.abc import Collection
from concurrent.futures import FIRST_COMPLETED, CancelledError, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path

from tqdm.auto import tqdm

from s2utils import artefacts
from s2utils.params import Endpoint, ParameterError, Weights

ATTEMPTS = 6  # a request
TIMEOUT = 120.0  # seconds until a request must be answered whole, however slowly its bytes come
PASSING = ("RateLimitError", "APIConnectionError", "APITimeoutError", "InternalServerError")


class ServerError(RuntimeError):
    """A server did not answer, or not as the study needs it; what it did answer is kept."""


def ask(
    endpoint: Endpoint, chats: list[list[dict]], cache: Path, *, seed: int, label: str = "ask", loaded=None
) -> list[dict]:
    """Replies {text, ended, error, prompt_tokens, completion_tokens} to `chats` (lists of {role, content}), in order.

    The same chat is asked once. Tokens are None where nobody counted them. What a server will cost is printed
    first; ParameterError, before the first request, when that is above `endpoint.budget`. Raises ServerError when
    requests failed for good in a way that passes (limits, outages), after all the others were kept: a rerun asks
    only for those.

    `loaded` is an optional (model, tokenizer) to use for a local endpoint instead of loading its weights.
    """
    known = {row["id"]: _UNCOUNTED | row for row in artefacts.read_jsonl(cache)}
    ids = [_identity(endpoint, chat, seed) for chat in chats]
    missing = _missing(ids, chats, known)
    if missing:
        local = endpoint.backend == "local"
        if not local:
            _agree(endpoint, _estimate(endpoint, missing.values()), len(set(ids)) - len(missing), label)
        batches = (
            _ask_local(endpoint, dict(zip(ids, chats)), set(missing), seed, label, loaded)
            if local
            else _ask_server(endpoint, missing, seed, label)
        )
        with contextlib.closing(batches):  # Ctrl-C ends the threads even while a notebook holds the traceback
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
    rows = [_UNCOUNTED | row for row in artefacts.read_jsonl(cache)]
    answered = [row for row in rows if not row["error"]]
    return {
        "requests": len(rows),
        "failed": len(rows) - len(answered),
        "uncounted": sum(row["prompt_tokens"] is None for row in answered),
        **{key: sum(row[key] or 0 for row in answered) for key in _UNCOUNTED},
    }


def cost(endpoint: Endpoint, prompt_tokens: int, completion_tokens: int) -> float:
    """US dollars for so many tokens."""
    return (prompt_tokens * endpoint.price_in + completion_tokens * endpoint.price_out) / 1e6


_UNCOUNTED = types.MappingProxyType({"prompt_tokens": None, "completion_tokens": None})  # older caches have neither


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
            f"{label}: {needed['requests']:,} requests to {endpoint.model} are estimated at {needed['dollars']:.2f} dollars, "
            f"above 'budget: {endpoint.budget:g}'. Nothing was asked: raise 'budget' beside 'model: {endpoint.model}' "
            "in params/, or take fewer records (max_records of the source, n of the benchmark)"
        )


def _identity(endpoint: Endpoint, chat: list[dict], seed: int) -> str:
    facts = [endpoint.model, endpoint.revision, endpoint.base_url, endpoint.max_new_tokens, endpoint.temperature]
    facts += [seed, chat]  # not the pace, the prices or the batch size: they change no answer
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def _row(identity: str, text: str, ended: bool, error: str = "") -> dict:
    return {"id": identity, "text": text, "ended": ended, "error": error, **_UNCOUNTED}


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
        yield [_row(i, r["text"], r["ended"]) for i, r in zip(batch, rows) if i in missing]


class _Pace:
    """Starts at least 60 / `per_minute` seconds apart, so that no minute holds more of them; 0: no limit.

    Even spacing needs a lock and a clock; libraries with buckets let a burst through first, which servers that
    count by the second refuse.
    """

    def __init__(self, per_minute: int):
        self.gap = 60 / per_minute if per_minute else 0.0
        self.lock, self.next = threading.Lock(), 0.0

    def wait(self, stop: threading.Event) -> None:
        """Return when the next request may start; CancelledError once `stop` is set."""
        with self.lock:  # held while waiting: who comes later starts later
            while not stop.is_set() and (left := self.next - time.monotonic()) > 0:
                stop.wait(left)
            if stop.is_set():
                raise CancelledError
            self.next = time.monotonic() + self.gap


@functools.cache
def _pace(base_url: str, model: str, per_minute: int) -> _Pace:
    """One pace a server and model: the second of two calls goes on where the first stopped."""
    return _Pace(per_minute)


def _ask_server(endpoint: Endpoint, chats: dict[str, list[dict]], seed: int, label: str):
    import httpx
    import openai
    import tenacity

    key = os.environ.get(endpoint.key_env, "")
    if not key and not endpoint.base_url:
        raise ParameterError(
            f"{endpoint.model} needs a key: set {endpoint.key_env} in the environment, name another server in base_url, "
            "or use backend: local"
        )
    client = openai.OpenAI(
        api_key=key or "none", base_url=endpoint.base_url or None, max_retries=0, timeout=TIMEOUT,
        http_client=httpx.Client(transport=_whole_within(TIMEOUT, endpoint.concurrency), follow_redirects=True),
    )  # fmt: skip
    transient = (openai.RateLimitError, openai.APIConnectionError, openai.InternalServerError)
    stop, pace = threading.Event(), _pace(endpoint.base_url, endpoint.model, endpoint.requests_per_minute)

    def pause(state: tenacity.RetryCallState) -> float:
        response = getattr(state.outcome.exception(), "response", None)
        asked = response.headers.get("retry-after", "") if response is not None else ""
        if asked.replace(".", "", 1).isdigit():
            return min(float(asked), 120.0)
        return tenacity.wait_random_exponential(max=60)(state)

    @tenacity.retry(
        retry=tenacity.retry_if_exception_type(transient), stop=tenacity.stop_after_attempt(ATTEMPTS), wait=pause,
        sleep=tenacity.sleep_using_event(stop), reraise=True,
    )  # fmt: skip
    def one(chat: list[dict]):
        pace.wait(stop)
        return client.chat.completions.create(
            model=endpoint.model, messages=chat, max_tokens=endpoint.max_new_tokens,
            temperature=endpoint.temperature, seed=seed,
        )  # fmt: skip

    def reply(identity: str) -> dict:
        try:
            completion = one(chats[identity])
            choice = completion.choices[0]
            text = choice.message.content or ""
            if not isinstance(text, str):
                raise TypeError
            return _row(identity, text, choice.finish_reason == "stop") | _counted(completion)
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            where, status = endpoint.base_url or "the server", error.status_code  # its text may repeat the key
            raise ParameterError(
                f"{where} refused model {endpoint.model} (status {status}): check the key in {endpoint.key_env}, the "
                "model's name and base_url"
            ) from None
        except openai.OpenAIError as error:
            why = type(error).__name__
        except (ValueError, TypeError, AttributeError, IndexError):  # status 200, and not what the protocol says
            why = "malformed reply"
        return _row(identity, "", False, why)

    in_a_row = 0
    pool, waiting = ThreadPoolExecutor(endpoint.concurrency), iter(chats)
    running = {pool.submit(reply, i) for i in islice(waiting, endpoint.concurrency)}  # never more: a long list is cheap
    try:
        with tqdm(total=len(chats), desc=label, unit="request") as bar:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for job in sorted(done, key=lambda job: job.exception() is not None):  # keep replies before raising
                    row = job.result()
                    yield [row]  # on disk before the next is asked: a kill loses at most `concurrency` replies
                    running |= {pool.submit(reply, i) for i in islice(waiting, 1)}
                    bar.update()
                    in_a_row = in_a_row + 1 if row["error"] in PASSING else 0
                if in_a_row >= max(8, 2 * endpoint.concurrency):
                    raise ServerError(
                        f"{endpoint.model}: {in_a_row} requests in a row failed {ATTEMPTS} times each ({row['error']}): an outage, "
                        "or a quota that is used up. The replies so far are kept; run again to go on."
                    )
    finally:  # an error or Ctrl-C stops at once: no retry, no new request, and those under way are not waited for
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)


def _whole_within(seconds: float, connections: int):
    """A transport that gives up on a reply `seconds` after it was asked for; httpx itself limits each read only."""
    import httpx

    class Until(httpx.SyncByteStream):
        def __init__(self, stream, end: float):
            self.stream, self.end = stream, end

        def __iter__(self):
            for part in self.stream:
                if time.monotonic() > self.end:
                    raise httpx.ReadTimeout(f"the reply was not whole after {seconds:g} s")
                yield part

        def close(self) -> None:
            self.stream.close()

    class Transport(httpx.HTTPTransport):
        def handle_request(self, request):
            end = time.monotonic() + seconds
            response = super().handle_request(request)
            return httpx.Response(
                response.status_code, headers=response.headers, stream=Until(response.stream, end),
                extensions=response.extensions,
            )  # fmt: skip

    return Transport(limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections))


def _counted(completion) -> dict:
    """The server's own count of tokens; None where it gives none, or something else than a number."""
    held = getattr(completion, "usage", None)
    counts = {key: getattr(held, key, None) for key in _UNCOUNTED}
    return {key: count if type(count) is int else None for key, count in counts.items()}
