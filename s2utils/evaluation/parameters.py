"""Parameters of text metrics, the leaderboard, membership inference and the judge."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from s2utils.data.parameters import Syllables
from s2utils.models.parameters import Endpoint, Weights
from s2utils.training import parameters as training
from s2utils.workflow.limits import (
    MOST,
    Count,
    Distinct,
    Filled,
    FilledLine,
    Heat,
    Line,
    Name,
    Repeats,
    Section,
    Share,
    Size,
    each,
    known,
    shown,
)

Task = Literal["arc", "hellaswag", "mmlu", "truthfulqa"]  # of the leaderboard
HF_BACKENDS = ("hf-shared-prefix", "hf", "hf-auto", "huggingface")  # are given the model; the first is ours


class TextMetrics(Section):
    """ROUGE, BERTScore and readability of the answers."""

    protocol: Literal["answer", "study"] = Field(description="the answer, or prompt and answer, as one text")
    reference: Literal["own", "other"] = Field(description='"other": a reference of another data set')
    rouge_stemmer: bool = Field(description="whether ROUGE compares stems")
    bertscore: Weights = Field(description="encoder of BERTScore")
    bertscore_layer: int = Field(ge=1, le=1000, description="of the encoder, counted from 1")
    readability: Syllables = Field(description="counter of syllables")
    resamples: int = Field(ge=1, le=10**6, description="of the bootstrap and of permutation tests")
    confidence: float = Field(ge=0.01, le=0.9999, description="of every interval")


class Membership(Section):
    """Whether the base model saw the evaluation data."""

    control: FilledLine = Field(description="texts it cannot have seen: JSONL of turns, below the root")
    n: Size = Field(description="validation questions a source")
    min_k: float = Field(gt=0, le=1, description="share of a text's tokens that count, the least likely")
    shuffles: int = Field(ge=1, le=1000, description="orders of a reference's sentences")


class Compared(Section):
    """How much the base model is asked under the other protocol, to see how far the two differ."""

    limit: each(Task, Count) = Field(description="the leaderboard's first documents; 0: all of them")
    mmlu_subjects: Count = Field(description="0, or more than it scores: all of them")


class Leaderboard(Section):
    """Open LLM Leaderboard v1 tasks through lm-evaluation-harness."""

    protocol: Literal["v1", "harness"] = Field(description="shots, BOS and averages as in 2023 or now")
    source: Literal["hub", "embedded"] = Field(description="of the documents")
    shots: each(Task, Annotated[int, Field(ge=0, le=100)]) = Field(description="examples before each question")
    limit: each(Task, Count) = Field(description="documents a task (MMLU: a subject); 0 takes all")
    mmlu_subjects: Count = Field(description="0 takes all 57")
    backend: Line = Field(description='"hf-shared-prefix", or any model of lm-eval: hf, vllm, local-completions …')
    backend_args: Line = Field(description="its --model_args with a model's {path}, {revision}, {name}; no keys")
    batch_size: Size = Field(description="documents at a time")
    compared: Compared = Field(description="the base model under the other protocol")

    @field_validator("shots")
    @classmethod
    def _truthfulqa_has_its_own(cls, shots: dict) -> dict:
        if shots["truthfulqa"]:
            raise ValueError("needs 'leaderboard.shots.truthfulqa' 0: its prompt has six pairs of its own")
        return shots

    @field_validator("backend")
    @classmethod
    def _backend_of_lm_eval(cls, backend: str) -> str:
        if backend == HF_BACKENDS[0]:
            return backend
        from lm_eval.models import MODEL_MAPPING  # slow

        return known(backend, (HF_BACKENDS[0], *MODEL_MAPPING))

    @field_validator("backend_args")
    @classmethod
    def _arguments_name_the_model_once(cls, given: str, info: ValidationInfo) -> str:
        names, backend = [part.partition("=")[0].strip() for part in given.split(",")], info.data.get("backend")
        placed = any(place in given for place in ("{path}", "{name}"))
        if "trust_remote_code" in names:
            raise ValueError("must not hold trust_remote_code: it runs a model's own code")
        if backend in HF_BACKENDS and (placed or "pretrained" in names or "tokenizer" in names):
            raise ValueError(f"must name no model: the backend '{backend}' is given each model")
        if backend and backend not in HF_BACKENDS and not placed:
            raise ValueError(
                f"must say with {{path}} or {{name}} which model the backend '{backend}' loads, for example "
                f"pretrained={{path}}, not {shown(given)}: else all models of the study are one"
            )
        return given


class Fit(Section):
    """How well models fit text of each domain; see `fit`."""

    documents: Size = Field(description="a domain, the same for every model")
    max_characters: Size = Field(description="of a document; what follows is not scored")
    window: Size = Field(description="tokens that a model sees at once")
    stride: Count = Field(description="tokens by which windows advance over a longer document; 0: its first alone")
    batch_tokens: Size = Field(description="tokens of a forward pass")
    reference_domain: Line = Field(description="domain at which Δ is 0")
    models: dict[Name, Weights] = Field(description="published models that 10 scores beside the study's")


class Configurations(Section):
    """Configurations that published tables are held against; see `architectures`."""

    models: dict[Name, Weights] = Field(description="of the hub, by the name in the tables, such as OLMo-1B")


class AttentionWindows(Section):
    """A published model under windows it was not trained for, and the caches of windows; see `attention_windows`."""

    model: Weights = Field(description="of Llama's or Mistral's class")
    documents: Size = Field(description="held out, that have so many tokens; all where there are fewer")
    tokens: Size = Field(description="of each document, its first")
    windows: Distinct[Size] = Field(min_length=1, description="W, in tokens, each itself and the sinks counted")
    sinks: Count = Field(description="first tokens that are kept, beside none")
    reach_window: Size = Field(description="W under which one token's change is followed through the layers")
    cache_window: Size = Field(description="W of the caches that are compared")
    contexts: Distinct[Size] = Field(min_length=1, description="tokens after which caches are looked at, ascending")
    chunks: Distinct[Size] = Field(min_length=1, description="tokens in which a text is read up to there")
    steps: Size = Field(description="tokens that are then read one at a time, and timed")

    @model_validator(mode="after")
    def _fits(self):
        key = "'attention_windows.{}'".format
        if (least := min(self.windows)) <= self.sinks:
            raise ValueError(f"{key('sinks')} is {self.sinks}, so of {key('windows')} {least} would hold nothing else")
        ends = [0, *(context + self.steps for context in self.contexts)]
        if any(context < end for end, context in zip(ends, self.contexts)):
            raise ValueError(f"{key('contexts')} must ascend by {key('steps')} or more: these are read from one text")
        if ends[-1] > self.tokens:
            raise ValueError(
                f"{key('contexts')} and {key('steps')} need {ends[-1]:,} tokens: raise {key('tokens')}, {self.tokens:,}"
            )
        return self


class ExpertRouting(Section):
    """Which experts tokens are sent to; see `expert_routing`."""

    documents: Size = Field(description="a domain, held out")
    tokens: Size = Field(description="of each document, its first")
    models: dict[Name, Weights] = Field(description="published mixtures that are read beside those trained here")


class Passkey(Section):
    """A number that is to be found again in a long text; see `passkey`."""

    lengths: Annotated[Distinct[Size], Filled] = Field(description="tokens of a prompt")
    places: Annotated[Distinct[Share], Filled] = Field(description="of the key, as a share of the filler before it")
    n: Size = Field(description="prompts of each length, place and template")
    templates: Annotated[Distinct[Literal["plain", "chat"]], Filled] = Field(description="a text, or a user's turn")
    windows: Distinct[Size] = Field(description="tokens; put on the model at the longest length, in the first template")
    max_new_tokens: Size = Field(description="of an answer")


class LongContext(Section):
    """Loss by position under windows and scaled positions, and who is asked for the passkey; see `long_context`."""

    models: Annotated[dict[Name, Weights], Filled] = Field(description="name → a published decoder")
    documents: Size = Field(description="held out, that have so many tokens")
    tokens: Size = Field(description="of each, read by a published model")
    windows: Distinct[Size] = Field(description="tokens, each itself counted")
    ropes: Distinct[Literal["linear", "dynamic", "yarn"]] = Field(description="how positions are scaled")
    factor: int = Field(
        ge=2, le=1024, description="by how much; models trained here read as many times their trained length"
    )


class Panel(Section):
    """What tests the judge: answers of known worth, each rated several times; see `reliability`."""

    questions: Count = Field(description="0: the judge is not tested")
    repeats: Repeats = Field(description="ratings of each answer")
    temperature: Heat = Field(description="of the judge while it is tested, where repeats are more than one")


class MtBench(Section):
    """Two-turn questions, their judge, and what else the judge is asked."""

    questions: FilledLine = Field(description="file, relative to the repository's root")
    references: Line = Field(description="FastChat's reference answers; '' takes those of the questions' file")
    categories: Distinct[Line] = Field(description="[] takes all")
    n: Count = Field(description="questions; 0 takes all")
    max_new_tokens: Size = Field(description="tokens of a turn")
    prompts: Line = Field(description="FastChat's judge prompts; '' takes ours")
    reasons: bool = Field(description="before the verdict (FastChat's prompts ask for them anyway)")
    guided: bool = Field(description="whether the judge sees a reference answer where there is one")
    repeats: Repeats = Field(description="ratings of each answer; their mean is taken")
    validation: Count = Field(description="answers of 04 to the union's questions that are rated, a model; 0: none")
    pairs: Count = Field(description="questions of fine-tune against base, in both orders; 0: none")
    panel: Panel = Field(description="what tests the judge")
    judge: Endpoint = Field(description="who rates")
    other_judges: Distinct[Endpoint] = Field(description="whom the judge should agree with")

    @field_validator("judge")
    @classmethod
    def _repeats_differ(cls, judge: Endpoint, info: ValidationInfo) -> Endpoint:
        panel = info.data.get("panel")
        asked = (("repeats", info.data.get("repeats", 1), "judge", judge.temperature),)
        asked += (("panel.repeats", panel.repeats, "panel", panel.temperature),) if panel else ()
        for key, repeats, asker, heat in asked:
            if judge.backend == "local" and repeats > 1 and not heat:
                raise ValueError(
                    f"is local and repeats itself at temperature 0, and 'mtbench.{key}' is {repeats}: "
                    f"raise 'mtbench.{asker}.temperature'"
                )
        return judge


class AttentionHeads(Section):
    """What key-value heads cost in decoding."""

    model: Weights = Field(description="whose key-value heads, shared by groups of heads, are copied and averaged")
    batch_sizes: Annotated[Distinct[Size], Filled] = Field(description="texts decoded at once")
    contexts: Annotated[Distinct[Size], Filled] = Field(description="tokens in the cache of each")
    cache_gib: float = Field(gt=0, le=MOST, description="GiB; a larger cache is not timed")
    steps: Size = Field(description="timed of each setting")
    documents: Size = Field(description="held-out documents whose loss is taken, domains in turn")
    max_characters: Size = Field(description="of such a document")


class Parameters(training.Parameters):
    """Sections of this room."""

    text_metrics: TextMetrics
    membership: Membership
    leaderboard: Leaderboard
    fit: Fit
    attention_heads: AttentionHeads
    configurations: Configurations
    attention_windows: AttentionWindows
    expert_routing: ExpertRouting
    passkey: Passkey
    long_context: LongContext
    mtbench: MtBench

    @model_validator(mode="after")
    def _reference_domain_is_of_the_corpus(self):
        self.corpus.check_domain(self.fit.reference_domain, "fit.reference_domain")
        return self

    @model_validator(mode="after")
    def _models_beside_the_study_s_have_other_names(self):
        base, sets = self.model.name, self.sft.train_sets
        tuned = [f"{base}-{name}{mode}" for name in sets for mode in ("", *(f".{mode}" for mode in self.merge.modes))]
        others = {name for name, of in self.fit.models.items() if of not in (self.model.base, self.model.chat)}
        for name in {"all", "base", "chat", base, f"{base}-chat", *sets, *tuned} & others:
            raise ValueError(f"'fit.models': the study has the name {shown(name)} already: call the model otherwise")
        return self
