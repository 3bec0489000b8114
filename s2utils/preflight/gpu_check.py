"""Does it work on this GPU? What must be the same there as on a processor, and then the smoke study on it.

    python -m s2utils gpu-check [--weights <folder>]        what `make gpu-check` runs: one call, no network

Weights are those of `--weights`, else the embedded model where the cache holds it, else a small random Llama made here;
the study needs the embedded archives in the cache (S2_CACHE) and is left out without them. Packages of the machine do
where the lock's are not there; what differs is named. A check that cannot be made here is left out, with the reason.
Ends with 0 where all that was checked holds, 1 where something does not, 2 where there is no GPU. Memory is MB of the
whole device, sampled twice a second. Trap: sums on a GPU may come in another order each time, so what is equal to the
bit on a processor is held to a tolerance here, and how far it is off is said.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import pandas as pd
import torch
from safetensors.torch import load_file

from s2utils.models.parameters import Weights
from s2utils.preflight import gpu_fit, host
from s2utils.preflight.finding import Check, Finding, Row, examined, held
from s2utils.workflow import artefacts, graph, packaged, paths, timings
from s2utils.workflow.params import ParameterError, Params, load, parse_set

WORDS = ("rain", "the cat", "the sun", "light", "a dog", "a cloud", "the mat", "water")
APART = 1e-2  # of what training changed: how far a resumed training, or one with FlashAttention, may be from the first
FEW = {  # of 03, so few steps that a check takes seconds
    "train_sets": ["sciq"], "max_steps": 4, "evaluations": 2, "eval_rows": 4, "learning_rate": 1.0e-3, "samples": 0,
    "country": "", "early_stopping_patience": 0,
}  # fmt: skip
STUDY = "runtime.device=cuda model.dtype=bfloat16 sft.train_sets=[sciq]"  # one train set: every step, ten minutes
COPIED = ("Snakefile", "pyproject.toml", "notebooks", "params", "s2utils", "reports/published")

HOLDS = {"pass": True, "fail": False, "warn": None}  # state of a check → whether it holds; None: it is left out
MARKS = {"pass": "holds", "fail": "DOES NOT HOLD", "warn": "left out"}


def rows(n: int) -> list[dict]:
    """Questions and answers of 5 to 40 words."""
    asked = (f"Why is {WORDS[i % 8]} near {WORDS[(3 * i + 1) % 8]}?" for i in range(n))
    return [{"question": q, "answer": f"It was {WORDS[i % 7]}. " * (1 + i % 9)} for i, q in enumerate(asked)]


def small(folder: Path) -> Path:
    """A random Llama of 12 million weights with a tokenizer of its own, saved."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace()
    named = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    texts = [f"### Human: {r['question']}\n ### Assistant: {r['answer']}" for r in rows(64)]
    trainer = trainers.BpeTrainer(vocab_size=512, special_tokens=list(named.values()), show_progress=False)
    bpe.train_from_iterator(texts, trainer)
    tok = PreTrainedTokenizerFast(tokenizer_object=bpe, **named)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tok), hidden_size=512, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=1024, bos_token_id=1, eos_token_id=2, pad_token_id=3,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


def weights(given: str, folder: Path) -> tuple[Weights, str]:
    """What is checked on, and where it is from."""
    if given:
        return Weights(path=given, revision=""), given
    held = paths.cache() / "models" / "smollm2-135m-instruct"
    if (held / "manifest.json").is_file():
        return Weights(path=str(held), revision=""), "SmolLM2-135M-Instruct, from the cache"
    return Weights(path=str(small(folder / "small")), revision=""), "a random Llama of 12 million weights, made here"


def profile(base: Weights, device: str, **changes) -> Params:
    """The smoke profile on `base`, with `changes` of its fine-tuning."""
    where = {"path": base.path, "revision": ""}
    model = {"base": where, "chat": where, "dtype": "bfloat16"}
    return load("smoke", {"runtime": {"device": device}, "model": model, "sft": FEW | changes})


