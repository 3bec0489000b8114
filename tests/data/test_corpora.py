import gzip
import json
import random
from collections import Counter

import pandas as pd
import pytest
import zstandard
from conftest import write_jsonl
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from s2utils.data import corpora, dm_mathematics, packaged_corpora
from s2utils.data.corpora import Document
from s2utils.data.parameters import TRAINABLE
from s2utils.data.streams import SourceError, Unreadable
from s2utils.workflow import packaged
from s2utils.workflow.errors import ParameterError
from s2utils.workflow.params import load


def read(component, seed: int = 0) -> tuple[list[Document], Counter]:
    """(documents of a component called x, what was left out)."""
    left_out = Counter()
    return list(corpora.documents("x", component, seed, left_out)), left_out


def test_a_folder_of_many_formats_is_read_in_order_with_the_place_as_id(root):
    write_jsonl(root / "texts" / "b.jsonl", {"text": "two", "domain": "law"}, {"id": "own", "text": "three"})
    (root / "texts" / "a").mkdir()
    (root / "texts" / "a" / "one.txt").write_bytes("\ufeffone\n".encode())
    (root / "texts" / "c.jsonl.gz").write_bytes(gzip.compress(b'{"text": "four"}\n'))
    (root / "texts" / "d.txt.zst").write_bytes(zstandard.compress(b"five"))
    (root / "texts" / "left.csv").write_text("text\nsix\n")
    documents, left_out = read(corpora.folder("texts"))
    assert [(d.id, d.domain, d.text.strip()) for d in documents] == [
        ("a/one.txt", "a", "one"),
        ("b.jsonl:1", "law", "two"),
        ("own", "texts", "three"),
        ("c.jsonl.gz:1", "texts", "four"),
        ("d.txt.zst", "texts", "five"),
    ]
    assert not left_out and {d.component for d in documents} == {"x"}


def test_what_cannot_be_used_is_counted_by_reason(root, monkeypatch):
    monkeypatch.setattr(corpora, "LONGEST", 100)
    lines = [
        b'{"text": "fine", "kind": "k"}', b'{"text": "\xff", "kind": "k"}', b'{"text": " \\n", "kind": "k"}',
        b'{"other": 1, "kind": "k"}', b'{"text": 5, "kind": "k"}', b'{"text": "no kind"}', b"{broken", b"[1]", b"",
        b'{"text": "' + b"x" * 300 + b'", "kind": "k"}', b'{"text": "after", "kind": "k"}',
    ]  # fmt: skip
    (root / "a.jsonl").write_bytes(b"\n".join(lines))
    documents, left_out = read(corpora.folder("a.jsonl", domain="{kind}"))
    assert [d.text for d in documents] == ["fine", "after"]
    assert left_out == {
        "not UTF-8": 1, "empty": 1, "no text": 2, "no domain": 1, "broken row": 2, "too long": 1,
    }  # fmt: skip
    assert len(documents) + left_out.total() == sum(map(bool, lines))


def test_a_text_of_100_mb_is_counted_and_not_kept(root):
    with open(root / "large.txt", "wb") as file:
        file.seek(100_000_000)
        file.write(b"x")
    (root / "small.txt").write_text("x")
    documents, left_out = read(corpora.folder("."))
    assert ([d.id for d in documents], left_out) == (["small.txt"], {"too long": 1})


@given(st.integers(0, 12), st.integers(1, 12), st.integers(0, 5))
def test_a_sample_is_seeded_in_order_and_counts_what_it_leaves_out(tmp_path_factory, n, k, seed):
    path = write_jsonl(tmp_path_factory.mktemp("c") / "a.jsonl", "{broken", *({"text": f"t{i}"} for i in range(n)))
    component = corpora.folder(path, max_documents=k)
    documents, left_out = read(component, seed)
    assert len(documents) == min(n, k)
    assert len(documents) + left_out.total() == n + 1
    assert documents == [d for d in read(corpora.folder(path), seed)[0] if d in documents]
    assert documents == read(component, seed)[0]


def test_other_seeds_draw_other_documents(root):
    write_jsonl(root / "a.jsonl", *({"text": f"t{i}"} for i in range(50)))
    drawn = {tuple(d.id for d in read(corpora.folder("a.jsonl", max_documents=5), seed)[0]) for seed in range(5)}
    assert len(drawn) == 5


def test_a_dotted_path_leads_to_text_and_domain(root):
    write_jsonl(root / "a.jsonl", {"raw": {"content": "t"}, "meta": {"pile_set_name": "ArXiv"}})
    (document,), _ = read(corpora.folder("a.jsonl", text="raw.content", domain="{meta.pile_set_name}"))
    assert (document.text, document.domain) == ("t", "ArXiv")


