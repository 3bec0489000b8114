"""Open LLM Leaderboard v1 through lm-evaluation-harness: ARC 25, HellaSwag 10, MMLU 5, TruthfulQA 0 shots.

Metrics as on the leaderboard: acc_norm for ARC and HellaSwag, acc for MMLU, mc2 for TruthfulQA. Documents, shots, BOS
and the weighting of MMLU are those of `leaderboard.protocol` (`protocols`); any backend of the harness can answer,
`hf-shared-prefix` does unless another is named. Trap: in bf16 a log-likelihood of −114 has steps of 0.5, so the
softmax is taken in float32. Source: the harness's tasks; Open LLM Leaderboard v1 (2023).
"""

from __future__ import annotations

import importlib.metadata
import inspect
import json
from pathlib import Path

import numpy as np
import pandas as pd

from s2utils.evaluation.leaderboard import protocols, resume
from s2utils.evaluation.leaderboard.protocols import TASKS
from s2utils.evaluation.parameters import HF_BACKENDS
from s2utils.models.parameters import Weights
from s2utils.stats import intervals, stratified
from s2utils.workflow import artefacts
from s2utils.workflow.params import ParameterError, Params

COLUMNS = {"arc": "arc_acc_norm", "hellaswag": "hellaswag_acc_norm", "mmlu": "mmlu_acc", "truthfulqa": "truthfulqa_mc2"}
METRIC = {"arc": "acc_norm", "hellaswag": "acc_norm", "mmlu": "acc", "truthfulqa": "acc"}  # the harness calls mc2 acc
METRICS = METRIC | {"mmlu": "acc, over subjects", "truthfulqa": "mc2"}  # as readers know them


def backend(weights: Weights, name: str, params: Params):
    """The model `name` as an lm-eval model of `leaderboard.backend`; raises ParameterError where that cannot be.

    hf backends are given the model itself. Others load it: {path}, {revision} and {name} in `leaderboard.backend_args`
    stand for where its weights lie, their revision and the model's id in this study (as a server names it).
    """
    from lm_eval.api.registry import get_model
    from lm_eval.utils import simple_parse_args_string

    from s2utils.evaluation.leaderboard import shared_prefix
    from s2utils.models import loading

    settings, v1 = params.leaderboard, params.leaderboard.protocol == "v1"
    kind = shared_prefix.SharedPrefixLM if settings.backend == HF_BACKENDS[0] else get_model(settings.backend)
    if settings.backend in HF_BACKENDS:
        given = {"softmax_dtype": "float32"} | simple_parse_args_string(settings.backend_args)
        model = loading.full(weights, params.model.dtype, params.runtime.device)
        given |= {"pretrained": model, "tokenizer": loading.tokenizer(weights)}
    else:
        path, options = loading.located(weights)
        text = settings.backend_args.replace("{path}", path).replace("{name}", name)
        given = simple_parse_args_string(text.replace("{revision}", options.get("revision", "main")))
    if v1 and not any("add_bos_token" in inspect.signature(k.__init__).parameters for k in kind.__mro__):
        raise ParameterError(
            f"leaderboard.protocol v1 puts no BOS token in front, and the backend '{settings.backend}' cannot be told "
            f"so: use leaderboard.protocol=harness, or the backend {HF_BACKENDS[0]}"
        )
    return kind(**({"add_bos_token": False} if v1 else {}) | {"batch_size": settings.batch_size} | given)


def evaluate(lm, params: Params, folder: Path, name: str) -> pd.DataFrame:
    """`documents` of the model `name`, which `lm` answers for; a killed run goes on after its last group of documents.

    Writes a file a task with every document's score, and results.json, a whole run in the harness's own format.
    """
    import lm_eval

    kept = folder / "answers.jsonl"
    if not (folder / "results.json").is_file():
        tasks, places = protocols.load(params.leaderboard, params.seed)
        # one resample: means have a formula
        results = lm_eval.evaluate(resume.Kept(lm, kept), tasks, bootstrap_iters=1, log_samples=True)
        samples = results.pop("samples")
        for task in TASKS:
            with artefacts.replacing(folder / f"{task}.jsonl") as file:
                for key, (of_task, numbers, _) in places.items():
                    for sample in samples[key] if of_task == task else ():
                        file.write(json.dumps(_row(sample, task, key, numbers)) + "\n")
        artefacts.write_json(folder / "results.json", _results(results, samples, places, params, name))
    kept.unlink(missing_ok=True)  # what it held is in the files of the tasks
    return documents(folder)


