"""What a run will take: hours, memory and disk of every step, from shapes and a measured machine.

Nothing is loaded. Every estimate carries its formula with the numbers put in (docs/preflight.md explains them).
Times are seconds, sizes bytes. Rates are measured (`machine.measure`); what they cannot know is in `machine.SHARES`
and the assumptions below. The shares of the CPU were set once on a recorded run of the cpu profile (LOG.md), so
there an estimate lies within 30 %; those of the GPU are from published figures, and no GPU has tested them.
Trap: tokens are characters / 4, as in `llm`; a text of numbers or another script has more.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from s2utils.data import question_writer
from s2utils.evaluation.judge import judge_prompts, mtbench, reliability
from s2utils.preflight.machine import ADAM, NF4, Costs, Machine, Shape, activations, training_weights
from s2utils.training.merge_fidelity import MOST
from s2utils.workflow import steps
from s2utils.workflow.params import Endpoint, ParameterError, Params

CHARS = 4  # characters a token
ENCODER = 86e6  # weights of a RoBERTa-base without its embeddings
LATENCY, WRITING = 1.0, 0.02  # seconds until a server begins, and a token it writes
START = {  # seconds at loop speed REFERENCE.loop of a job's start and end, its tables and figures included (recorded)
    "eda": 9, "filtered_one": 2, "data": 22, "sft_one": 16, "sft": 11, "merged_one": 6, "answers_one": 8, "divergence_one": 14,
    "answers": 11, "membership": 3, "text_metrics": 30, "leaderboard_one": 10, "protocols": 11, "leaderboard": 8, "mtbench_one": 10,
    "judged": 4, "mtbench": 8, "report": 29,
}  # fmt: skip
LEARNT = 130  # tokens of a training row
BRIEF = {"single": 10, "rubric": 60, "pair": 6}  # tokens of a judge's reply without reasons
PASSAGES = 48  # controls in params/mts_bench.jsonl that references are paired with
LAYERS = 60  # bytes a weight, made and compared under all merges
PROCESS = {"cpu": 1.3e9, "cuda": 0.7e9}  # bytes before any weight: Python with torch, trl, Jupyter · the CUDA context
ROW = {
    "clean": 38e-6,
    "eda": 2e-3,
    "resample": 0.3e-6,
}  # seconds on REFERENCE: a text cleaned, described, a value drawn
# tokens of a shot, and of a document with all its continuations, each forwarded once (counted on the embedded copies)
SHOT = {"arc": (36, 54), "hellaswag": (80, 134), "mmlu": (94, 71), "truthfulqa": (0, 95)}
HEADER = {"truthfulqa": 200}  # tokens that all documents begin with
ROWS = 128  # logits whose softmax is taken at once: shared_prefix.ROWS, whose import takes seconds
SIZE = {"arc": 1172, "hellaswag": 10042, "mmlu": 14042 // 57, "truthfulqa": 817}  # documents (MMLU: a subject)


@dataclass(frozen=True)
class Texts:
    """What is known of a source: rows, those left for fine-tuning, mean characters of their answers and questions."""

    rows: int
    kept: int
    answer: int
    question: int
    known: bool = True


TEXTS = {  # counted here (embedded), or by the study (its lengths are guesses from samples)
    "embedded:sciq": Texts(1000, 350, 393, 76),
    "embedded:wikilead": Texts(10_033, 1350, 394, 45),
    "vblagoje/lfqa": Texts(669_139, 41_568, 550, 80),
    "wikimedia/wikipedia": Texts(205_328, 75_242, 700, 45),
}
UNKNOWN = Texts(100_000, 20_000, 500, 80, known=False)


@dataclass
class Estimate:
    """One notebook: `seconds` of all its jobs one after another, peak bytes of the largest job, bytes it leaves on disk."""

    step: str
    rules: dict[str, int]  # rule of the graph → its jobs
    memory: float = 0.0
    disk: float = 0.0
    dollars: float = 0.0
    asked: list[tuple[str, Endpoint, float]] = field(default_factory=list)  # (who, endpoint, dollars of one job)
    parts: list[tuple[str, float, str]] = field(default_factory=list)  # (rule, seconds of all its jobs, formula)
    sizes: list[str] = field(default_factory=list)  # formulas of memory and disk
    host: float = 0.0  # bytes beside the GPU; without one all memory is the host's

    @property
    def seconds(self) -> float:
        """Sum of the parts."""
        return sum(seconds for _, seconds, _ in self.parts)

    @property
    def jobs(self) -> int:
        """All jobs."""
        return sum(self.rules.values())

    @property
    def each(self) -> dict[str, tuple[int, float]]:
        """Rule → (jobs, seconds of one of them); they are taken to be alike."""
        spent = {rule: sum(s for r, s, _ in self.parts if r == rule) for rule in self.rules}
        return {rule: (n, spent[rule] / n) for rule, n in self.rules.items() if n}

    def takes(self, rule: str, seconds: float, formula: str) -> None:
        """Add what all jobs of a rule take for one thing."""
        self.parts.append((rule, seconds, formula))


def texts(params: Params) -> dict[str, Texts]:
    """What is known of each source, cut to what the parameters read and keep."""
    found = {}
    for name, source in params.data.sources.items():
        t, data = TEXTS.get(source.path, UNKNOWN), params.data
        rows = min(t.rows, source.max_records or t.rows)
        kept = t.kept * rows // t.rows
        if data.train_max:  # a fifth more than needed is kept, as 02_datasets does
            kept = min(kept, (data.train_max + data.validation[name] + data.test[name]) * 6 // 5)
        found[name] = Texts(rows, kept, t.answer, t.question, t.known)
    return found


def estimate(params: Params, model: Shape, machine: Machine) -> list[Estimate]:
    """One estimate a notebook, in the order of the study."""
    c, known = Costs(params, model, machine), texts(params)
    made = [
        _eda(c, known),
        _data(c, known),
        _sft(c, known),
        _answers(c),
        _text_metrics(c),
        _leaderboard(c),
        _mtbench(c),
    ]
    for e in made:
        for rule, n in e.rules.items():
            seconds = START[rule] * c.host
            e.takes(rule, n * seconds, f"{n} jobs {rule} × {seconds:.0f} s to start and end")
        e.memory += PROCESS[machine.device]
        e.sizes.insert(0, f"process {PROCESS[machine.device] / 1e9:.1f}")
        e.host = e.memory if machine.device == "cpu" else 2 * PROCESS["cpu"] + model.total * c.width * (e.jobs > 1)
    return made


def _eda(c: Costs, known: dict[str, Texts]) -> Estimate:
    e, sample = Estimate("01_eda", {"eda": 1}, disk=5e6), c.params.eda.sample
    rows = sum(min(t.rows, sample or t.rows) for t in known.values())
    e.takes("eda", rows * ROW["eda"] * c.host, f"{rows:,} texts described × {1e3 * ROW['eda'] * c.host:.1f} ms")
    return e


def _data(c: Costs, known: dict[str, Texts]) -> Estimate:
    p, writer = c.params, c.params.questions.writer
    cleaning = {"filtered_one": p.data.shards} if p.data.shards > 1 else {}
    e = Estimate(
        "02_datasets",
        cleaning | {"data": 1},
        disk=sum(t.rows * (t.answer + t.question) * 1.5 for t in known.values()),
    )
    rows, guessed = sum(t.rows for t in known.values()), [name for name, t in known.items() if not t.known]
    note = f"; of {', '.join(guessed)} only guessed: 100,000, of them 20,000 kept" if guessed else ""
    e.takes(
        next(iter(e.rules)),
        rows * ROW["clean"] * c.host,
        f"{rows:,} texts cleaned × {1e6 * ROW['clean'] * c.host:.0f} µs{note}",
    )
    if p.s2.toxicity_model != "profanity-check":
        tokens = sum(t.kept * t.answer for t in known.values()) / CHARS
        took = tokens * 2 * ENCODER / (c.machine.f32 * c.share("float32"))
        e.takes("data", took, f"toxicity: {tokens:,.0f} tokens × 2 × {ENCODER / 1e6:.0f} M FLOP in float32")
    for name, source in p.data.sources.items():
        if source.kind == "articles":
            n = 1.3 * known[name].kept  # three in ten are asked twice (recorded)
            chat = question_writer.chat(question_writer.FIRST, "x" * min(known[name].answer, question_writer.CUT))
            _ask(c, e, "data", "question writer", writer, n, [chat], 1)
    e.sizes.append("disk: kept and rejected texts")
    return e


def _sft(c: Costs, known: dict[str, Texts]) -> Estimate:
    p, m, s = c.params, c.model, c.params.sft
    e = Estimate("03_sft", {"sft_one": len(s.train_sets), "sft": 1})
    sizes, lengths, held = {}, {}, {}
    template = len(p.model.prompt.replace("{question}", "")) + 1
    for name, t in known.items():
        left = max(1, t.kept * 5 // 6 if p.data.train_max else t.kept) - p.data.validation[name] - p.data.test[name]
        sizes[name] = max(1, min(left, p.data.train_max or left))
        lengths[name] = min(s.max_length, (t.question + t.answer + template) / CHARS)
        held[name] = min(p.data.validation[name], t.kept)
    lora = m.widths * s.r
    work = 2 + 2 + 2 * s.gradient_checkpointing  # forward, backward through frozen weights, and once more forward
    for train_set in s.train_sets:
        parts = list(known) if p.dataset_of(train_set) == p.data.union else [train_set]
        rows = sum(sizes[n] for n in parts)
        length = sum(sizes[n] * lengths[n] for n in parts) / rows
        updates = s.max_steps or max(1, round(s.epochs * rows / (s.batch_size * s.accumulation)))
        seen = updates * s.batch_size * s.accumulation
        tokens, batches = seen * length, seen / s.batch_size
        flop = tokens * (work * m.active + 6 * lora + work * m.layers * m.hidden * length)
        e.takes(
            "sft_one",
            flop / c.rate,
            f"{train_set}: {tokens:,.0f} tokens × ({work} N + 6 LoRA + attention) FLOP ÷ {c.rate / 1e9:,.0f} GFLOP/s",
        )
        again = (work / 2) * batches * m.linear * 2 / c.machine.fresh
        e.takes(
            "sft_one", again, f"{train_set}: {batches:,.0f} batches × {work / 2:.0f} × NF4 weights unpacked to bf16"
        )
        e.takes(
            "sft_one", tokens * m.vocab * 20 / c.machine.fresh, f"{train_set}: tokens × {m.vocab:,} logits × 20 bytes"
        )
        evaluations = 1 + updates // max(1, updates // max(1, s.evaluations))
        asked = sum(held[n] for n in parts)
        asked = evaluations * min(s.eval_rows or asked, asked)
        took = c.forward(asked * length, length, logits=True) + asked / s.batch_size * m.linear * 2 / c.machine.fresh
        e.takes("sft_one", took + c.load(), f"{train_set}: {asked:,} rows evaluated × 2 N, and loading")
    state = ADAM.get(s.optimizer, 8.0)
    weights, trained = training_weights(m), lora * (8 + state)
    seen = activations(m, s.batch_size, s.max_length, s.gradient_checkpointing, s.dropout > 0)
    logits = s.batch_size * s.max_length * m.vocab * 14
    e.memory = weights + trained + seen + logits
    e.disk = len(s.train_sets) * lora * 4 + 3 * lora * (4 + state)
    e.sizes += [
        f"NF4 linear {NF4:.3f} × {m.linear / 1e9:.2f} + others 2 × {m.other / 1e9:.2f}: {weights / 1e9:.2f}",
        f"LoRA {lora / 1e6:.1f} M × (4 weight + 4 gradient + {state:.0f} {s.optimizer}): {trained / 1e9:.2f}",
        f"activations {s.batch_size} × {s.max_length} tokens{', checkpointed' if s.gradient_checkpointing else ''}: {seen / 1e9:.2f}",
        f"logits {s.batch_size} × {s.max_length} × {m.vocab:,} × 14 bytes: {logits / 1e9:.2f}",
        f"disk: adapters float32 × {len(s.train_sets)}, 3 checkpoints",
    ]
    return e


def _answers(c: Costs) -> Estimate:
    p, m, g = c.params, c.model, c.params.generate
    rows = steps.models(p)
    compared = len(p.sft.train_sets)
    merged = [row for row in rows if row.merge_mode in ("bf16", "dequantized")]
    made = {"merged_one": compared, "answers_one": len(rows), "divergence_one": compared, "answers": 1}
    e, n, prompt = Estimate("04_generate", made), g.n * len(p.datasets), 30
    took = c.answer(n, g.batch_size, prompt, g.max_new_tokens, g.top_p < 1) + c.load()
    e.takes(
        "answers_one",
        len(rows) * took,
        f"{len(rows)} models × {n} answers × {g.max_new_tokens} tokens, {g.batch_size} at a time: 2 N a token, weights read a step",
    )
    e.takes(
        "merged_one",
        len(merged) * (m.linear * 24 / c.machine.fresh + 3 * c.load()),
        f"{len(merged)} merges: 24 bytes a weight, read, written and hashed",
    )
    read = (len(p.merge.modes) + 4) * compared  # all merges and what they are held against
    held, length = min(p.sft.eval_rows or MOST, MOST), min(LEARNT, p.sft.max_length)
    e.takes(
        "divergence_one",
        read * (c.load() + c.forward(held * length, length, logits=True))
        + compared * m.linear * LAYERS / c.machine.fresh,
        f"{read} models read {held} answers for their distance, and every weight is compared",
    )
    weights, cache = m.total * c.width, c.kv(g.batch_size * (prompt + g.max_new_tokens))
    logits = g.batch_size * m.vocab * 24
    e.memory, e.disk = weights + cache + logits, len(merged) * m.total * 2
    e.sizes += [
        f"weights {c.width} × {m.total / 1e9:.2f}: {weights / 1e9:.2f}",
        f"KV cache {g.batch_size} × {prompt + g.max_new_tokens} × {m.layers} layers × {m.kv} × 2 × {c.width} bytes: {cache / 1e9:.2f}",
        f"disk: {len(merged)} merged models × 2 × {m.total / 1e9:.2f}",
    ]
    return e


def _text_metrics(c: Costs) -> Estimate:
    p = c.params
    models, e = len(steps.models(p)), Estimate("05_text_metrics", {"membership": 1, "text_metrics": 1}, disk=5e6)
    values = p.text_metrics.resamples * models * len(p.datasets) * 9 * p.generate.n
    e.takes(
        "text_metrics",
        values * ROW["resample"] * c.host,
        f"{p.text_metrics.resamples:,} resamples × {models} models × {len(p.datasets)} sets × 9 metrics × {p.generate.n}",
    )
    m = p.membership
    read = len(p.data.sources) * (2 * min(m.n, PASSAGES) * (1 + m.shuffles) * 60 + 2 * m.n * 15)
    e.takes("membership", c.load() + c.forward(read, 60, logits=True), f"membership: base read, {read:,} tokens")
    e.memory = c.model.total * c.width + m.batch_size * 120 * c.model.vocab * c.width
    e.sizes += [f"weights {c.model.total / 1e9:.2f} × {c.width}: {c.model.total * c.width / 1e9:.2f}"]
    return e


def _leaderboard(c: Costs) -> Estimate:
    p, m, s = c.params, c.model, c.params.leaderboard
    rows = steps.collected("leaderboard", p)
    e = Estimate("06_leaderboard", {"leaderboard_one": len(rows), "protocols": 1, "leaderboard": 1}, disk=2e7)
    tokens, longest = _tree(s.limit, s.mmlu_subjects, s.shots)
    took = c.load() + c.forward(tokens, longest) / c.share("tree")
    e.takes(
        "leaderboard_one",
        len(rows) * took,
        f"{len(rows)} models × {tokens:,.0f} tokens of the prefix tree: 2 N a token, under a mask",
    )
    fewer, _ = _tree(s.compared.limit, s.compared.mmlu_subjects, s.shots)
    fewer = min(fewer, tokens)
    took = c.load() + c.forward(fewer, longest) / c.share("tree")
    e.takes("protocols", took, f"the base model under the other protocol × {fewer:,.0f} tokens")
    cache, logits = c.kv(longest), ROWS * m.vocab * (c.width + 8)
    e.memory = m.total * c.width + cache + logits
    e.sizes += [
        f"weights: {m.total * c.width / 1e9:.2f}",
        f"KV cache of {longest:,.0f} tokens: {cache / 1e9:.2f}",
        f"logits {ROWS} × {m.vocab:,} × {c.width + 8} bytes: {logits / 1e9:.2f}",
    ]
    return e


def _tree(limit: dict[str, int], mmlu_subjects: int, shots: dict[str, int]) -> tuple[float, float]:
    """(tokens of the requests' prefix tree, tokens of the longest request)."""
    tokens, longest = 0.0, 0.0
    for task, (shot, document) in SHOT.items():
        subjects = (mmlu_subjects or 57) if task == "mmlu" else 1
        documents = subjects * min(limit[task] or SIZE[task], SIZE[task])
        heads = subjects if task == "mmlu" else documents  # MMLU's shots are a subject's, others are a document's own
        tokens += documents * document + heads * shots[task] * shot + HEADER.get(task, 0)
        longest = max(longest, shots[task] * shot + document + HEADER.get(task, 0))
    return tokens, longest


def _mtbench(c: Costs) -> Estimate:
    p, m, s = c.params, c.model, c.params.mtbench
    rows, batch = steps.models(p), p.generate.batch_size
    e, asked = Estimate("07_mtbench", {"mtbench_one": len(rows), "judged": 1, "mtbench": 1}, disk=1e7), []
    with contextlib.suppress(ParameterError):  # a missing file is for the checks to tell
        asked = mtbench.questions(s, p.seed)
    n, new = len(asked), s.max_new_tokens
    second = 2 * 20 + new  # the first turn, its answer, the second turn
    took = sum(c.answer(n, batch, prompt, new, p.generate.top_p < 1) for prompt in (20, second)) + c.load()
    e.takes("mtbench_one", len(rows) * took, f"{len(rows)} models × 2 turns × {n} answers × {new} tokens")
    if s.judge.backend != "file":
        _judged(c, e, asked, len(rows))
    cache = c.kv(batch * (second + new))
    e.memory = m.total * c.width + cache
    e.sizes += [
        f"weights: {m.total * c.width / 1e9:.2f}",
        f"KV cache {batch} × {second + new:,} tokens: {cache / 1e9:.2f}",
    ]
    return e


def _judged(c: Costs, e: Estimate, asked: list[dict], models: int) -> None:
    """Add what the judge is asked: MT(S)-bench a model, and in one job the validation set, pairs and the panel."""
    p, s = c.params, c.params.mtbench
    text, human = "x" * (s.max_new_tokens * CHARS), "x" * (LEARNT * CHARS)
    empty = {"turns": [human[:100]] * 2, "category": ""}
    turns = [judge_prompts.turn_chat(q, [text] * 2, t, {}, s.reasons, s.guided) for q in asked for t in (1, 2)]
    reply = "x" * (p.generate.max_new_tokens * CHARS)
    rubric = judge_prompts.rubric_chat(human[:100], reply, human if s.guided else "", s.reasons)
    pair = judge_prompts.pair_chat((asked or [empty])[0], [text] * 2, [text] * 2, 1, {}, s.reasons, s.guided)
    n = len(reliability.WORSE) + 2
    control = judge_prompts.turn_chat(empty, [human] * 2, 1, {}, s.reasons, False)
    rated = min(s.validation, p.generate.n) * models * s.repeats
    pairs = 2 * (min(s.pairs, len(asked)) * (models - 2) + s.panel.questions)
    parts = [
        ("judge", "single", turns, len(turns) * s.repeats, models),
        ("judge of the validation set", "rubric", [rubric], rated + n * s.panel.questions * (s.validation > 0), 1),
        ("judge of pairs", "pair", [pair], pairs, 1),
        ("judge's panel", "single", [control], n * s.panel.questions * s.panel.repeats, 1),
    ]
    for who, kind, chats, count, jobs in parts:
        if count:
            # a small judge is asked once more for the verdict alone, and most of its rubrics and pairs hold none
            again = s.judge.backend == "local" and (s.reasons or kind != "single")
            _ask(
                c,
                e,
                "mtbench_one" if who == "judge" else "judged",
                who,
                s.judge,
                count * (1 + again),
                chats,
                jobs,
                0 if s.reasons else BRIEF[kind],
            )


def _ask(
    c: Costs,
    e: Estimate,
    rule: str,
    who: str,
    endpoint: Endpoint,
    n: float,
    chats: list[list[dict]],
    jobs: int,
    brief: int = 0,
) -> None:
    """Add `jobs` times `n` chats like `chats`: seconds, and dollars for a server; `brief` replies end sooner."""
    new = min(brief or endpoint.max_new_tokens, endpoint.max_new_tokens)
    prompt = sum(len(m["content"]) for chat in chats for m in chat) / len(chats) / CHARS
    if endpoint.backend == "local":
        shared = sum(len(m["content"]) for m in chats[0][:-1]) / CHARS  # the worked examples
        batch = max(1, endpoint.batch_size)
        took = c.answer(n, batch, prompt, new, endpoint.temperature > 0, shared)
        told = f"{who}: {jobs} × {n:,.0f} chats of {prompt:,.0f} + {new} tokens"
        e.takes(
            rule, jobs * took, f"{told}, {shared:,.0f} of them computed once a batch" if shared and batch > 1 else told
        )
        return
    gap = max(
        (LATENCY + WRITING * new) / endpoint.concurrency,
        60 / endpoint.requests_per_minute if endpoint.requests_per_minute else 0.0,
    )
    dollars = n * (prompt * endpoint.price_in + new * endpoint.price_out) / 1e6
    e.takes(rule, jobs * n * gap, f"{who}: {jobs} × {n:,.0f} requests × {gap:.2f} s")
    e.dollars += jobs * dollars
    e.asked.append((who, endpoint, dollars))
