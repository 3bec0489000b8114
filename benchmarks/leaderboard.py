"""Leaderboard tasks: our model backend `hf-shared-prefix` against lm-eval's own `hf`, same model, documents and
threads.

ours and peer: processor seconds (one thread: on a quiet machine also the clock's, which stands beside them) of the
log-likelihood calls of ARC-25, HellaSwag-10, MMLU-5 and TruthfulQA-0, the harness's own tokenising included. `hf` runs
each task at the batch size that is fastest on a part of it; sizes are doubled until one is a tenth slower than the best
or two in a row are no faster. Neither that search is in its time, nor in ours the backend's test of the model at first
use (first_request_s); both sides are warm when a task begins. --quick takes batch size 1, its best on CPUs so far.

limit of a task: tokens that `hf` forwards (counted at the model's door: padding in, choices of one token merged) over
the tokens of the prefix tree of its requests. "together" is all tasks in one call for ours, and for `hf` the sum of its
tasks, each at its own best batch size; grouped_tokens are those of the groups of `likelihoods`. Both take the softmax
in float32 and put no BOS token in front, as `leaderboard.evaluate` does under v1.
"""

from __future__ import annotations

import time

import measure
import pandas as pd
import torch

from s2utils.evaluation.leaderboard import evaluate, protocols, resume, shared_prefix
from s2utils.models import loading
from s2utils.workflow.params import Params, load

TASKS = tuple(evaluate.TASKS)
BATCHES, PASSES = (1, 2, 4, 8, 16), 4  # sizes tried for hf, each on as many forward passes or one batch
OTHER_CHUNKS = ((1, 128), (8, 512), (32, 2048))  # (batch_size, tokens) that must give the same scores


def settings(documents: int, subjects: int) -> Params:
    """The cpu profile with as many documents a task (MMLU: a subject)."""
    limit = dict.fromkeys(TASKS, documents)
    return load("cpu", {"leaderboard": {"limit": limit, "mmlu_subjects": subjects}})


