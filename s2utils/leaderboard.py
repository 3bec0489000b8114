"""Open LLM Leaderboard v1 through lm-evaluation-harness: ARC 25, HellaSwag 10, MMLU 5, TruthfulQA 0 shots.

Metrics as on the leaderboard: acc_norm for ARC and HellaSwag, acc for MMLU (unweighted mean of its
subjects), mc2 for TruthfulQA; no BOS token. `shared_prefix` stands between the harness and the model.
From the hub the harness takes its own data. Embedded data holds no training split, so a seeded sample is
scored and shots come from the other documents: never from a scored one. Trap: in bf16 a log-likelihood of
−114 has steps of 0.5, so the softmax is taken in float32. Source: the harness's tasks; Open LLM
Leaderboard v1 (2023).
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import datasets
import pandas as pd

from s2utils import artefacts, embedded, intervals
from s2utils.params import Leaderboard, Params

TASKS = {"arc": "arc_challenge", "hellaswag": "hellaswag", "mmlu": "mmlu", "truthfulqa": "truthfulqa_mc2"}
COLUMNS = {"arc": "arc_acc_norm", "hellaswag": "hellaswag_acc_norm", "mmlu": "mmlu_acc", "truthfulqa": "truthfulqa_mc2"}
METRIC = {"arc": "acc_norm", "hellaswag": "acc_norm", "mmlu": "acc", "truthfulqa": "acc"}  # the harness calls mc2 acc
METRICS = {
    "arc": "acc_norm",
    "hellaswag": "acc_norm",
    "mmlu": "acc, mean of subjects",
    "truthfulqa": "mc2",
}  # as readers know them
OWN_SPLITS = {"arc": ("train", "test"), "hellaswag": ("train", "validation")}  # shots, scored


def task_configs(settings: Leaderboard, task: str, seed: int, folder: Path) -> list[dict]:
    """lm-eval task configurations of one leaderboard task; embedded samples are written to `folder`."""
    shots = settings.shots[task]
    if settings.source == "hub":
        return [
            {"task": name, "num_fewshot": shots}
            for name in (_hub_subjects(settings, seed) if task == "mmlu" else [TASKS[task]])
        ]
    limit = settings.limit[task]
    if task == "mmlu":
        root = embedded.resolve("mmlu")
        return [
            _local(
                f"mmlu_{s}",
                shots,
                folder,
                {"dev": _arrow(root / s / "dev"), "test": _sample(_arrow(root / s / "test"), limit, f"{seed}/{s}")[0]},
            )
            for s in _chosen(sorted(p.name for p in root.iterdir() if p.is_dir()), settings, seed)
        ]
    if task == "truthfulqa":
        scored, _ = _sample(truthfulqa(), limit, f"{seed}/{task}")
        return [_local(TASKS[task], shots, folder, {"validation": scored})]
    scored, others = _sample(datasets.Dataset.from_file(str(embedded.resolve(task))), limit, f"{seed}/{task}")
    config = _local(TASKS[task], shots, folder, dict(zip(OWN_SPLITS[task], (others, scored))))
    return [config | ({"validation_split": None} if task == "arc" else {})]


def truthfulqa() -> datasets.Dataset:
    """The embedded TruthfulQA questions in the harness's mc2 form, true answers first."""
    examples = json.loads(embedded.resolve("truthfulqa").read_text(encoding="utf-8"))["examples"]
    return datasets.Dataset.from_list(
        [
            {
                "question": e["Question"],
                "mc2_targets": {
                    "choices": e["True answers"] + e["False answers"],
                    "labels": [1] * len(e["True answers"]) + [0] * len(e["False answers"]),
                },
            }
            for e in examples
        ]
    )


