"""Blocks of the corpus pipeline: datatrove's filters with the words of `corpus_words`, and what Dolma has besides.

Every filter writes what it drops, without its text, as JSON lines of id, component, domain and reason. Rules for web
pages look only at components that are web pages (`Web`). Ours are: the median of word lengths in place of the mean,
fastText's language, toxicity by sentence, exact duplicates by document and paragraph, decontamination, and the mix.
Trap: datatrove's own exact deduplication keeps the copy with the lowest number in its file, so its result hangs on the
number of tasks; here, as in its MinHash, the first in the order of the corpus stays.
"""

from __future__ import annotations

import functools
import itertools
import json
import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters import C4QualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.filters.gopher_repetition_filter import find_all_duplicate
from datatrove.pipeline.formatters import PIIFormatter
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter
from datatrove.pipeline.writers.disk_base import DiskWriter
from datatrove.utils.text import PUNCTUATION_SET
from loguru import logger

from s2utils.data import corpora, decontamination
from s2utils.data.corpus_words import Words
from s2utils.data.parameters import Component
from s2utils.text import language
from s2utils.text.toxicity import toxicity
from s2utils.workflow import artefacts

logger.disable("datatrove")  # it tells of every task on the error stream; what fails raises

BATCH = 100  # documents in memory
ENOUGH = 1_000  # characters, to tell a language
NGRAMS = ("top_n_grams", "dup_n_grams")  # of `Repetition`
BLOCK = 1_000  # of a file of raw documents
SCHEMA = pa.schema([(column, pa.string()) for column in ("text", "id", "component", "domain")])
Verdict = bool | tuple[bool, str]


class Read(PipelineStep):
    """Writes the documents of all components in blocks of `BLOCK`, and what was left out; run it as one task."""

    type, name = "📖 - READER", "components"

    def __init__(self, folder: Path, components: dict[str, Component], seed: int):
        super().__init__()
        self.folder, self.components, self.seed = folder, components, seed

    def run(self, data=None, rank: int = 0, world_size: int = 1) -> None:
        """Read them."""
        left_out: dict[str, Counter] = {}  # by domain; by component where its documents have several
        documents = itertools.chain.from_iterable(
            corpora.documents(
                name, component, self.seed,
                left_out.setdefault(name if component.domain.startswith("{") else component.domain, Counter()),
            )
            for name, component in self.components.items()
        )  # fmt: skip
        for number in itertools.count():
            rows = [
                {"text": d.text, "id": d.id, "component": d.component, "domain": d.domain}
                for d in itertools.islice(documents, BLOCK)
            ]
            if not rows:
                break
            with artefacts.replacing(self.folder / f"{number:06d}.parquet", "wb") as file:
                pq.write_table(pa.Table.from_pylist(rows, SCHEMA), file, compression="zstd")
        artefacts.write_json(self.folder.with_name("left_out.json"), left_out)


