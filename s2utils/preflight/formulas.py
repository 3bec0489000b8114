"""What each notebook takes beside the start and end of its jobs: seconds, memory, disk, dollars, and their formulas.

One function a notebook adds to its `Estimate`; docs/preflight.md explains the formulas. Times are seconds, sizes bytes.
Trap: tokens are characters / 4; a text of numbers or another script has more.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

from s2utils.data import question_writer
from s2utils.evaluation.judge import judge_prompts, mtbench, reliability
from s2utils.models import llm
from s2utils.models.parameters import Endpoint
from s2utils.preflight import assumptions as assumed
from s2utils.preflight.machine import NF4, Costs
from s2utils.training.merge_fidelity import MOST
from s2utils.workflow import steps
from s2utils.workflow.params import ParameterError

if TYPE_CHECKING:
    from s2utils.preflight.estimates import Estimate, Texts

ROWS = 128  # logits whose softmax is taken at once: likelihood.ROWS, whose import takes seconds


def _eda(c: Costs, known: dict[str, Texts], e: Estimate) -> None:
    rows = sum(min(t.rows, c.params.eda.sample or t.rows) for t in known.values())
    e.takes("eda", (rows, "texts described"), (assumed.ROW["eda"] * c.python, "s"))
    e.disk = 5e6


def _datasets(c: Costs, known: dict[str, Texts], e: Estimate) -> None:
    p, guessed = c.params, [name for name, t in known.items() if not t.known]
    note = f", of {', '.join(guessed)} only guessed: {assumed.UNKNOWN[0]:,}, of them {assumed.UNKNOWN[1]:,} kept"
    cleaned = sum(t.rows for t in known.values()), f"texts cleaned{note * bool(guessed)}"
    e.takes(next(iter(e.rules)), cleaned, (assumed.ROW["clean"] * c.python, "s"))
    if p.s2.toxicity_model != "profanity-check":
        tokens = sum(t.kept * t.answer for t in known.values()) / assumed.CHARS
        each = 2 * assumed.ENCODER / (c.machine.f32 * c.share("float32"))
        e.takes(
            "data", (tokens, "tokens for toxicity"), (each, f"s: 2 × {assumed.ENCODER / 1e6:.0f} M FLOP in float32")
        )
    for name, source in p.data.sources.items():
        if source.kind == "articles":
            n = 1.3 * known[name].kept  # three in ten are asked twice (recorded)
            chat = question_writer.chat(question_writer.FIRST, "x" * min(known[name].answer, question_writer.CUT))
            _ask(c, e, "data", "question writer", p.questions.writer, n, [chat])
    e.disk = sum(t.rows * (t.answer + t.question) * 1.5 for t in known.values())  # kept and rejected


def _sft(c: Costs, known: dict[str, Texts], e: Estimate) -> None:
    p, m, s = c.params, c.model, c.params.sft
    template = len(p.model.prompt.replace("{question}", "")) + 1
    rows_of, length_of, checked = {}, {}, {}
    for name, t in known.items():
        left = max(1, t.kept * 5 // 6 if p.data.train_max else t.kept) - p.data.validation[name] - p.data.test[name]
        rows_of[name] = max(1, min(left, p.data.train_max or left))
        length_of[name] = min(s.max_length, (t.question + t.answer + template) / assumed.CHARS)
        checked[name] = min(p.data.validation[name], t.kept)
    lora, size, unpacked = m.widths * s.r, s.per_device_train_batch_size, m.linear * 2 / c.machine.fresh
    passes = 2 + s.gradient_checkpointing  # forward, backward through frozen weights, and once more forward
    for train_set in s.train_sets:
        parts = list(known) if p.dataset_of(train_set) == p.data.union else [train_set]
        rows = sum(rows_of[n] for n in parts)
        length = sum(rows_of[n] * length_of[n] for n in parts) / rows
        steps_of_epochs = round(s.num_train_epochs * rows / (size * s.gradient_accumulation_steps))
        updates = s.max_steps or max(1, steps_of_epochs)
        batches = updates * s.gradient_accumulation_steps
        tokens = batches * size * length
        flop = 2 * passes * (m.active + m.layers * m.hidden * length) + 6 * lora
        rate = f"({2 * passes} N + 6 LoRA + attention) FLOP ÷ {c.rate / 1e9:,.0f} GFLOP/s"
        e.takes("sft_one", (tokens, f"tokens of {train_set}"), (flop / c.rate, f"s: {rate}"))
        e.takes("sft_one", (batches, "batches"), (passes, "passes"), (unpacked, "s: NF4 weights unpacked to bf16"))
        e.takes("sft_one", (tokens, "tokens"), (m.vocab * 20 / c.machine.fresh, f"s: {m.vocab:,} logits × 20 bytes"))
        evaluations = 1 + updates // max(1, updates // max(1, s.evaluations))
        asked = sum(checked[n] for n in parts)
        asked = evaluations * min(s.eval_rows or asked, asked)
        each = c.forward(length, length, logits=True) + unpacked / size
        e.takes("sft_one", (asked, "rows evaluated"), (each, "s: 2 N a token"))
        e.takes("sft_one", (c.load(), "s to load"))
    state, batch = assumed.ADAM.get(s.optim, 8.0), f"{size} × {s.max_length}"
    e.holds(m.quantized, f"NF4 linear {NF4:.3f} × {m.linear / 1e9:.2f} + others 2 × {m.other / 1e9:.2f}")
    e.holds(lora * (8 + state), f"LoRA {lora / 1e6:.1f} M × (4 weight + 4 gradient + {state:.0f} {s.optim})")
    kept = m.activations(size, s.max_length, s.gradient_checkpointing, s.lora_dropout > 0)
    e.holds(kept, f"activations {batch} tokens{', checkpointed' if s.gradient_checkpointing else ''}")
    e.holds(size * s.max_length * m.vocab * 14, f"logits {batch} × {m.vocab:,} × 14 bytes")
    e.disk = len(s.train_sets) * lora * 4 + 3 * lora * (4 + state)  # adapters in float32, checkpoints


def _network(c: Costs, e: Estimate, batch: int = 0, tokens: float = 0.0) -> None:
    """Add a model's weights, and keys and values of `batch` sequences of `tokens` tokens."""
    m = c.model
    e.holds(m.total * c.width, f"weights {c.width} × {m.total / 1e9:.2f}")
    if batch:
        formula = f"{batch} × {tokens:,.0f} × {m.layers} layers × {m.kv} × 2 × {c.width} bytes"
        e.holds(c.kv(batch * tokens), f"KV cache {formula}")


