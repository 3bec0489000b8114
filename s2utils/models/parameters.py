"""Parameters of loading, prompting and asking models."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from s2utils.workflow.limits import (
    Address,
    Amount,
    Count,
    FilledLine,
    Heat,
    Jobs,
    Line,
    Name,
    Section,
    Seed,
    Size,
    Text,
    Variable,
)


def _prompt(value: str) -> str:
    """Templates that `str.format(question=…)` fills."""
    bare = value.replace("{{", "").replace("}}", "")
    if "{question}" not in bare or re.search("[{}]", bare.replace("{question}", "")):
        raise ValueError(f"must hold {{question}} and no other single brace, not {value!r:.80}")
    return value


class Runtime(Section):
    """Where and how wide to compute."""

    device: Literal["cpu", "cuda"] = Field(description="where torch computes")
    threads: int = Field(ge=1, le=1024, description="of torch, one job; last digits may differ between counts")


class Weights(Section):
    """One set of published weights."""

    path: FilledLine = Field(description="`embedded:<name>`, a hub id or a local folder")
    revision: Line = Field(description='of a hub id; "" for its newest')


class Model(Section):
    """The base and chat models, and the prompt that fine-tuned models learn."""

    name: Name = Field(description="row name of the base; fine-tunes are `<name>-<train set>`")
    base: Weights = Field(description="what is fine-tuned")
    chat: Weights = Field(description="the published chat model, for comparison")
    dtype: Literal["bfloat16", "float16", "float32"] = Field(description="of all computing, training too")
    template: Literal["human_assistant", "chat"] = Field(description="fine-tunes learn `prompt` or the tokenizer's")
    prompt: Annotated[Text, AfterValidator(_prompt)] = Field(description="holds {question}; the answer follows it")
    system_prompt: Text = Field(description='chat model only; "" for none')


class Endpoint(Section):
    """A language model that is asked: a judge, or the writer of questions."""

    backend: Literal["local", "openai", "file"] = Field(description="weights, server, or a judge's file")
    model: FilledLine = Field(description="weights path, the server's model name, or the file: see `judgements.humans`")
    revision: Line = Field(description="of local weights from the hub")
    base_url: Address = Field(description='of the server; "" for the client\'s default')
    key_env: Variable = Field(description="variable that holds the server's key")
    concurrency: Jobs = Field(description="requests at a time, server only")
    batch_size: Size = Field(description="local only")
    max_new_tokens: Size = Field(description="tokens of a reply")
    temperature: Heat = Field(description="0: the likeliest token")
    requests_per_minute: Count = Field(description="server only; 0: no limit")
    price_in: Amount = Field(description="US dollars a million prompt tokens, for the estimate shown before asking")
    price_out: Amount = Field(description="US dollars a million tokens of replies")
    budget: Amount = Field(description="US dollars; a job estimated above it is refused before asking; 0: no limit")


class Generate(Section):
    """Answers to sampled validation questions."""

    n: Size = Field(description="questions a data set")
    sample_seed: Seed = Field(description="of the sample of questions")
    max_new_tokens: Size = Field(description="tokens of an answer")
    temperature: float = Field(gt=0, le=10, description="of sampling")
    top_p: float = Field(gt=0, le=1, description="share of the probability that is sampled from")
    repetition_penalty: float = Field(gt=0, le=100, description="1: none")
    batch_size: Size = Field(description="answers at a time")
    backend: Literal["local", "openai"] = Field(description="weights, or a server that serves the model under its id")
    base_url: Address = Field(description="of the server")
    key_env: Variable = Field(description='variable that holds its key; "" for none')
    concurrency: Jobs = Field(description="requests at a time, server only")

    @field_validator("base_url")
    @classmethod
    def _served(cls, url: str, info: ValidationInfo) -> str:
        if info.data.get("backend") == "openai" and not url:
            raise ValueError("must name the server, for 'generate.backend' is openai")
        return url


class Parameters(Section):
    """Sections of this room."""

    runtime: Runtime
    model: Model
    generate: Generate