def test_half_a_surrogate_pair_does_not_reach_a_file(root):
    (root / "a.jsonl").write_text('{"text": "a\\ud800b"}\n')
    (document,), _ = read(corpora.folder("a.jsonl"))
    assert document.text.encode("utf-8") == b"a?b"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("there/is/none.jsonl", "there is no such file or folder"),
        ("./none", "there is no such file or folder"),
        ("empty", "no file in this folder is one of .jsonl"),
        ("table.csv", "cannot read '.csv' files"),
        ("blank.jsonl", "holds no documents"),
    ],
)
def test_a_source_that_cannot_be_read_is_named(root, path, message):
    (root / "empty").mkdir()
    (root / "table.csv").write_text("a\n")
    (root / "blank.jsonl").write_text("\n")
    with pytest.raises(SourceError, match=message):
        read(corpora.folder(path))


def test_an_unknown_packaged_corpus_lists_the_known():
    with pytest.raises(packaged.FetchError, match="nothing embedded is called 'wiki'; known"):
        read(corpora.folder("embedded:wiki", train=False))
    with pytest.raises(packaged.FetchError, match="'embedded:sciq' is no corpus; known: wikilead"):
        read(corpora.folder("embedded:sciq", train=False))


def test_a_test_set_cannot_be_marked_for_training():
    for key in packaged_corpora.RECIPES:
        if key not in TRAINABLE:
            with pytest.raises(ValidationError, match=f"must be false for embedded:{key}"):
                corpora.folder(f"embedded:{key}", train=True)


def test_what_must_not_be_trained_on_raises():
    components = {"own": corpora.folder("a"), "law": corpora.folder("embedded:multilexsum", train=False)}
    with pytest.raises(ParameterError, match="corpus.components: law must not be trained on"):
        corpora.trainable(components)
    assert corpora.trainable({"own": components["own"]})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 0.0}, "epochs"),
        ({"domain": ""}, "domain"),
        ({"domain": "{open"}, "a column in braces"),
        ({"consent": "yes"}, "consent"),
        ({"max_documents": -1}, "max_documents"),
    ],
)
def test_a_component_that_cannot_be_is_refused(changed, message):
    with pytest.raises(ValidationError, match=message):
        corpora.folder("a", **changed)


def test_what_the_user_must_bring_is_left_out_with_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("S2_CACHE", str(tmp_path))
    components = {"mail": corpora.folder("embedded:emails"), "own": corpora.folder("a")}
    assert list(corpora.at_hand(components)) == ["own"]
    assert "component mail is left out: " in capsys.readouterr().out


def test_every_component_of_the_profile_has_documents_of_its_own():
    """Ten domains or more, no text twice in one, nothing of what a set of questions puts around a text."""
    seen, components = set(), load("cpu").corpus.components
    for name, component in components.items():
        key = component.path.removeprefix("embedded:")
        if key in ("emails", "sotu", "dm-mathematics"):
            continue
        rows = [row for row in packaged_corpora.rows(key, 0, 0) if not isinstance(row, Unreadable)]
        assert len({row["id"] for row in rows}) == len(rows) >= 50, name
        texts = random.Random(0).sample(rows, 50)
        assert not [r for r in texts if "Which moral is" in r["text"] or " ----- " in r["text"]], name
        assert not [r for r in texts if "Context (1):" in r["text"] or "agent_A" in r["text"]], name
        seen.add(component.domain)
    assert len(seen) >= 10


def test_languages_of_wikipedia_are_blocks_in_their_order():
    rows = list(packaged_corpora.rows("wikipedia-9", 0, 0))
    assert Counter(row["language"] for row in rows) == dict.fromkeys(packaged_corpora.LANGUAGES, 1000)
    russian = [row["text"] for row in rows if row["language"] == "ru"]
    assert all(any("а" <= c <= "я" for c in text) for text in russian)


def test_mathematics_is_the_same_for_a_seed_and_grows_at_its_end():
    two, three = list(dm_mathematics.documents(2, 7)), list(dm_mathematics.documents(3, 7))
    assert two == three[:2] and len({row["text"] for row in three}) == 3
    assert two != list(dm_mathematics.documents(2, 8))
    for row in three:
        assert len(row["text"].split("\n\n")) == dm_mathematics.QUESTIONS
    linear = three[0]["text"].split("\n\n")[0]
    assert linear.startswith("Solve ") and int(linear.split("\n")[1])