def _generate(c: Costs, known: dict[str, Texts], e: Estimate) -> None:
    p, m, g = c.params, c.model, c.params.generate
    n, prompt, compared = g.n * len(p.datasets), assumed.PROMPT, e.rules["divergence_one"]
    each = c.answer(n, g.batch_size, prompt, g.max_new_tokens, g.top_p < 1) + c.load()
    said = f"s: {n} answers × {g.max_new_tokens} tokens, {g.batch_size} at a time: 2 N a token, weights read a step"
    e.takes("answers_one", (e.rules["answers_one"], "models"), (each, said))
    merged = sum(row.merge_mode in ("bf16", "dequantized") for row in steps.models(p))
    each = m.linear * 24 / c.machine.fresh + 3 * c.load()
    e.takes("merged_one", (merged, "merges"), (each, "s: 24 bytes a weight, read, written and hashed"))
    answers, length = min(p.sft.eval_rows or MOST, MOST), min(assumed.LEARNT, p.sft.max_length)
    each = c.load() + c.forward(answers * length, length, logits=True)
    read = len(p.merge.modes) + 4  # all merges and what they are held against
    said = f"s: {answers} answers read for their distance"
    e.takes("divergence_one", (compared, "train sets"), (read, "models"), (each, said))
    each = m.linear * assumed.LAYERS / c.machine.fresh
    e.takes("divergence_one", (compared, "train sets"), (each, "s: every weight compared"))
    _network(c, e, g.batch_size, prompt + g.max_new_tokens)
    e.holds(g.batch_size * m.vocab * 24, f"logits {g.batch_size} × {m.vocab:,} × 24 bytes")
    e.disk = merged * m.total * 2


def _text_metrics(c: Costs, known: dict[str, Texts], e: Estimate) -> None:
    p, m, vocab = c.params, c.params.membership, c.model.vocab
    e.takes(
        "text_metrics", (p.text_metrics.resamples, "resamples"), (len(steps.models(p)), "models"),
        (len(p.datasets), "sets"), (9, "metrics"), (p.generate.n, "answers"),
        (assumed.ROW["resample"] * c.python, "s"),
    )  # fmt: skip
    read = len(p.data.sources) * (2 * min(m.n, assumed.PASSAGES) * (1 + m.shuffles) * 60 + 2 * m.n * 15)
    e.takes("membership", (read, "tokens read by base"), (c.forward(1, 60, logits=True), "s"))
    e.takes("membership", (c.load(), "s to load"))
    _network(c, e)
    e.holds(ROWS * vocab * (c.width + 8), f"logits {ROWS} × {vocab:,} × {c.width + 8} bytes")
    e.disk = 5e6