class Bench:
    """One backend, its requests counted and timed."""

    def __init__(self, side: str, dtype: str, documents: int, subjects: int, threads: int, quick: bool):
        from lm_eval.models.huggingface import HFLM

        torch.set_num_threads(threads)
        self.params = settings(documents, subjects)
        kind = shared_prefix.SharedPrefixLM if side == "ours" else HFLM
        self.lm = kind(
            pretrained=loading.full(self.params.model.base, dtype), tokenizer=loading.tokenizer(self.params.model.base),
            add_bos_token=False, softmax_dtype="float32", batch_size=1,
        )  # fmt: skip
        self.side, self.quick, self.tokens = side, quick, 0
        self.lm.model.register_forward_pre_hook(self.count, with_kwargs=True)

    def count(self, _, args, kwargs):
        """Add up what goes into the model."""
        self.tokens += (args[0] if args else kwargs["input_ids"]).numel()

    def timed(self, requests: list) -> dict:
        """Answers to requests, with seconds and forwarded tokens."""
        self.tokens, started, cpu = 0, time.perf_counter(), time.process_time()
        answers = type(self.lm).loglikelihood(self.lm, requests, disable_tqdm=True)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        return {"answers": answers, "seconds": seconds, "cpu_seconds": cpu, "tokens": self.tokens}

    def evaluate(self, tasks: tuple[str, ...]) -> dict:
        """Tasks through the harness: `timed` of its one call, scores of every document, `hf` at its best batch size."""
        import lm_eval

        found: dict = {}

        def loglikelihood(requests: list) -> list:
            if self.side == "hf":
                found["part"] = {"batch": 1, "spread": 0.0} if self.quick else self.best_batch(requests)
            else:
                found["first"] = self.timed(requests[:1])["cpu_seconds"]
            found.update(self.timed(requests), requests=requests)
            return found["answers"]

        self.lm.loglikelihood = loglikelihood
        loaded, places = protocols.load(self.params.leaderboard, self.params.seed)
        chosen = {name: task for name, task in loaded["tasks"].items() if places[name][0] in tasks}
        results = lm_eval.evaluate(self.lm, {"tasks": chosen, "groups": {}}, bootstrap_iters=0)
        keys = [(r.task_name, r.doc_id, r.idx) for r in found["requests"]]
        found["answers"] = dict(zip(keys, found["answers"]))
        found["scores"] = {
            (name, sample["doc_id"]): {m: float(sample[m]) for m in sample["metrics"]}
            for name, samples in results["samples"].items()
            for sample in samples
        }
        return found

    def best_batch(self, requests: list) -> dict:
        """Set the batch size that is fastest by the character on documents from the middle of all lengths."""
        documents: dict = {}
        for request in requests:
            documents.setdefault((request.task_name, request.doc_id), []).append(request)
        ordered = sorted(documents.values(), key=lambda of_one: len(of_one[0].args[0]))
        merged = all(len(self.lm.tok_encode(r.args[1])) == 1 for r in requests)  # choices of one token are one pass
        passes = 1 if merged else min(map(len, ordered))
        tried, values = {}, {}
        for size in BATCHES:
            count = -(-max(size, PASSES) // passes)
            middle = max(0, (len(ordered) - count) // 2)
            part = [request for document in ordered[middle : middle + count] for request in document]
            self.lm.batch_size_per_gpu = size
            if not tried:
                self.timed(part[:1])  # warm
            done = self.timed(part)
            tried[size] = done["cpu_seconds"] / sum(len(r.args[0]) for r in part)
            for request, answer in zip(part, done["answers"]):
                values.setdefault((request.task_name, request.doc_id, request.idx), []).append(answer[0])
            if tried[size] > 1.1 * min(tried.values()) or min(tried, key=tried.get) < size / 2:
                break
        best = self.lm.batch_size_per_gpu = min(tried, key=tried.get)
        print("hf, time by batch size:", {size: round(t / tried[best], 2) for size, t in tried.items()}, flush=True)
        return {"batch": best, "spread": max(max(v) - min(v) for v in values.values())}

    def tree(self, requests: list) -> int:
        """Tokens of the requests' prefix tree."""
        pairs = [self.lm._encode_pair(*request.args) for request in requests]
        return len(
            shared_prefix.grow([(a + b)[-self.lm.max_length - 1 : -1] for a, b in pairs], [1] * len(pairs)).tokens
        )

    def grouped(self, requests: list) -> int:
        """Tokens of the prefix trees of the groups in which a leaderboard asks, so that it can be resumed."""
        return sum(self.tree(requests[first:last]) for first, last in resume.groups(requests))

    def moved(self, requests: list, answers: dict, documents: int) -> float:
        """Largest change (nat) of a log-likelihood of each task's first documents under other batches and chunks."""
        first = [r for r in requests if r.doc_id < documents]
        largest, kept = 0.0, self.lm.tokens
        for size, tokens in OTHER_CHUNKS[: 1 if self.quick else None]:
            self.lm.batch_size_per_gpu, self.lm.tokens = size, tokens
            for request, answer in zip(first, self.timed(first)["answers"]):
                largest = max(largest, abs(answer[0] - answers[request.task_name, request.doc_id, request.idx][0]))
        self.lm.batch_size_per_gpu, self.lm.tokens = 1, kept
        return largest


def run(bench: Bench) -> dict:
    """Every task for itself; for ours also together, and again under other batches and chunks."""
    found = {}
    for task in TASKS:
        found[task] = bench.evaluate((task,))
        print(bench.side, task, {k: round(found[task][k], 2) for k in ("cpu_seconds", "seconds", "tokens")}, flush=True)
    if bench.side == "ours":
        found["together"] = bench.evaluate(TASKS)
        for facts in found.values():
            facts["tree"], facts["grouped"] = bench.tree(facts["requests"]), bench.grouped(facts["requests"])
        few = 1 if bench.quick else 2
        found["together"]["moved"] = bench.moved(found["together"]["requests"], found["together"]["answers"], few)
        found["together"]["fallback"] = bench.lm.fallback
    for facts in found.values():
        facts["requests"] = len(facts["requests"])
    return found


def rows(dtype: str, ours: dict, hf: dict) -> list[dict]:
    """One row a task and one for all together."""
    hf["together"] = {k: sum(hf[t][k] for t in TASKS) for k in ("seconds", "cpu_seconds", "tokens")} | {
        k: {key: value for t in TASKS for key, value in hf[t][k].items()} for k in ("answers", "scores")
    }
    made = []
    for task in (*TASKS, "together"):
        a, b = ours[task], hf[task]
        limit, ratio = b["tokens"] / a["tree"], b["cpu_seconds"] / a["cpu_seconds"]
        apart = [max(abs(a["scores"][d][m] - v) for m, v in scores.items()) for d, scores in b["scores"].items()]
        differing = sum(difference > 1e-3 for difference in apart)  # mc2 is no count, so its scores move a little
        made.append({
            "dtype": dtype, "task": task, "documents": len(apart), "requests": a["requests"],
            "hf_batch": b["part"]["batch"] if "part" in b else "", "hf_tokens": b["tokens"], "tree_tokens": a["tree"],
            "grouped_tokens": a["grouped"], "our_tokens": a["tokens"], "limit": round(limit, 2),
            "ours_s": round(a["cpu_seconds"], 1),
            "hf_s": round(b["cpu_seconds"], 1), "ratio": round(ratio, 2), "share_of_limit": round(ratio / limit, 3),
            "clock_ratio": round(b["seconds"] / a["seconds"], 2),
            "largest_difference": max(abs(a["answers"][k][0] - v[0]) for k, v in b["answers"].items()),
            "greedy_differs": sum(a["answers"][k][1] != v[1] for k, v in b["answers"].items()),
            "scores_differ": differing, "largest_score_difference": max(apart),
        })  # fmt: skip
    return made


def main():
    parser = measure.arguments(__doc__)
    parser.add_argument("--documents", type=int, help="of each task, and of each MMLU subject: 40, quick 1")
    parser.add_argument("--subjects", type=int, help="of MMLU: 5, quick 2")
    parser.add_argument("--dtypes", nargs="+", help="float32 bfloat16, quick float32")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    documents, subjects = chosen.documents or (1 if chosen.quick else 40), chosen.subjects or (2 if chosen.quick else 5)
    table, more = [], {}
    for dtype in chosen.dtypes or (["float32"] if chosen.quick else ["float32", "bfloat16"]):
        sides = {}
        for side in ("ours", "hf"):
            sides[side] = measure.alone(run, Bench, side, dtype, documents, subjects, chosen.threads, chosen.quick)
        ours, hf = sides["ours"]["value"], sides["hf"]["value"]
        table += rows(dtype, ours, hf)
        more[dtype] = {
            "moved_by_batch_or_chunk": ours["together"]["moved"],
            "hf_moved_by_batch": max(hf[t]["part"]["spread"] for t in TASKS),
            "apart_or_together": max(
                abs(ours["together"]["answers"][k][0] - v[0]) for t in TASKS for k, v in ours[t]["answers"].items()
            ),
            "first_request_s": max(facts["first"] for facts in ours.values()),
            "fallback": ours["together"]["fallback"],
            "peak_mb": {side: facts["peak_mb"] for side, facts in sides.items()},
        }
        print(pd.DataFrame(table).to_string(index=False), more[dtype], sep="\n", flush=True)
    found = [
        measure.row(
            f"{r['task']}, {r['dtype']}, against hf", ours=r["ours_s"], peer=r["hf_s"], ratio=r["ratio"],
            limit=r["limit"],
            unit="processor s", n=r["documents"],
            **{k: v for k, v in r.items() if k not in ("ours_s", "hf_s", "ratio", "limit", "share_of_limit")},
        )
        for r in table
    ]  # fmt: skip
    measure.write("leaderboard", found, chosen.quick, dtypes=more, threads=chosen.threads)


if __name__ == "__main__":
    main()