def data(folder: Path) -> Path:
    """Rows as 02 leaves them."""
    from s2utils.data import splits

    folder.mkdir(exist_ok=True)
    frame = pd.DataFrame([r | {"dataset": "sciq", "id": f"{i:03d}"} for i, r in enumerate(rows(40))])
    frame = frame.reindex(columns=splits.COLUMNS).assign(split=["train"] * 32 + ["validation"] * 8)
    splits.write(frame, folder)
    return folder


def apart(one: dict, other: dict) -> float:
    """How far two adapters are apart, as a share of what the first learnt (its B begin at 0)."""
    learnt = {name: weight.double() for name, weight in one.items() if "lora_B" in name}
    off = sum((weight - other[name].double()).norm() ** 2 for name, weight in learnt.items())
    return float((off / sum(weight.norm() ** 2 for weight in learnt.values())) ** 0.5)


def learnt(result: dict) -> str:
    """How fast a training learnt; a Finding where it did not."""
    before, after = result["eval_loss_before"], result["eval_loss_after"]
    said = f"validation loss {before:.3f} → {after:.3f}, {result['tokens_per_second']:.0f} tokens/s"
    return held(after < before, said)


def training(base: Weights, device: str, folder: Path) -> str:
    """4-bit training learns, and a killed one goes on to the same adapter."""
    from s2utils.training import callbacks, sft

    save = callbacks.Recorder.on_save

    def kill(*given, **named):
        save(*given, **named)
        raise InterruptedError

    params, where, whole, cut = profile(base, device), data(folder / "data"), folder / "whole", folder / "cut"
    for to in (whole, cut):
        to.mkdir()
    result = sft.run(params, where, "sciq", whole)
    with contextlib.suppress(InterruptedError), mock.patch.object(callbacks.Recorder, "on_save", kill):
        sft.run(params, where, "sciq", cut)
    held(list(cut.glob("checkpoint-*")), "no checkpoint was left by the training that was killed")
    sft.run(params, where, "sciq", cut)
    off = apart(*(load_file(adapter / "adapter_model.safetensors") for adapter in (whole, cut)))
    resumed = "resumed to the same bits" if off == 0 else f"resumed {off:.1e} of what was learnt apart"
    return held(off < APART, f"{learnt(result)}, {result['peak_gpu_mb']:,} MB; {resumed}")


def merges(base: Weights, device: str, folder: Path) -> str:
    """Both merges are those of the processor."""
    from s2utils.training import merging

    told, holds = [], True
    for mode in merging.MODES:
        made = []
        for where in (device, "cpu"):
            to = Path(tempfile.mkdtemp(dir=folder, prefix=f"{mode}-{where}-"))
            merging.write(base, folder / "whole", mode, to, where)
            made.append(load_file(to / "model.safetensors"))
            shutil.rmtree(to)
        ours, theirs = made
        other = sum(int((ours[n] != theirs[n]).sum()) for n in theirs)
        most = max(float((ours[n].float() - theirs[n].float()).abs().max()) for n in theirs)
        size = max(float(w.float().abs().max()) for w in theirs.values())
        holds &= set(ours) == set(theirs) and most <= size / 128  # a step of bf16 at the largest weight
        told.append(f"{mode}: {f'{other:,} weights differ, by {most:.1e} at most' if other else 'equal to the bit'}")
    return held(holds, "; ".join(told))


def generated(base: Weights, device: str, folder: Path) -> str:
    """In float32 a batch answers greedily as each question alone does, and as the processor does; speed in bf16."""
    from s2utils.models import generation, loading

    tok = loading.tokenizer(base)
    params = profile(base, device)
    asked = loading.encoded([loading.prompt([r["question"]], "base", tok, params.model) for r in rows(16)], tok, "base")

    def answers(where: str, size: int, dtype: str = "float32", times: int = 1, new: int = 24) -> tuple[list, float]:
        network, started = loading.full(base, dtype, where), time.perf_counter()
        given = {"seed": "s", "batch_size": size, "max_new_tokens": new, "label": None}
        rows = [row for batch in generation.completions(network, tok, asked * times, **given) for row in batch]
        return [row["text"] for row in rows], sum(row["n_tokens"] for row in rows) / (time.perf_counter() - started)

    together = answers(device, 16)[0]
    same = {"alone": together == answers(device, 1)[0], "on the processor": together == answers("cpu", 16)[0]}
    speed = answers(device, 64, "bfloat16", times=4, new=64)[1]
    told = ", ".join(f"{'as' if ok else 'NOT as'} {where}" for where, ok in same.items())
    return held(same["alone"], f"greedy, float32: {told}; bf16, 64 at a time: {speed:,.0f} tokens/s")


