import json
import random
from pathlib import Path

import pytest
from conftest import write_jsonl
from datatrove.data import Document
from datatrove.pipeline.filters import GopherRepetitionFilter
from hypothesis import given
from hypothesis import strategies as st

from s2utils.data import corpora, corpus_blocks, corpus_copies, corpus_pipeline
from s2utils.data.corpus_words import Words
from s2utils.data.parameters import Pipeline
from s2utils.workflow.params import load

WORDS = (
    "river garden engine harbour window letter market forest valley teacher picture island bridge doctor summer "
    "mountain kitchen village station captain farmer winter journey village soldier library hospital machine railway "
    "small quiet heavy golden distant ancient careful gentle narrow wooden bright hungry famous lonely modern northern "
    "crossed followed remembered painted carried watched built repaired found left opened visited described measured"
).split()


def prose(seed: int, sentences: int = 12) -> str:
    """Sentences of words that hardly repeat."""
    draw = random.Random(seed)
    small = "of to with from by near under about over".split()
    said = (draw.sample(WORDS, 7) + draw.sample(small, 3) for _ in range(sentences))
    return " ".join(f"The {a} {b} {x} {c} and {d} {y} {e} that {f} {z} {g}." for a, b, c, d, e, f, g, x, y, z in said)


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return load("cpu").corpus.pipeline.model_copy(update={"web": ["web"], "duplicate_paragraph_words": 8})


def document(text: str, component: str = "web") -> Document:
    return Document(text, "1", metadata={"component": component, "domain": "d"})


PARAGRAPH = "This very paragraph of more than eight words stands in two documents."
EVALUATION = "which of the many small stones by the quiet lake does the grey heron choose at dawn"


@pytest.fixture
def components(root) -> dict:
    """Two components: pages of the web, in which each step finds something, and a book."""
    web = [prose(i) for i in range(40)]
    web[1] = "The text of this page is much too short to be kept. It ends with these words, and that is all of it."
    web[2] = " ".join(["der Fluss und das alte Haus stehen neben dem kleinen Garten in dieser ruhigen Stadt"] * 6)
    web[3] = web[3].replace("The", "#The #the #the")
    web[4] = "The cat that sat with the dog was of the house. " * 9
    web[5] = web[5] + " " + " ".join(f"a{i}@example.org" for i in range(6)) + " write."
    web[6] = web[6] + " Write to someone@example.org or 8.8.8.8 then."
    web[7] = web[8]
    web[9] = web[10].replace("The", "THE", 1) + " It ends."
    web[11], web[12] = f"{web[11]}\n{PARAGRAPH}", f"{PARAGRAPH}\n{web[12]}"
    web[13] = f"{web[13]} {EVALUATION}."
    web[14] = "{ " + web[14]
    write_jsonl(root / "web.jsonl", *({"id": str(i), "text": t} for i, t in enumerate(web)), "{broken", {"text": ""})
    write_jsonl(root / "book.jsonl", {"id": "b", "text": "x = {1}"}, {"id": "c", "text": prose(99)})
    return {
        "web": corpora.folder("web.jsonl", domain="pages"),
        "book": corpora.folder("book.jsonl", domain="books", epochs=2.0),
    }


def run(folder: Path, components: dict, pipeline: Pipeline, workers: int = 1, **changes):
    return corpus_pipeline.run(
        folder, components, pipeline.model_copy(update=changes), {"arc": [EVALUATION]}, "profanity-check", 7, workers
    )


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_each_step_drops_what_it_must_and_the_funnel_adds_up(components, pipeline, tmp_path):
    funnel = run(tmp_path / "out", components, pipeline)
    dropped = funnel[(funnel["reason"] != "kept") & (funnel["step"] != "read")]
    assert dict(zip(zip(dropped["step"], dropped["reason"]), dropped["example"])) == {
        ("language", "another language"): "web/2",
        ("quality", "gopher_short_doc"): "web/1",
        ("quality", "gopher_too_many_hashes"): "web/3",
        ("c4", "curly_bracket"): "web/14",
        ("repetition", "top_3_gram"): "web/4",
        ("pii", "over 5 addresses"): "web/5",
        ("duplicates", "document seen before"): "web/8",
        ("near_duplicates", "near duplicate"): "web/10",
        ("contamination", "13 words of arc"): "web/13",
    }
    assert funnel[funnel["step"] == "read"][["domain", "reason", "n"]].values.tolist() == [
        ["pages", "broken row", 1], ["pages", "empty", 1], ["pages", "kept", 40], ["books", "kept", 2],
    ]  # fmt: skip
    before = None
    for _, step in funnel.groupby("step", sort=False):
        kept = step[step["reason"] == "kept"].set_index("domain")["n"]
        if before is not None:
            assert step.groupby("domain")["n"].sum().to_dict() == before.to_dict()
        before = kept
    texts = [d.text for d in corpus_pipeline.documents(tmp_path / "out")]
    assert len(texts) == before["pages"] + 2 * before["books"]  # two epochs of the book
    assert sum(PARAGRAPH in text for text in texts) == 1
    (masked,) = [text for text in texts if "Write to" in text]
    assert "[e-mail] or [IP address]" in masked and "example.org" not in masked
    assert not (tmp_path / "out" / "work").exists()


