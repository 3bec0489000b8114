"""Ask a server that speaks OpenAI's chat protocol: retries, pace, a time limit for a whole reply, one reply at a time.

A failed request is retried, then comes back as a failure with its reason. Times are seconds.
Trap: the key is read from the environment and never written anywhere.
"""

from __future__ import annotations

import functools
import os
import threading
import time
import types
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, ThreadPoolExecutor, wait
from itertools import islice

from tqdm.auto import tqdm

from s2utils.models.parameters import Endpoint
from s2utils.workflow.errors import UserError
from s2utils.workflow.params import ParameterError

ATTEMPTS = 6  # a request
TIMEOUT = 120.0  # seconds until a request must be answered whole, however slowly its bytes come
PASSING = ("RateLimitError", "APIConnectionError", "APITimeoutError", "InternalServerError")
UNCOUNTED = types.MappingProxyType({"prompt_tokens": None, "completion_tokens": None})  # older caches have neither


class ServerError(UserError, RuntimeError):
    """A server did not answer, or not as the study needs it; what it did answer is kept."""


def row(identity: str, text: str, ended: bool, error: str = "") -> dict:
    """A reply as it is kept; nobody has counted its tokens yet."""
    return {"id": identity, "text": text, "ended": ended, "error": error, **UNCOUNTED}


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


def replies(endpoint: Endpoint, chats: dict[str, list[dict]], seed: int, label: str) -> Iterator[list[dict]]:
    """Yield the reply to each of `chats` (by its identity) as it comes, as a list of one `row`; failures have an error.

    ServerError where so many requests in a row fail for good that the server is out.
    """
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
            return row(identity, text, choice.finish_reason == "stop") | _counted(completion)
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
        return row(identity, "", False, why)

    in_a_row = 0
    pool, waiting = ThreadPoolExecutor(endpoint.concurrency), iter(chats)
    running = {pool.submit(reply, i) for i in islice(waiting, endpoint.concurrency)}  # never more: a long list is cheap
    try:
        with tqdm(total=len(chats), desc=label, unit="request") as bar:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for job in sorted(done, key=lambda job: job.exception() is not None):  # keep replies before raising
                    answered = job.result()
                    yield [answered]  # on disk before the next is asked: a kill loses at most `concurrency` replies
                    running |= {pool.submit(reply, i) for i in islice(waiting, 1)}
                    bar.update()
                    in_a_row = in_a_row + 1 if answered["error"] in PASSING else 0
                if in_a_row >= max(8, 2 * endpoint.concurrency):
                    raise ServerError(
                        f"{endpoint.model}: {in_a_row} requests in a row failed {ATTEMPTS} times each ({answered['error']}): an outage, "
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
    counts = {key: getattr(held, key, None) for key in UNCOUNTED}
    return {key: count if type(count) is int else None for key, count in counts.items()}