def documents(folder: Path) -> pd.DataFrame:
    """One row per scored document: task, subject, doc_id, value, prompt, log_likelihoods, greedy.

    `doc_id` is its number in the split, `prompt` a hash of all that stands before the continuations.
    """
    rows = [row for task in TASKS for row in artefacts.read_jsonl(folder / f"{task}.jsonl")]
    return pd.DataFrame(rows)


def other(params: Params) -> Params:
    """The same study under the protocol it does not follow, and fewer documents: `leaderboard.compared`."""
    settings, compared = params.leaderboard, params.leaderboard.compared

    def fewer(limit: int, most: int) -> int:  # 0 is all
        return min(limit or most, most or limit)

    changed = settings.model_copy(
        update={
            "protocol": {"v1": "harness", "harness": "v1"}[settings.protocol],
            "limit": {task: fewer(compared.limit[task], most) for task, most in settings.limit.items()},
            "mmlu_subjects": fewer(compared.mmlu_subjects, settings.mmlu_subjects),
        }
    )
    return params.model_copy(update={"leaderboard": changed})


def summary(scores: pd.DataFrame, params: Params) -> dict:
    """One model's row: n, then each task (%) and their average with intervals and standard errors."""
    row, estimates, errors = {"n": len(scores)}, [], []
    confidence, by_size = params.text_metrics.confidence, params.leaderboard.protocol == "harness"
    for task, column in COLUMNS.items():
        parts = stratified.parts(scores[scores["task"] == task].set_index("subject")["value"])
        n = sum(map(len, parts))
        if task == "truthfulqa":
            estimate = intervals.mean(np.concatenate(parts), params)
        else:
            shares = [intervals.share(int(values.sum()), len(values), confidence) for values in parts]
            estimate = intervals.average(shares, stratified.weights(parts, by_size))
        error = 100 * stratified.standard_error(parts, by_size)
        estimates.append(tuple(100 * e for e in estimate))
        errors.append(error)
        row |= {f"{column}_n": n} | _cells(column, estimates[-1], error)
    error = float(np.sqrt(np.square(errors).sum()) / len(errors))
    return row | _cells("average", intervals.average(estimates), error)


def _cells(column: str, estimate: tuple[float, float, float], error: float) -> dict:
    names = (column, f"{column}_ci_low", f"{column}_ci_high", f"{column}_stderr", f"{column}_n_failed")
    return dict(zip(names, (*estimate, error, 0)))


def _row(sample: dict, task: str, key: str, numbers: list[int]) -> dict:
    """One scored document, from lm-eval's record of it."""
    answers = [answer[0] for answer in sample["resps"]]
    return {
        "task": task,
        "subject": key,
        "doc_id": numbers[sample["doc_id"]],
        "value": float(sample[METRIC[task]]),
        "prompt": sample["prompt_hash"],
        "log_likelihoods": [value for value, _ in answers],
        "greedy": [greedy for _, greedy in answers],
    }


def _results(results: dict, samples: dict, places: dict, params: Params, name: str) -> dict:
    """What `lm_eval --output_path` writes of a run, without its time and machine."""
    import lm_eval
    from lm_eval.utils import handle_non_serializable, hash_string

    settings = params.leaderboard
    for key, (_, numbers, n) in places.items():
        results["n-samples"][key] = {"original": n, "effective": len(numbers)}
        results["configs"][key].get("metadata", {}).pop("config_source", None)  # a path of this machine
    hashes = {k: "".join(s["doc_hash"] + s["prompt_hash"] + s["target_hash"] for s in samples[k]) for k in places}
    results["config"] = {
        "model": settings.backend,
        "model_args": settings.backend_args,
        "batch_size": settings.batch_size,
        "dtype": params.model.dtype,
        "device": params.runtime.device,
        "limit": settings.limit,
        "protocol": settings.protocol,
        "source": settings.source,
        "fewshot_seed": protocols.DRAW if settings.protocol == "harness" else protocols.SHUFFLE,
    }
    results |= {"model_source": settings.backend, "model_name": name}
    results |= {"task_hashes": {key: hash_string(text) for key, text in hashes.items()}}
    results |= {f"{p}_version": importlib.metadata.version(p) for p in ("lm_eval", "transformers")}

    def plain(value: object) -> object:  # functions by name, not by address
        return f"{value.__module__}.{value.__qualname__}" if callable(value) else handle_non_serializable(value)

    text = json.dumps(results, default=plain)
    return json.loads(text.replace(json.dumps(str(Path(lm_eval.__file__).parent))[1:-1], "lm_eval"))
