"""Carry requests to a server that speaks OpenAI's protocol, and its replies back: vLLM, SGLang, llama.cpp, a vendor's.

A request that fails in a way that passes is repeated, in a pace and within a time limit for a whole reply. What is
asked and how a reply is read is not decided here (`llm`, `generation`), so this module is outside of artefacts'
identities. Times are seconds. Traps: the key is read from the environment and never written anywhere, nor is what a
server says with the key in it; a model's name says nothing about its weights.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, ThreadPoolExecutor, wait
from itertools import islice

import httpx2
import openai
import tenacity
from tqdm.auto import tqdm

from s2utils.models.parameters import Endpoint
from s2utils.workflow import redact
from s2utils.workflow.errors import UserError
from s2utils.workflow.params import ParameterError

ATTEMPTS = 6  # a request
WAIT = tenacity.wait_random_exponential(max=60)  # before a request is repeated, where the server names no time
PATIENCE = 120.0  # the longest that a server may ask us to wait
TIMEOUT = 120.0  # until a reply must be whole, however slowly its bytes come
LONG = 600.0  # the same of a completion, which may be long, from a server that is busy with others
TRANSIENT = (openai.RateLimitError, openai.APIConnectionError, openai.InternalServerError)
PASSING = ("APITimeoutError", *(error.__name__ for error in TRANSIENT))  # the first is an APIConnectionError too
MALFORMED = (ValueError, TypeError, AttributeError, IndexError)  # of a reply with status 200 that is none
REFUSED = (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError)
REMEDY = "see cluster/README.md for the command that serves a model, or use generate.backend=local"


class ServerError(UserError, RuntimeError):
    """A server did not answer, or not as the study needs it; what it did answer is kept."""


class Server:
    """A server and how to ask it: one client, one policy of repeating, `concurrency` requests under way."""

    def __init__(self, base_url: str, key_env: str, *, concurrency: int = 1, seconds: float, pace: _Pace | None = None):
        self.key = os.environ.get(key_env, "") if key_env else ""
        self.concurrency, self.stopped = concurrency, threading.Event()
        self.api = openai.OpenAI(
            api_key=self.key or "none", base_url=base_url or None, max_retries=0,
            http_client=_whole_within(seconds, concurrency),
        )  # fmt: skip
        self.repeating = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(TRANSIENT), stop=tenacity.stop_after_attempt(ATTEMPTS), wait=_pause,
            sleep=tenacity.sleep_using_event(self.stopped), before=lambda _: pace and pace.wait(self.stopped),
            reraise=True,
        )  # fmt: skip

    def ask(self, create: Callable, **request):
        """What `create` of the client says to `request`, after repeats; raises the last of openai's errors."""
        return self.repeating(create, **request)

    def told(self, error: Exception) -> str:
        """An error in a line, in which a key, that a server may repeat, is not to be read."""
        text = redact.redacted(f"{type(error).__name__}: {error}", {self.key: "key"} if self.key else {})
        return " ".join(text.split())[:600]

    def each(self, answer: Callable, keys: Iterable[Hashable]) -> Iterator[tuple]:
        """(key, answer(key)) of each key as it comes; never more than `concurrency` are begun, so a long list is cheap.

        An error of `answer` is raised once the replies that came with it are given. It, Ctrl-C, or a caller that goes
        away stops at once: no repeat, no new request, and those under way are not waited for.
        """
        pool, waiting = ThreadPoolExecutor(self.concurrency), iter(keys)
        running = {pool.submit(answer, key): key for key in islice(waiting, self.concurrency)}
        try:
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for job in sorted(done, key=lambda job: job.exception() is not None):
                    key = running.pop(job)
                    yield key, job.result()  # kept before the next is asked: a kill loses at most `concurrency` replies
                    running |= {pool.submit(answer, key): key for key in islice(waiting, 1)}
        except BaseException:
            self.stopped.set()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def replies(
    endpoint: Endpoint, requests: dict[str, dict], read: Callable[[object], dict], label: str
) -> Iterator[tuple[str, dict | str]]:
    """Yield (identity, what `read` makes of the reply) of each chat as it comes; a text is the name of what went wrong.

    `requests` are arguments of OpenAI's chat completions by their identity. ParameterError where the server would
    refuse every request, ServerError where so many in a row fail for good that the server is out.
    """
    if not (os.environ.get(endpoint.key_env) or endpoint.base_url):
        raise ParameterError(
            f"{endpoint.model} needs a key: set {endpoint.key_env} in the environment, name another server in "
            "base_url, or use backend: local"
        )
    server = Server(
        endpoint.base_url, endpoint.key_env, concurrency=endpoint.concurrency, seconds=TIMEOUT,
        pace=_pace(endpoint.base_url, endpoint.model, endpoint.requests_per_minute),
    )  # fmt: skip

    def answer(identity: str) -> dict | str:
        try:
            return read(server.ask(server.api.chat.completions.create, **requests[identity]))
        except REFUSED as error:
            raise ParameterError(
                f"{endpoint.base_url or 'the server'} refused model {endpoint.model} (status {error.status_code}): "
                f"check the key in {endpoint.key_env}, the model's name and base_url"
            ) from None
        except openai.OpenAIError as error:
            return type(error).__name__
        except MALFORMED:
            return "malformed reply"

    in_a_row, coming = 0, contextlib.closing(server.each(answer, requests))
    with coming as answers, tqdm(total=len(requests), desc=label, unit="request") as bar:
        for identity, reply in answers:
            yield identity, reply
            bar.update()
            in_a_row = in_a_row + 1 if reply in PASSING else 0
            if in_a_row >= max(8, 2 * endpoint.concurrency):
                raise ServerError(
                    f"{endpoint.model}: {in_a_row} requests in a row failed {ATTEMPTS} times each ({reply}): an "
                    "outage, or a quota that is used up. The replies so far are kept; run again to go on."
                )


