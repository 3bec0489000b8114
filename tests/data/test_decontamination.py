import json
from pathlib import Path

import datasets
import lm_eval
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from source_files import changed

from s2utils.data import decontamination
from s2utils.data.decontamination import hits, index
from s2utils.workflow import params

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
SHORT = "a short question of exactly ten words, no more: it"
SETS = {"arc": ["red green blue", LONG], "mmlu": [SHORT, f"zero {LONG}"]}


def test_a_shared_run_is_found_whatever_its_case_and_punctuation():
    text = "Well: " + LONG.upper().replace(" ", ", ") + "!"
    found = hits(["nothing of the kind", text], index(SETS, 13), 13)
    run = " ".join(LONG.split()[:13])
    assert found.to_dict("records") == [{"position": 1, "set": "arc", "document": 1, "run": run}]


def test_one_word_fewer_is_no_hit():
    words = LONG.split()
    known = index(SETS, 13)
    assert len(hits([" ".join(words[:12])], known, 13)) == 0
    assert len(hits([" ".join([*words[:12], "other", *words[13:]])], known, 13)) == 0
    assert len(hits([" ".join(words[2:])], known, 13)) == 1


def test_each_document_counts_once_a_text_and_a_shared_run_for_its_first_document():
    found = hits([f"{LONG} and zero {LONG}", f"zero {LONG} and {SHORT}"], index(SETS, 13), 13)
    assert list(zip(found["position"], found["set"], found["document"])) == [
        (0, "arc", 1), (0, "mmlu", 1), (1, "mmlu", 1), (1, "arc", 1), (1, "mmlu", 0),
    ]  # fmt: skip


def test_a_short_document_counts_whole_and_a_very_short_one_not_at_all():
    known = index(SETS, 13)
    found = hits([f"so {SHORT} is", SHORT, " ".join(SHORT.split()[:9]), "red green blue"], known, 13)
    assert found["position"].tolist() == [0, 1] and set(found["document"]) == {0} and set(found["set"]) == {"mmlu"}
    assert found["run"].iat[0] == "a short question of exactly ten words no more it"
    assert len(hits(["red green blue"], index(SETS, 3), 3)) == 1


def test_nothing_to_compare_gives_an_empty_frame():
    for found in (hits([], index(SETS, 13), 13), hits([LONG, ""], {}, 13), hits([""], index(SETS, 13), 13)):
        assert found.empty and list(found.columns) == ["position", "set", "document", "run"]
    with pytest.raises(ValueError, match="n must be above 0"):
        index(SETS, 0)


@given(
    st.lists(st.lists(st.sampled_from("abc"), max_size=12).map(" ".join), max_size=4),
    st.lists(st.lists(st.sampled_from("abc"), max_size=14).map(" ".join), max_size=4),
    st.integers(2, 10),
)
def test_a_text_is_found_exactly_if_it_holds_a_run_of_a_document(documents, texts, n):
    def shares(text: str, document: str) -> bool:
        bare = document.split()
        if len(bare) < n:
            return len(bare) >= decontamination.SHORTEST and f" {document} " in f" {text} "
        return any(f" {' '.join(bare[i : i + n])} " in f" {text} " for i in range(len(bare) - n + 1))

    found = hits(texts, index({"s": documents}, n), n)
    assert set(found["position"]) == {i for i, t in enumerate(texts) if any(shares(t, d) for d in documents)}
    for row in found.itertuples():
        assert shares(texts[row.position], documents[row.document])
        assert f" {row.run} " in f" {texts[row.position]} " and f" {row.run} " in f" {documents[row.document]} "


@pytest.fixture(scope="module")
def embedded_sets():
    return decontamination.evaluation_sets(params.load("cpu"))


@pytest.mark.slow
def test_embedded_sets_are_taken_whole(embedded_sets):
    questions = len((params.root() / "params" / "mts_bench.jsonl").read_text(encoding="utf-8").splitlines())
    assert {name: len(documents) for name, documents in embedded_sets.items()} == {
        "arc": 299, "hellaswag": 10042, "mmlu": 14042, "truthfulqa": 299, "mtbench": questions,
    }  # fmt: skip
    assert "Record the details of the investigation." in embedded_sets["arc"][0]
    assert not any("[header]" in document for document in embedded_sets["hellaswag"])


@pytest.mark.slow
def test_every_set_finds_its_own_documents(embedded_sets):
    asked = [(name, text) for name, documents in embedded_sets.items() for text in documents[:40]]
    asked = [(name, text) for name, text in asked if len(decontamination.words(text)) >= decontamination.SHORTEST]
    found = hits([text for _, text in asked], index(embedded_sets, 13), 13)
    own = found[found["set"] == [asked[position][0] for position in found["position"]]]
    assert set(own["position"]) == set(range(len(asked)))


def test_hub_sets_are_those_of_the_harness(monkeypatch, tree):
    rows = {
        "allenai/ai2_arc": {"question": "q1", "choices": {"text": ["a", "b"], "label": ["A", "B"]}},
        "Rowan/hellaswag": {"ctx": "[header] c1", "endings": ["[step] e1", "e2"]},
        "cais/mmlu": {"question": "m1", "choices": ["x", "y"]},
        "truthfulqa/truthful_qa": {"question": "t1", "mc2_targets": {"choices": ["v", "w"], "labels": [1, 0]}},
    }
    asked = []

    def load(path, config, split):
        asked.append((path, config, split))
        return [rows[path]]

    monkeypatch.setattr(datasets, "load_dataset", load)
    profile = params.load("a100-7b")
    row = {"question_id": 1, "category": "x", "turns": ["First?", "Second?"]}
    (tree / "params" / "own.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    profile = changed(profile, mtbench=changed(profile.mtbench, questions="params/own.jsonl"))
    found = decontamination.evaluation_sets(profile)
    assert {name: " ".join(texts[0].split()) for name, texts in found.items()} == {
        "arc": "q1 a b", "hellaswag": "c1 e1 e2", "mmlu": "m1 x y", "truthfulqa": "t1 v w", "mtbench": "First? Second?",
    }  # fmt: skip
    assert asked == list(decontamination.HUB.values())


@pytest.mark.parametrize("name", decontamination.HUB)
def test_paths_are_written_as_in_the_harness(name):
    file = {
        "arc": "arc/arc_easy.yaml", "hellaswag": "hellaswag/hellaswag.yaml",
        "mmlu": "mmlu/default/_default_template_yaml", "truthfulqa": "truthfulqa/truthfulqa_mc1.yaml",
    }[name]  # fmt: skip
    lines = (Path(lm_eval.__file__).parent / "tasks" / file).read_text(encoding="utf-8").splitlines()
    facts = yaml.safe_load("\n".join(x for x in lines if x.startswith(("dataset_path", "test_split", "valid"))))
    path, _, split = decontamination.HUB[name]
    assert facts["dataset_path"] == path and split in (facts.get("test_split"), facts.get("validation_split"))