def _leaderboard(c: Costs, known: dict[str, Texts], e: Estimate) -> None:
    s, vocab, models = c.params.leaderboard, c.model.vocab, e.rules["leaderboard_one"]
    tokens, longest = _tree(s.limit, s.mmlu_subjects, s.shots)
    fewer = min(tokens, _tree(s.compared.limit, s.compared.mmlu_subjects, s.shots)[0])
    each = c.forward(1, longest) / c.share("tree")
    for rule, n, asked in (("leaderboard_one", models, tokens), ("protocols", 1, fewer)):
        e.takes(rule, (n, "models"), (asked, "tokens of the prefix tree"), (each, "s: 2 N a token, under a mask"))
        e.takes(rule, (n, "models"), (c.load(), "s to load"))
    _network(c, e, 1, longest)
    e.holds(ROWS * vocab * (c.width + 8), f"logits {ROWS} × {vocab:,} × {c.width + 8} bytes")
    e.disk = 2e7


def _tree(limit: dict[str, int], mmlu_subjects: int, shots: dict[str, int]) -> tuple[float, float]:
    """(tokens of the requests' prefix tree, where each is forwarded once; tokens of the longest request)."""
    tokens, longest = 0, 0
    for task, (size, shot, document, header) in assumed.TASKS.items():
        subjects = (mmlu_subjects or 57) if task == "mmlu" else 1
        documents = subjects * min(limit[task] or size, size)
        heads = subjects if task == "mmlu" else documents  # MMLU's shots are a subject's, others are a document's own
        tokens += documents * document + heads * shots[task] * shot + header
        longest = max(longest, shots[task] * shot + document + header)
    return tokens, longest


def _mtbench(c: Costs, known: dict[str, Texts], e: Estimate) -> None:
    p, s = c.params, c.params.mtbench
    asked: list[dict] = []
    with contextlib.suppress(ParameterError):  # a missing file is for the checks to tell
        asked = mtbench.questions(s, p.seed)
    batch, n, new = p.generate.batch_size, len(asked), s.max_new_tokens
    second = 2 * assumed.TURN + new  # the first turn, its answer, the second turn
    each = sum(c.answer(n, batch, prompt, new, p.generate.top_p < 1) for prompt in (assumed.TURN, second)) + c.load()
    e.takes("mtbench_one", (e.rules["mtbench_one"], "models"), (each, f"s: 2 turns × {n} answers × {new} tokens"))
    if s.judge.backend != "file":
        _judged(c, e, asked)
    _network(c, e, batch, second + new)
    e.disk = 1e7


def _judged(c: Costs, e: Estimate, asked: list[dict]) -> None:
    """Add what the judge is asked: MT(S)-bench a model, and in one job the validation set, pairs and the panel."""
    p, s, models = c.params, c.params.mtbench, e.rules["mtbench_one"]
    text, human = "x" * (s.max_new_tokens * assumed.CHARS), "x" * (assumed.LEARNT * assumed.CHARS)
    empty = {"turns": [human[:100]] * 2, "category": ""}
    turns = [judge_prompts.turn_chat(q, [text] * 2, t, {}, s.reasons, s.guided) for q in asked for t in (1, 2)]
    reply = "x" * (p.generate.max_new_tokens * assumed.CHARS)
    rubric = judge_prompts.rubric_chat(human[:100], reply, human if s.guided else "", s.reasons)
    pair = judge_prompts.pair_chat((asked or [empty])[0], [text] * 2, [text] * 2, 1, {}, s.reasons, s.guided)
    control = judge_prompts.turn_chat(empty, [human] * 2, 1, {}, s.reasons, False)
    controls = (len(reliability.WORSE) + 2) * s.panel.questions
    rated = min(s.validation, p.generate.n) * models * s.repeats + controls * (s.validation > 0)
    pairs = 2 * (min(s.pairs, len(asked)) * (models - 2) + s.panel.questions)
    for rule, who, kind, chats, n in (
        ("mtbench_one", "judge", "single", turns, len(turns) * s.repeats),
        ("judged", "judge of the validation set", "rubric", [rubric], rated),
        ("judged", "judge of pairs", "pair", [pair], pairs),
        ("judged", "judge's panel", "single", [control], controls * s.panel.repeats),
    ):
        # a small judge is asked once more for the verdict alone, and most of its rubrics and pairs hold none
        again = s.judge.backend == "local" and (s.reasons or kind != "single")
        if n:
            _ask(c, e, rule, who, s.judge, n * (1 + again), chats, 0 if s.reasons else assumed.BRIEF[kind])