def test_e_mails_lose_their_headers_and_say_what_they_lose(tmp_path):
    (tmp_path / "ham").mkdir()
    (tmp_path / "ham" / "1.txt").write_bytes(b"From: a@example.org\nSubject: s\n\nThe body.\n")
    (tmp_path / "ham" / "2.txt").write_bytes(b"Content-Type: text/html\n\n<p>x</p>\n")
    (tmp_path / "ham" / "3.txt").write_bytes(b"Content-Type: text/plain; charset=utf-8\n\n\xff\n")
    rows = list(packaged_corpora.RECIPES["emails"](tmp_path))
    assert rows[0] == {"id": "ham/1", "text": "The body.\n", "folder": "ham"}
    assert [row.reason for row in rows[1:]] == ["no plain text", "not in the encoding it names"]


def test_a_dialogue_is_kept_at_its_longest(tmp_path):
    first = {"input": 'agent_A: "Hi"', "target": '"Hello"', "comment": "t"}
    longer = {"input": 'agent_B: "Hi" agent_A: "Hello"', "target": '"Bye "', "comment": "t"}
    (tmp_path / "task.json").write_text(json.dumps({"examples": [first, longer]}))
    (row,) = packaged_corpora.RECIPES["topical-chat"](tmp_path / "task.json")
    assert row == {"id": "t", "text": "B: Hi\nA: Hello\nB: Bye"}


TRAINED = {"own": corpora.folder("a"), "more": corpora.folder("b"), "law": corpora.folder("c", train=False)}


def parts(folder, documents: list[Document], share: float = 0.3, seed: int = 1) -> dict[str, pd.DataFrame]:
    corpora.split(folder, TRAINED, iter(documents), share, seed)
    return {name: pd.read_parquet(folder / f"{name}.parquet") for name in ("held_out", "train")}


def made_up(n: int, component: str = "own") -> list[Document]:
    return [Document(f"{i}", "web", component, f"{component} {i}") for i in range(n)]


def test_of_a_split_nothing_is_in_both_parts_and_nothing_is_lost(tmp_path):
    documents = made_up(200) + made_up(100, "more") + made_up(30, "law")
    found = parts(tmp_path, documents * 2)  # seen twice: epochs
    pairs = {name: list(zip(part["component"], part["id"])) for name, part in found.items()}
    assert not set(pairs["held_out"]) & set(pairs["train"])
    assert sorted(pairs["held_out"] + pairs["train"]) == sorted((d.component, d.id) for d in documents)
    order = [(d.component, d.id) for d in documents]
    assert all(part == [pair for pair in order if pair in set(part)] for part in pairs.values())
    assert list(found["train"]) == ["component", "domain", "id", "text"]


def test_what_must_not_be_trained_on_is_held_out_whole_and_a_share_of_the_rest(tmp_path):
    found = parts(tmp_path, made_up(2000) + made_up(50, "law"), 0.1)
    held = found["held_out"]["component"].value_counts()
    assert held["law"] == 50 and "law" not in set(found["train"]["component"])
    assert held["own"] / 2000 == pytest.approx(0.1, abs=0.03)
    assert parts(tmp_path, made_up(50) + made_up(5, "law"), 0.0)["held_out"]["component"].tolist() == ["law"] * 5


def test_a_split_is_seeded_and_does_not_move_with_what_else_is_there(tmp_path):
    found = {seed: parts(tmp_path, made_up(100), seed=seed)["held_out"]["id"].tolist() for seed in (1, 2)}
    again = parts(tmp_path, made_up(50, "more") + made_up(100))["held_out"]
    assert again.loc[again["component"] == "own", "id"].tolist() == found[1] != found[2]


@given(st.lists(st.tuples(st.sampled_from(list(TRAINED)), st.integers(0, 9)), max_size=40, unique=True))
def test_a_text_that_is_held_out_is_not_in_train_and_kept_is_accounted_for(tmp_path_factory, rows):
    documents = [Document(f"{i}", "web", name, f"text {number}") for i, (name, number) in enumerate(rows)]
    found = parts(tmp_path_factory.mktemp("split"), documents)
    unseen = set(found["held_out"]["text"])
    copies = {d.id for d in documents} - set(found["held_out"]["id"]) - set(found["train"]["id"])
    assert not unseen & set(found["train"]["text"])
    assert all(d.text in unseen and d.component != "law" for d in documents if d.id in copies)
    assert len(documents) == len(found["held_out"]) + len(found["train"]) + len(copies)
