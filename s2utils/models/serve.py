"""Answers from a server that speaks OpenAI's completions protocol: vLLM, SGLang, llama.cpp, in its own environment.

A prompt goes out as it is, token ids or text that is templated already: nothing is added to it here. Nothing falls
back either: a server that is away, serves another model or keeps to other limits is an error that says so.
Traps: `repetition_penalty` and `top_k` are no part of OpenAI's protocol, and a server may ignore what it does not know;
a model's name says nothing about its weights.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import openai
import tenacity
from tqdm.auto import tqdm

from s2utils.models.client import ServerError

PENALTY = ("vllm", "sglang")  # owners, as GET /models names them, of servers that know `repetition_penalty`
WAIT = tenacity.wait_random_exponential(max=30)  # seconds before a request is repeated
REMEDY = "see cluster/README.md for the command that serves a model, or use generate.backend=local"


def served(base_url: str, model: str, key_env: str = "") -> dict:
    """What the server says of `model`: {base_url, model, root, owned_by, max_model_len, weights}, for the record.

    `root` is the folder or hub id it says it loaded. Raises ServerError where nobody answers or others are served.
    """
    try:
        listed = {card.id: card for card in _client(base_url, key_env, retries=2).models.list()}
    except (openai.OpenAIError, ValueError, TypeError, AttributeError) as error:
        raise ServerError(f"no list of models from {base_url} ({type(error).__name__}): {REMEDY}") from error
    if model not in listed:
        raise ServerError(
            f"{base_url} serves {', '.join(listed) or 'nothing'}, not '{model}': start it with --served-model-name {model}"
        )
    facts = {key: getattr(listed[model], key, None) for key in ("root", "owned_by", "max_model_len")}
    return {"base_url": base_url, "model": model, **facts, "weights": "as the server says, not verified"}


def completions(
    base_url: str,
    model: str,
    prompts: list[str] | list[list[int]],
    *,
    seed: str,
    batch_size: int,
    concurrency: int,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    stop: list[str] | None = None,
    key_env: str = "",
    skip: int = 0,
    label: str | None = "generate",
) -> Iterator[list[dict]]:
    """Yield a batch of {text, n_tokens, ended} at a time, in the order of `prompts`, as `generate.completions` does.

    `skip` prompts at the start, a whole number of batches, are not asked. Of a batch `concurrency` requests are under
    way at a time; it is given once it is whole. A prompt's seed hangs on its place alone. `stop` are texts that end an
    answer, besides the model's own end token. `n_tokens` is the server's count, which may hold the end token.
    Raises ServerError when a request fails for good (six times, where it may pass), or its reply breaks a promise.
    """
    owner = served(base_url, model, key_env)["owned_by"]
    if repetition_penalty != 1 and owner not in PENALTY:
        raise ServerError(
            f"{base_url} (owned_by {owner!r}) may ignore generate.repetition_penalty={repetition_penalty:g}: "
            f"serve the model by {' or '.join(PENALTY)}, or set it to 1.0"
        )
    client, ended = _client(base_url, key_env), threading.Event()
    transient = (openai.RateLimitError, openai.APIConnectionError, openai.InternalServerError)

    @tenacity.retry(
        retry=tenacity.retry_if_exception_type(transient), stop=tenacity.stop_after_attempt(6), wait=WAIT,
        sleep=tenacity.sleep_using_event(ended), reraise=True,
    )  # fmt: skip
    def ask(place: int):
        return client.completions.create(
            model=model, prompt=prompts[place], max_tokens=max_new_tokens, temperature=temperature, top_p=top_p,
            seed=int(hashlib.sha256(f"{seed}/{place}".encode()).hexdigest()[:7], 16), stop=stop or None,
            extra_body={"repetition_penalty": repetition_penalty, "top_k": -1},
        )  # fmt: skip

    def answer(place: int) -> dict:
        try:
            return _row(ask(place), max_new_tokens)
        except (openai.OpenAIError, ServerError, ValueError, TypeError, AttributeError, IndexError) as error:
            why = _without(os.environ.get(key_env, ""), f"{type(error).__name__}: {error}")
            raise ServerError(f"{model} at {base_url}, prompt {place}: {why[:600]}") from None

    pool = ThreadPoolExecutor(concurrency)
    try:
        with tqdm(total=len(prompts), initial=skip, desc=label, unit="answer", disable=label is None) as bar:
            for start in range(skip, len(prompts), batch_size):
                places = range(start, min(start + batch_size, len(prompts)))
                rows = list(pool.map(answer, places))
                bar.update(len(rows))
                yield rows
    finally:  # an error or Ctrl-C stops at once: no retry, no new request
        ended.set()
        pool.shutdown(wait=False, cancel_futures=True)


def _client(base_url: str, key_env: str, retries: int = 0) -> openai.OpenAI:
    key = os.environ.get(key_env, "") if key_env else ""
    return openai.OpenAI(api_key=key or "none", base_url=base_url, max_retries=retries, timeout=600)


def _row(completion, max_new_tokens: int) -> dict:
    """A reply as a row; ServerError where it breaks what the study counts on."""
    choice, count = completion.choices[0], getattr(completion.usage, "completion_tokens", None)
    if not isinstance(choice.text, str) or type(count) is not int:
        raise ServerError("the reply holds no text or no count of its tokens (usage.completion_tokens)")
    if choice.finish_reason not in ("stop", "length"):
        raise ServerError(f"finish_reason is {choice.finish_reason!r}, so nobody knows whether the answer is whole")
    if count > max_new_tokens:
        raise ServerError(
            f"{count} tokens where at most {max_new_tokens} were asked for: it does not honour max_tokens"
        )
    if choice.finish_reason == "length" and count < max_new_tokens:
        raise ServerError(
            f"cut after {count} of {max_new_tokens} tokens: its context is too short (vllm serve --max-model-len)"
        )
    return {"text": choice.text.strip(), "n_tokens": count, "ended": choice.finish_reason == "stop"}


def _without(key: str, text: str) -> str:
    """`text` in which the key, that a server may repeat, is not to be read."""
    return text.replace(key, "…") if key else text