def served(base_url: str, model: str, key_env: str = "") -> dict:
    """What the server says of `model`: {base_url, model, root, owned_by, max_model_len, weights}, for the record.

    `root` is the folder or hub id it says it loaded. Raises ServerError where nobody answers or others are served.
    """
    server = Server(base_url, key_env, seconds=TIMEOUT)
    try:
        cards = {card.id: card for card in server.api.with_options(max_retries=2).models.list()}
    except (openai.OpenAIError, *MALFORMED) as error:
        raise ServerError(f"no list of models from {base_url} ({server.told(error)}): {REMEDY}") from None
    if model not in cards:
        raise ServerError(
            f"{base_url} serves {', '.join(cards) or 'nothing'}, not '{model}': start it with --served-model-name "
            f"{model}"
        )
    facts = {key: getattr(cards[model], key, None) for key in ("root", "owned_by", "max_model_len")}
    return {"base_url": base_url, "model": model, **facts, "weights": "as the server says, not verified"}


def completions(
    base_url: str,
    requests: list[dict],
    read: Callable[[object], dict],
    *,
    batch_size: int,
    concurrency: int,
    key_env: str = "",
    skip: int = 0,
    label: str | None = "generate",
) -> Iterator[list[dict]]:
    """Yield what `read` makes of the replies, a batch at a time, in the order of `requests`.

    Those are arguments of OpenAI's completions; `skip` at the start, a whole number of batches, are not asked. A batch
    is given once it is whole. Raises ServerError when a request fails for good, or `read` says that its reply will not
    do.
    """
    server = Server(base_url, key_env, concurrency=concurrency, seconds=LONG)

    def answer(place: int) -> dict:
        try:
            return read(server.ask(server.api.completions.create, **requests[place]))
        except (openai.OpenAIError, ServerError, *MALFORMED) as error:
            where = f"{requests[place]['model']} at {base_url}, prompt {place}"
            raise ServerError(f"{where}: {server.told(error)}") from None

    with tqdm(total=len(requests), initial=skip, desc=label, unit="answer", disable=label is None) as bar:
        for start in range(skip, len(requests), batch_size):
            batch = range(start, min(start + batch_size, len(requests)))
            answers = dict(server.each(answer, batch))
            bar.update(len(batch))
            yield [answers[place] for place in batch]


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


def _pause(state: tenacity.RetryCallState) -> float:
    """Seconds before a request is repeated: what the server asks for, else longer from time to time."""
    response = getattr(state.outcome.exception(), "response", None)
    asked = response.headers.get("retry-after", "") if response is not None else ""
    return min(float(asked), PATIENCE) if asked.replace(".", "", 1).isdigit() else WAIT(state)


def _whole_within(seconds: float, connections: int) -> httpx2.Client:
    """A client that gives up on a reply `seconds` after it was asked for; httpx2 itself limits each read only."""

    def asked(request: httpx2.Request) -> None:
        request.extensions["end"] = time.monotonic() + seconds

    def answered(response: httpx2.Response) -> None:
        parts = []
        for part in response.stream:
            parts.append(part)
            if time.monotonic() > response.request.extensions["end"]:
                raise httpx2.ReadTimeout(f"the reply was not whole after {seconds:g} s")
        response.stream.close()
        response.stream = httpx2.ByteStream(b"".join(parts))

    return openai.DefaultHttpxClient(
        timeout=seconds, limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
        event_hooks={"request": [asked], "response": [answered]},
    )  # fmt: skip