class Blocks(ParquetReader):
    """Documents of a folder: of one file a task, or of the task's share of the files, in order."""

    def __init__(self, folder: Path, shared: bool = False):
        super().__init__(str(folder), batch_size=BATCH)
        self.shared, self.add_file_path = shared, False

    def run(self, data=None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Read them."""
        files = sorted(self.data_folder.list_files())
        if self.shared:
            mine = files[len(files) * rank // world_size : len(files) * (rank + 1) // world_size]
        else:
            mine = [file for file in files if file == f"{rank:05d}.parquet"]  # a task that kept nothing wrote none
        yield from self.read_files_shard(mine)


def rows(file: Path) -> Iterator[dict]:
    """Rows of a Parquet file, `BATCH` in memory: of a file given by its path Arrow would keep all that it has read."""
    with open(file, "rb") as opened, pq.ParquetFile(opened) as parquet:
        for batch in parquet.iter_batches(BATCH):
            yield from batch.to_pylist()


def writer(folder: Path) -> ParquetWriter:
    """Writes documents as `Blocks` reads them."""

    def row(_, document: Document) -> dict:
        return {"text": document.text, "id": document.id} | _place(document)

    return ParquetWriter(
        str(folder), compression="zstd", adapter=row, batch_size=BATCH, max_file_size=-1, schema=SCHEMA,
        use_content_defined_chunking=False,
    )  # fmt: skip


class Dropped(DiskWriter):
    """What a filter drops: id, component, domain, reason; no text."""

    default_output_filename, name = "${rank}.jsonl", "dropped"

    def __init__(self, folder: Path, reason: str = "dropped"):
        super().__init__(str(folder), compression=None)
        self.reason = reason

    def _default_adapter(self, document: Document) -> dict:
        reason = document.metadata.get("filter_reason", self.reason)
        return {"id": document.id, **_place(document), "reason": reason}

    def _write(self, document: dict, file_handler, filename: str) -> None:
        file_handler.write(json.dumps(document, ensure_ascii=False) + "\n")


def _place(document: Document) -> dict[str, str]:
    return {key: document.metadata[key] for key in ("component", "domain")}


class Web:
    """Mixed into a filter: other components than `web` pass it."""

    web: tuple[str, ...] = ()

    def filter(self, doc: Document) -> Verdict:
        """Its verdict on web pages."""
        return super().filter(doc) if doc.metadata["component"] in self.web else True


class _Language(BaseFilter):
    """Keeps texts in a language by fastText's lid.176 and their beginning, line ends as spaces."""

    name = "language"

    def __init__(self, language: str, least: float, exclusion_writer: DiskWriter | None = None):
        super().__init__(exclusion_writer)
        self.language, self.least = language, least

    def filter(self, doc: Document) -> Verdict:
        """Whether it is in the language."""
        ((code, probability),) = language.detect([doc.text[:ENOUGH]], threshold=0.0)
        if code != self.language:
            return False, "another language"
        return probability >= self.least or (False, "language uncertain")


class _Quality(GopherQualityFilter):
    """Gopher's rules, with Dolma's median of word lengths in place of the mean."""

    def __init__(self, rules: dict, words: Words, exclusion_writer: DiskWriter | None = None):
        rules = dict(rules)
        self.least, self.most = rules.pop("min_median_word_length"), rules.pop("max_median_word_length")
        super().__init__(
            **rules, min_avg_word_length=None, max_avg_word_length=None, exclusion_writer=exclusion_writer,
            language=words,
        )  # fmt: skip

    def filter(self, doc: Document) -> Verdict:
        """Its verdict."""
        verdict = super().filter(doc)
        if verdict is not True:
            return verdict
        words = self.language.word_tokenize(doc.text)
        median = statistics.median(len(word) for word in words if not PUNCTUATION_SET.issuperset(word))
        return self.least <= median <= self.most or (False, "median_word_length")


class _C4(C4QualityFilter):
    """C4's rules; what they leave nothing of is dropped."""

    def filter(self, doc: Document) -> Verdict:
        """Its verdict."""
        verdict = super().filter(doc)
        return verdict if verdict is not True or doc.text else (False, "nothing_left")


class Language(Web, _Language):
    """Of web pages."""


class Quality(Web, _Quality):
    """Of web pages."""


class C4(Web, _C4):
    """Of web pages."""


class _Repetition(GopherRepetitionFilter):
    """Gopher's rules, with the same verdicts: n-grams are counted without being joined, and not where none repeats."""

    def __init__(self, rules: dict, words: Words, exclusion_writer: DiskWriter | None = None):
        self.top, self.again = ([(int(n), most) for n, most in rules[key].items()] for key in NGRAMS)
        rest = {key: limit for key, limit in rules.items() if key not in NGRAMS} | dict.fromkeys(NGRAMS, ())
        super().__init__(**rest, exclusion_writer=exclusion_writer, language=words)

    def filter(self, doc: Document) -> Verdict:
        """Its verdict."""
        verdict = super().filter(doc)  # on lines and paragraphs
        if verdict is not True:
            return verdict
        words = self.language.word_tokenize(doc.text)
        for n, most in self.top:
            for gram, count in Counter(_grams(words, n)).most_common(1):
                if len(" ".join(gram)) * count > most * len(doc.text):
                    return False, f"top_{n}_gram"
        for n, most in sorted(self.again):
            if len(words) < n or len(set(_grams(words, n))) == len(words) - n + 1:
                break  # nor does a longer one stand twice
            if find_all_duplicate(words, n) > most * len(doc.text):
                return False, f"duplicated_{n}_n_grams"
        return True


def _grams(words: list[str], n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[i:] for i in range(n)))


class Repetition(Web, _Repetition):
    """Of web pages."""


class Personal(BaseFilter):
    """Masks e-mail and IP addresses by datatrove's patterns; drops a document with more than `most`."""

    name = "personal"

    def __init__(self, most: int, exclusion_writer: DiskWriter | None = None):
        super().__init__(exclusion_writer)
        self.most, self.mask = most, PIIFormatter(email_replacement="[e-mail]", ip_replacement="[IP address]")

    def filter(self, doc: Document) -> Verdict:
        """Whether it has few enough."""
        mails = self.mask.emails_replacer.regex.findall(doc.text) if "@" in doc.text else []
        addresses = filter(self.mask.ip_replacer.validator, self.mask.ip_replacer.regex.findall(doc.text))
        n = len(mails) + sum(1 for _ in addresses)
        if n > self.most:
            return False, f"over {self.most} addresses"
        if n:
            doc.text = self.mask.format(doc.text)
        return True


class Toxicity(BaseFilter):
    """Takes away sentences whose toxicity is `most` or more; drops what nothing is left of."""

    name = "toxicity"

    def __init__(self, most: float, model: str, exclusion_writer: DiskWriter | None = None):
        super().__init__(exclusion_writer, batch_size=BATCH)
        self.most, self.model, self.words = most, model, Words()

    def filter(self, doc: Document) -> Verdict:
        """Of one document."""
        return self.filter_batch([doc])[0]

    def filter_batch(self, batch: list[Document]) -> list[Verdict]:
        """Of many, whose sentences are scored together."""
        spans = [self.words.span_tokenize(doc.text) for doc in batch]
        sentences = [doc.text[start:end] for doc, places in zip(batch, spans) for start, end in places]
        scores = iter(toxicity(sentences, self.model))
        verdicts: list[Verdict] = []
        for doc, places in zip(batch, spans):
            fine = [place for place in places if next(scores) < self.most]
            if len(fine) < len(places):
                doc.text = "".join(doc.text[start:end] for start, end in fine).strip()
            verdicts.append(True if doc.text.strip() else (False, "every sentence toxic"))
        return verdicts


class Decontamination(BaseFilter):
    """Drops documents that share a run of `n` words with an evaluation set (`decontamination`)."""

    name = "decontamination"

    def __init__(self, sets: Path, n: int, exclusion_writer: DiskWriter | None = None):
        super().__init__(exclusion_writer)
        self.sets, self.n = sets, n

    @functools.cached_property
    def _search(self):
        return decontamination.searcher(decontamination.index(artefacts.read_json(self.sets), self.n), self.n)

    def filter(self, doc: Document) -> Verdict:
        """Whether it shares none."""
        if found := next(self._search(doc.text), None):
            return False, f"{self.n} words of {found[0][0]}"
        return True