def _ask(c: Costs, e: Estimate, rule: str, who: str, end: Endpoint, n: float, chats: list, brief: int = 0) -> None:
    """Add `n` chats like `chats` in every job: seconds, and dollars for a server; `brief` replies end sooner."""
    jobs, new = e.rules[rule], min(brief or end.max_new_tokens, end.max_new_tokens)
    prompt = sum(len(m["content"]) for chat in chats for m in chat) / len(chats) / assumed.CHARS
    if end.backend == "local":
        shared = sum(len(m["content"]) for m in chats[0][:-1]) / assumed.CHARS  # the worked examples
        each = c.answer(n, max(1, end.batch_size), prompt, new, end.temperature > 0, shared)
        once = f", {shared:,.0f} of them computed once a batch" if shared and end.batch_size > 1 else ""
        e.takes(rule, (jobs, f"times {who}"), (each, f"s: {n:,.0f} chats of {prompt:,.0f} + {new} tokens{once}"))
        return
    gap = (assumed.LATENCY + assumed.WRITING * new) / end.concurrency
    if end.requests_per_minute:
        gap = max(gap, 60 / end.requests_per_minute)
    e.takes(rule, (jobs, f"times {who}"), (n, "requests"), (gap, "s"))
    dollars = llm.cost(end, n * prompt, n * new)
    e.dollars += jobs * dollars
    e.asked.append((who, end, dollars))


def _corpus(c: Costs, known: dict[str, Texts], e: Estimate) -> None:
    parts = c.params.corpus.components.values()
    n = sum(part.max_documents or assumed.DOCUMENTS for part in parts)
    e.takes("corpus", (n, "documents filtered and described"), (assumed.ROW["corpus"] * c.python, "s"))
    e.disk = 3 * n * assumed.DOCUMENT


def _fit(c: Costs, known: dict[str, Texts], e: Estimate) -> None:
    p, s, n = c.params, c.params.fit, e.rules["fit_one"]
    length = min(s.max_characters / assumed.CHARS, assumed.DOCUMENT / assumed.CHARS, s.window)
    tokens = len(p.corpus.components) * s.documents * length
    again = s.window / (s.stride or s.window)  # tokens are read again as context
    for models, words, of in [(n - len(c.beside), "models", c), *((1, o.model.name, o) for o in c.beside)]:
        each = again * of.forward(1, length, logits=True)
        e.takes("fit_one", (models, words), (tokens, "tokens of documents"), (each, "s: 2 N a token"))
        e.takes("fit_one", (models, words), (of.load(), "s to load"))
    ladder, ablation = p.ladder, p.ladder.ablation
    _scratch(c, e, "ladder", ladder.parameters * len(ladder.seeds), ladder.bytes)
    _scratch(c, e, "ablation", [ablation.parameters] * len(ablation.arms) * len(ablation.seeds), ablation.bytes)
    _network(max([c, *c.beside], key=lambda of: of.model.total), e)
    vocab = max(of.model.vocab for of in (c, *c.beside))
    e.holds(ROWS * vocab * (c.width + 8), f"logits {ROWS} × {vocab:,} × {c.width + 8} bytes")
    e.disk = 4 * (sum(ladder.parameters) * (len(ladder.checkpoints) + 1) * len(ladder.seeds))


def _scratch(c: Costs, e: Estimate, rule: str, sizes: list[int], n_bytes: int) -> None:
    """Add models trained from nothing on so many bytes each."""
    tokens = n_bytes / assumed.SCRATCH["characters"]
    each = 6 * sum(sizes) / len(sizes) / (assumed.SCRATCH["share"] * c.rate) + assumed.SCRATCH["token"] * c.python
    e.takes(
        rule, (len(sizes), "models from nothing"), (tokens, "tokens"), (each, "s: 6 N a token, and its small steps")
    )