@pytest.mark.parametrize(("tasks", "workers"), [(1, 1), (3, 2)])
def test_tasks_and_workers_do_not_move_a_byte(components, pipeline, tmp_path, tasks, workers):
    run(tmp_path / "two", components, pipeline)
    run(tmp_path / "other", components, pipeline, tasks=tasks, workers=workers)
    assert files(tmp_path / "two") == files(tmp_path / "other")


@pytest.mark.parametrize("killed_in", ["Fingerprints", "Copies", "Decontamination"])
def test_a_killed_run_goes_on_to_the_same_bytes(components, pipeline, tmp_path, monkeypatch, killed_in):
    run(tmp_path / "whole", components, pipeline)
    block = getattr(corpus_blocks if killed_in == "Decontamination" else corpus_copies, killed_in)
    going = block.run

    def dying(self, data, rank=0, world_size=1):
        for i, doc in enumerate(going(self, data, rank, world_size)):
            if rank == 1 and i == 2:
                raise KeyboardInterrupt
            yield doc

    monkeypatch.setattr(block, "run", dying)
    with monkeypatch.context() as small:
        small.setattr(corpus_blocks, "BLOCK", 10)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed", components, pipeline)
        assert not (tmp_path / "killed" / "funnel.csv").exists()
        monkeypatch.setattr(block, "run", going)
        run(tmp_path / "killed", components, pipeline)
    assert files(tmp_path / "whole") == files(tmp_path / "killed")


def test_a_finished_run_is_not_done_again(components, pipeline, tmp_path, monkeypatch):
    first = run(tmp_path / "out", components, pipeline)
    monkeypatch.setattr(corpus_pipeline, "stages", None)
    assert run(tmp_path / "out", components, pipeline).equals(first)


def test_documents_that_went_missing_are_named(components, pipeline, tmp_path):
    work = tmp_path / "work"
    for stage in corpus_pipeline.stages(work, components, pipeline, {}, "profanity-check", 7)[:2]:
        corpus_pipeline.LocalPipelineExecutor(
            stage.blocks, tasks=stage.tasks, workers=1, logging_dir=str(stage.logs)
        ).run()
    next((work / "dropped" / "language").glob("*.jsonl")).unlink()
    with pytest.raises(RuntimeError, match="filtered holds .* were kept: remove"):
        corpus_pipeline.funnel(work, pipeline)


def test_the_median_not_the_mean_of_word_lengths_counts(pipeline):
    quality = corpus_blocks.Quality(pipeline.quality.model_dump(), Words())
    quality.web = ("web",)
    plain = prose(1)
    assert quality.filter(document(plain)) is True
    assert quality.filter(document(f"{plain} {'w' * 2000}")) is True  # the mean is above 10
    assert quality.filter(document("to be of the and " * 40)) == (False, "median_word_length")
    assert quality.filter(document("to be of the and " * 40, "book")) is True


WORD = st.sampled_from("a bb ccc the cat sat on mat".split())


@given(st.lists(WORD, min_size=1, max_size=60))
def test_verdicts_on_repetition_are_datatroves(words):
    rules = load("cpu").corpus.pipeline.repetition.model_dump()
    tokenizer, doc = Words(), document(" ".join(words))
    assert corpus_blocks._Repetition(rules, tokenizer).filter(doc) == GopherRepetitionFilter(language=tokenizer).filter(
        doc
    )


def test_a_toxic_sentence_goes_and_the_rest_stays():
    block = corpus_blocks.Toxicity(0.4, "profanity-check")
    mixed, foul = document("The sky is blue today. You fucking idiot. It may rain."), document("You fucking idiot.")
    assert block.filter_batch([mixed, foul]) == [True, (False, "every sentence toxic")]
    assert mixed.text == "The sky is blue today. It may rain."


def test_an_address_is_masked_and_a_private_one_stays():
    block, doc = corpus_blocks.Personal(5), document("a.b@example.org, 8.8.8.8 and 192.168.0.1, v1.2.3")
    assert block.filter(doc) is True
    assert doc.text == "[e-mail], [IP address] and 192.168.0.1, v1.2.3"
    assert block.filter(document(" ".join(["a@b.org"] * 6))) == (False, "over 5 addresses")
    assert block.filter(document(" ".join(["a@b.org"] * 5))) is True


def test_what_is_dropped_is_kept_without_its_text(tmp_path):
    with corpus_blocks.Dropped(tmp_path, "why") as sink:
        sink.write(document("a secret"), 3)
    (line,) = (tmp_path / "00003.jsonl").read_text().splitlines()
    assert json.loads(line) == {"id": "1", "component": "web", "domain": "d", "reason": "why"}