def evaluate(model, tok, params: Params, folder: Path) -> pd.DataFrame:
    """One row per scored document: task, subject, doc_id, value. Finished tasks are not run again."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    from s2utils.shared_prefix import SharedPrefixLM

    settings = params.leaderboard
    lm = SharedPrefixLM(
        pretrained=model, tokenizer=tok, batch_size=settings.batch_size, add_bos_token=False, softmax_dtype="float32"
    )
    manager = TaskManager()
    frames = []
    for task in TASKS:
        kept = folder / f"{task}.jsonl"
        if not kept.is_file():
            configs = task_configs(settings, task, params.seed, folder / "documents")
            results = lm_eval.simple_evaluate(
                model=lm, tasks=[{"group": task, "task": configs}], task_manager=manager, bootstrap_iters=0, log_samples=True,
                limit=settings.limit[task] or None if settings.source == "hub" else None,
                random_seed=params.seed, numpy_random_seed=params.seed, torch_random_seed=params.seed,
                fewshot_random_seed=params.seed,
            )  # fmt: skip
            with artefacts.replacing(kept) as file:
                for name, samples in results["samples"].items():
                    for sample in samples:
                        row = {
                            "task": task, "subject": name.split("::")[-1], "doc_id": sample["doc_id"], "value": float(sample[METRIC[task]]),
                            "log_likelihoods": [r[0][0] if isinstance(r[0], (list, tuple)) else r[0] for r in sample["resps"]],
                        }  # fmt: skip
                        file.write(json.dumps(row) + "\n")
        frames.append(pd.DataFrame(artefacts.read_jsonl(kept)))
    return pd.concat(frames, ignore_index=True)


def summary(scores: pd.DataFrame, params: Params) -> dict:
    """One model's row: n, then each task (%) and their average with intervals."""
    row, estimates = {"n": len(scores)}, []
    confidence, resamples = params.text_metrics.confidence, params.text_metrics.resamples
    for task, column in COLUMNS.items():
        values = scores.loc[scores["task"] == task]
        row[f"{column}_n"] = len(values)
        if task == "truthfulqa":
            estimate = intervals.bootstrap(values["value"], resamples, confidence, params.seed)
        elif task == "mmlu":
            subjects = [
                intervals.share(int(v.sum()), len(v), confidence) for _, v in values.groupby("subject")["value"]
            ]
            estimate = intervals.average(subjects)
        else:
            estimate = intervals.share(int(values["value"].sum()), len(values), confidence)
        row |= dict(zip((column, f"{column}_ci_low", f"{column}_ci_high"), (100 * e for e in estimate))) | {
            f"{column}_n_failed": 0
        }
        estimates.append(tuple(100 * e for e in estimate))
    mean, low, high = intervals.average(estimates)
    return row | {"average": mean, "average_ci_low": low, "average_ci_high": high, "average_n_failed": 0}


def _chosen(names: list[str], settings: Leaderboard, seed: int) -> list[str]:
    """All subjects, or a seeded sample of them."""
    count = settings.mmlu_subjects or len(names)
    return sorted(random.Random(seed).sample(names, min(count, len(names))))


def _hub_subjects(settings: Leaderboard, seed: int) -> list[str]:
    """MMLU's task names, read from the harness's own files: loading its group would fetch all 57 sets."""
    import lm_eval

    files = (Path(lm_eval.__file__).parent / "tasks" / "mmlu" / "default").glob("mmlu_*.yaml")
    return _chosen(sorted(p.stem for p in files), settings, seed)


def _arrow(folder: Path) -> datasets.Dataset:
    return datasets.Dataset.from_file(str(next(folder.glob("*.arrow"))))


def _sample(data: datasets.Dataset, limit: int, seed: str) -> tuple[datasets.Dataset, datasets.Dataset]:
    """(seeded sample of `limit` documents, all others); 0 takes all."""
    order = random.Random(seed).sample(range(len(data)), len(data))
    cut = limit or len(data)
    return data.select(order[:cut]), data.select(order[cut:])


def _local(task: str, shots: int, folder: Path, parts: dict[str, datasets.Dataset]) -> dict:
    """A registered task with our documents instead of the hub's."""
    files = {}
    for split, data in parts.items():
        files[split] = str(folder / f"{task}.{split}.parquet")
        folder.mkdir(parents=True, exist_ok=True)
        data.to_parquet(files[split])
    return {
        "task": task,
        "num_fewshot": shots,
        "dataset_path": "parquet",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files},
    }