def likelihoods(base: Weights, device: str, folder: Path) -> str:
    """Shared-prefix log-likelihoods are those of lm-eval's `hf`, within 1e-3 nat in float32."""
    from lm_eval.models.huggingface import HFLM

    from s2utils.evaluation.leaderboard import shared_prefix
    from s2utils.models import loading

    tok, network = loading.tokenizer(base), loading.full(base, "float32", device)
    shots = "".join(f"Question: {r['question']}\nAnswer: {r['answer']}\n\n" for r in rows(6))
    texts = [(f"{shots}Question: {r['question']}\nAnswer:", f" {r['answer']}") for r in rows(12)]
    texts += [(context, f" {word}") for context, _ in texts for word in WORDS[:3]]
    values, seconds = [], []
    for kind in (shared_prefix.SharedPrefixLM, HFLM):
        lm = kind(pretrained=network, tokenizer=tok, add_bos_token=False, softmax_dtype="float32", batch_size=1)
        asked = [(pair, *lm._encode_pair(*pair)) for pair in texts]
        lm._loglikelihood_tokens(asked[:2], disable_tqdm=True)  # warm
        started = time.perf_counter()
        values.append([value for value, _ in lm._loglikelihood_tokens(asked, disable_tqdm=True)])
        seconds.append(time.perf_counter() - started)
        held(not getattr(lm, "fallback", ""), f"computed by hf itself: {getattr(lm, 'fallback', '')}")
    off = max(abs(a - b) for a, b in zip(*values))
    faster = f"{seconds[1] / seconds[0]:.1f} times as fast as hf"
    return held(off < 1e-3, f"{len(texts)} requests, {off:.1e} nat apart at most, {faster}")


def flash(base: Weights, device: str, folder: Path) -> str:
    """Rows are packed, and training on them learns."""
    import flash_attn  # noqa: F401 — left out where it is not installed

    from s2utils.training import sft

    params = profile(base, device, packing=True)
    (to := folder / "flash").mkdir()
    said = learnt(sft.run(params, folder / "data", "sciq", to))
    return held(sft.batching(params.sft, device)["packing"], f"packed, {said}")


CHECKS: dict[str, Callable[[Weights, str, Path], str]] = {
    "4-bit training, and a resume": training,
    "merges as on the processor": merges,
    "generation": generated,
    "shared prefixes as hf": likelihoods,
    "losses of documents": gpu_fit.documents,
    "models from nothing": gpu_fit.from_nothing,
    "heads that are shared": gpu_fit.shared_heads,
    "a mixture, upcycled": gpu_fit.upcycled,
    "FlashAttention": flash,
}


def outcome(function: Callable[..., str], *given) -> str:
    """What a check found; one that raises does not hold, one whose package is missing is left out."""
    try:
        return function(*given)
    except Finding:
        raise
    except ModuleNotFoundError as error:
        raise Finding(f"{error.name} is not installed", state="warn") from None
    except Exception as error:  # the others go on
        raise Finding(f"{type(error).__name__}: {error}") from None


def check(base: Weights, device: str, folder: Path) -> list[Check]:
    """Every check, said as it ends."""
    checks = []
    for name, function in CHECKS.items():
        started = time.perf_counter()
        made = examined(Row(name, partial(outcome, function, base, device, folder)))
        seconds = time.perf_counter() - started
        print(f"{MARKS[made.state]:<14}{name}: {made.found} ({seconds:.0f} s)", flush=True)
        checks.append(made)
    return checks