def _attention(c: Costs, known: dict[str, Texts], e: Estimate) -> None:
    from s2utils.training import ladder  # takes seconds

    p, s = c.params, c.params.attention_heads
    grid = list(itertools.product(s.batch_sizes, s.contexts))
    step = sum(c.decode(batch, context, sampled=False) for batch, context in grid)
    variants = (assumed.HEADS, "numbers of key-value heads")
    e.takes("attention", variants, (s.steps + 1, "steps"), (step, f"s: a token of {len(grid)} settings"))
    tokens = s.documents * s.max_characters / assumed.CHARS
    read = c.forward(tokens, s.max_characters / assumed.CHARS, logits=True)
    e.takes("attention", variants, (read, f"s: {tokens:,.0f} tokens of documents"))
    e.takes("attention", (c.load(), "s to load"))
    w = p.attention_windows
    times = 2 * len(w.windows) + 3  # without a window, under each without sinks and with, and twice for a change
    read = c.forward(w.tokens, w.tokens, logits=True)
    e.takes("windows", (w.documents, "documents"), (times, "times"), (read, f"s: {w.tokens:,} tokens"))
    steps = len(w.contexts) * w.steps * c.decode(1, w.tokens, sampled=False)
    e.takes("windows", (assumed.CACHES * len(w.chunks), "caches"), (read + steps, "s: a text, and single tokens"))
    e.takes("windows", (c.load(), "s to load"))
    n = assumed.ARMS * len(p.architecture.seeds)
    _scratch(c, e, "arms", [p.architecture.parameters] * n, p.architecture.bytes)
    caches, length = assumed.HEADS / 2 * s.cache_gib * 2**30, p.ladder.context * max(p.architecture.times)
    rows = max(1, p.ladder.per_device_train_batch_size * p.ladder.context // length)
    arm = ladder.config(p.architecture.parameters, p.ladder.vocab_size, p.ladder.context)
    size = 4 * arm.num_attention_heads * length**2
    formula = f"T5's bias, and scores and weights of {rows} × {arm.num_attention_heads} heads × {length:,}² × 4 bytes"
    scores = size * (1 + 2 * rows) + 4 * rows * length * arm.vocab_size
    if scores > c.model.total * c.width + caches:  # arms are read before the model is loaded, so one of both counts
        e.holds(scores, f"{formula}, and logits")
    else:
        _network(c, e)
        e.holds(caches, f"caches {assumed.HEADS} of at most {s.cache_gib:g} GiB")
    e.disk = 4 * n * p.architecture.parameters


def _experts(c: Costs, known: dict[str, Texts], e: Estimate) -> None:
    p, m = c.params, c.params.mixtures
    active = round(m.parameters * (1 + 2 / 3 * (m.num_experts_per_tok - 1)))  # two thirds of a model are MLP
    sizes = [*[m.parameters] * 3, *[active] * 3] * len(m.seeds)  # half of what is trained is dense, and reads more text
    _scratch(c, e, "mixtures", sizes, round(m.bytes * 1.2))
    long, asked = p.long_context, p.passkey
    of = next((o for o in c.beside if o.model.name in long.models), c)  # where sizes are known
    variants = 1 + len(long.windows) + len(long.ropes)
    read = variants * of.forward(long.documents * long.tokens, long.tokens, logits=True)
    prompts = asked.n * len(asked.places)
    answers = sum(
        of.answer(prompts, asked.n, length, asked.max_new_tokens, sampled=False, shared=length / 2)
        for length in [*len(asked.templates) * asked.lengths, *len(asked.windows) * [max(asked.lengths)]]
    )
    models = (len(long.models), f"models, taken to be as large as {of.model.name}")
    e.takes("long_context", models, (read, f"s: {variants} ways to read {long.documents} documents"))
    e.takes("long_context", models, (answers, f"s: passkeys, {prompts} prompts a length"))
    tokens = len(p.corpus.components) * p.expert_routing.documents * p.expert_routing.tokens
    routed = of.forward(tokens, p.expert_routing.tokens, logits=True)
    e.takes("experts", (len(p.expert_routing.models), "models"), (routed, f"s: {tokens:,} tokens of documents"))
    _network(of, e, asked.n, max(asked.lengths))
    mixture = m.parameters * (1 + 2 / 3 * (m.num_local_experts - 1))
    e.disk = 4 * len(m.seeds) * (2 * mixture * (len(m.checkpoints) + 1) + 5 * m.parameters)


NOTEBOOKS = {  # what else than its jobs' starts a notebook takes
    "01_eda": _eda, "02_datasets": _datasets, "03_sft": _sft, "04_generate": _generate,
    "05_text_metrics": _text_metrics, "06_leaderboard": _leaderboard, "07_mtbench": _mtbench,
    "09_corpus": _corpus, "10_fit": _fit, "11_attention": _attention,
    "12_experts": _experts,
}  # fmt: skip