def watch(samples: list[tuple[float, float]], stop: threading.Event) -> None:
    """Add (time, used MB of the device) to `samples` until `stop` is set."""
    while not stop.wait(0.5):
        free, total = torch.cuda.mem_get_info()
        samples.append((time.time(), (total - free) / 2**20))


def missing() -> list[str]:
    """What the study needs and is not there: archives, programs."""
    lacking = [f"{name} in the cache" for name in packaged.ARCHIVES if not packaged.ready(name)]
    return lacking + [name for name in ("snakemake", "papermill", "lm_eval") if importlib.util.find_spec(name) is None]


def study(folder: Path) -> tuple[int, list[dict]]:
    """(status, one row a job: step, seconds, peak GPU memory in MB, tokens a second) of the smoke study on the GPU."""
    for name in COPIED:
        source, to = paths.root() / name, folder / name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, to) if source.is_dir() else shutil.copy(source, to)
    samples, stop = [], threading.Event()
    threading.Thread(target=watch, args=(samples, stop), daemon=True).start()
    own = graph.environment() | {"S2_ROOT": str(folder), "PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1"}
    status = subprocess.run(graph.command("smoke", parse_set(STUDY), []), cwd=folder, env=own).returncode
    stop.set()
    return status, table(folder / "artefacts" / "smoke", samples)


def table(made: Path, samples: list[tuple[float, float]]) -> list[dict]:
    """One row a job of a finished study; no memory where nobody looked."""
    jobs = []
    for file in sorted((made / "benchmarks").glob("*.tsv")):
        seconds, end = timings.seconds(file), file.stat().st_mtime
        most = max((used for at, used in samples if end - seconds <= at <= end), default=float("nan"))
        row = {"step": file.stem, "seconds": round(seconds, 1), "gpu_mb": most}
        jobs.append(row | {"tokens_per_second": rate(made, file.stem)})
    return jobs


def rate(made: Path, job: str) -> float | None:
    """Tokens a second of a training or of answers; None of other jobs."""
    notebook, _, name = job.partition(".")
    if notebook == "03_sft" and name:
        return (artefacts.read_json(made / "sft" / name / "result.json") or {}).get("tokens_per_second")
    if notebook == "04_generate" and (made / "answers" / name / "manifest.json").is_file():
        answers = artefacts.read_jsonl(made / "answers" / name / "answers.jsonl")
        seconds = artefacts.read_json(made / "answers" / name / "manifest.json")["seconds"]
        return round(sum(row["n_tokens"] for row in answers) / seconds, 1) if seconds else None
    return None


def run(given: str = "", with_study: bool = True) -> int:
    """Check with the weights in the folder `given`, run the study, print the table.

    The module says what it ends with.
    """
    if given and not (Path(given) / "config.json").is_file():
        raise ParameterError(f"--weights {given}: there is no folder of a decoder with its config.json")
    print(examined(Row("packages", partial(host.packages, most=None))).found)
    gpu = examined(Row("GPU", host.gpu))
    print(f"{gpu.what}: {gpu.found}")
    if gpu.state == "fail":
        print(f"nothing was checked: {gpu.remedy}")
        return 2
    status, jobs = 0, []
    with tempfile.TemporaryDirectory() as temporary:
        base, told = weights(given, Path(temporary))
        print(f"weights: {told}")
        checks = check(base, "cuda", Path(temporary))
        if lacking := missing():
            print(f"the smoke study is left out, for want of {', '.join(lacking)}:")
            print("make setup where there is a network, and copy its cache (S2_CACHE) and environment here")
        elif with_study:
            status, jobs = study(Path(temporary) / "repository")
    if jobs:
        print(f"\n{pd.DataFrame(jobs).to_string(index=False, na_rep='–', float_format='{:,.1f}'.format)}")
    found = {c.what: {"holds": HOLDS[c.state], "found": c.found} for c in checks}
    print(json.dumps({"checks": found, "study": jobs}, ensure_ascii=False))
    wrong = [c.what for c in checks if c.state == "fail"] + ["the smoke study"] * bool(status)
    print(f"does not hold: {', '.join(wrong)}" if wrong else "all that was checked holds")
    return int(bool(wrong))
