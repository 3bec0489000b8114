"""What computes and what is computed: measured rates of this machine, and the sizes of a decoder without its weights.

Rates are a second: FLOP, bytes, values; times are seconds. Weights are counted on PyTorch's meta device, where none
exists. Trap: newly allocated memory is far slower than a copy between buffers that are there already (the kernel
pages it in: 0.9 against 38 GB/s on one machine), and logits over a large vocabulary are nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from s2utils.workflow.params import Params

SHARES = {  # dimensionless, of the measured rates
    # a forward or backward pass reaches so much of a bare matrix product: in float32, and in bfloat16. cpu: set on recorded
    # runs; cuda: large trainings report 21–46 % (Chowdhery et al. 2022, PaLM); taken from there, not measured by us
    "float32": {"cpu": 0.75, "cuda": 0.4},
    "bfloat16": {"cpu": 0.5, "cuda": 0.4},
    # decoding reads all weights once a token at so much of the bandwidth. cpu: recorded run; cuda: usual for batch 1–32
    "stream": {"cpu": 0.4, "cuda": 0.6},
    # a pass under the mask of a prefix tree against one without. cpu: recorded run; cuda: assumed
    "tree": {"cpu": 0.9, "cuda": 0.7},
}
OPS = 150  # calls of a small operation that a layer costs while decoding (about 40 kernels, each behind Python)
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)  # bytes a weight: 4 bits, an 8-bit scale a block of 64, a float32 scale 256 blocks
ADAM = {"adamw_torch": 8.0, "paged_adamw_8bit": 2.0, "adamw_8bit": 2.0}  # bytes of state a trained weight; others: 8
DISK = 0.4e9  # bytes a second to write and hash, or to read, a model


@dataclass(frozen=True)
class Machine:
    """Measured rates; `bf16` and `f32` in FLOP/s, `copy` and `fresh` (newly allocated memory) in bytes/s."""

    device: str
    what: str
    bf16: float
    f32: float
    copy: float
    fresh: float
    topk: float  # logits a second, of which the likeliest 256 are looked for
    call: float  # seconds of one small operation
    loop: float  # seconds of one step of a plain Python loop


REFERENCE = Machine("cpu", "AMD EPYC held to AVX2, one thread", 20e9, 101e9, 24e9, 1.95e9, 342e6, 2.1e-6, 29e-9)
A100 = Machine("cuda", "A100 40 GB by its data sheet", 312e12, 19.5e12, 1555e9, 1555e9, 2e9, 5e-6, 28e-9)


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder; weights are counted, not derived."""

    name: str
    source: str
    layers: int
    hidden: int
    intermediate: int
    kv: int  # key-value heads × their width
    vocab: int
    linear: int  # weights of the linear layers without the output head: what NF4 and LoRA cover
    other: int  # embeddings, output head, norms
    widths: int  # Σ (in + out) of the linear layers: LoRA weights a rank
    inputs: int  # Σ in

    @property
    def total(self) -> int:
        """All parameters."""
        return self.linear + self.other

    @property
    def active(self) -> int:
        """Weights a token is multiplied with: the linear layers and the output head."""
        return self.linear + self.vocab * self.hidden


PUBLISHED = {  # sizes as published (Touvron et al. 2023; SmolLM2's card), where a configuration cannot be had
    "llama-2-7b": {
        "vocab_size": 32_000, "hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32, "num_attention_heads": 32,
    },
    "llama-2-13b": {
        "vocab_size": 32_000, "hidden_size": 5120, "intermediate_size": 13_824, "num_hidden_layers": 40, "num_attention_heads": 40,
    },
    "smollm2-135m": {
        "vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "tie_word_embeddings": True,
    },
}  # fmt: skip


def known(path: str):
    """Configuration of a model whose sizes are published, by its name; None for any other."""
    from transformers import LlamaConfig

    name = next((n for n in PUBLISHED if n in path.lower()), None)
    return LlamaConfig(**PUBLISHED[name]) if name else None


def shape(config, name: str, source: str) -> Shape:
    """Counts of the model that `config` (transformers) describes, made on the meta device: no weight exists."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings()
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    linear = sum(m.weight.numel() for m in layers)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return Shape(
        name, source, config.num_hidden_layers, config.hidden_size, getattr(config, "intermediate_size", 4 * config.hidden_size),
        heads * width, config.vocab_size, linear,
        sum(w.numel() for w in model.parameters()) - linear,
        sum(m.in_features + m.out_features for m in layers), sum(m.in_features for m in layers),
    )  # fmt: skip


def measure(device: str, threads: int, hidden: int, intermediate: int) -> Machine:
    """Rates of this machine in about two seconds, the best of several tries: other work only makes it slower."""
    import torch

    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.device(device), torch.inference_mode():
            rates = {}
            for name, dtype in (("bf16", torch.bfloat16), ("f32", torch.float32)):
                x, w = torch.ones(512, hidden, dtype=dtype), torch.ones(intermediate, hidden, dtype=dtype)
                fastest = _best(lambda x=x, w=w: torch.nn.functional.linear(x, w), wait)
                rates[name] = 2 * 512 * hidden * intermediate / fastest
            a, b = torch.zeros(2**24), torch.zeros(2**24)  # 64 MB, beyond the caches
            logits, small = torch.rand(4, 49_152), torch.zeros(8)
            return Machine(
                device, "measured now", **rates, copy=2 * a.nbytes / _best(lambda: b.copy_(a), wait),
                fresh=a.nbytes / _best(lambda: a + 1, wait), topk=logits.numel() / _best(lambda: logits.topk(256), wait),
                call=_best(lambda: [small + small for _ in range(500)], wait) / 500, loop=loop(),
            )  # fmt: skip
    finally:
        torch.set_num_threads(before)


def loop() -> float:
    """Seconds of one step of a plain Python loop."""

    def count() -> None:
        total = 0
        for i in range(100_000):
            total += i

    return _best(count) / 100_000


def _best(work: Callable, wait: Callable = lambda: None, seconds: float = 0.2) -> float:
    """Seconds of the fastest of as many runs as fit in `seconds`, after one that warms up."""
    work()
    wait()
    fastest, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        work()
        wait()
        fastest = min(fastest, time.perf_counter() - started)
    return fastest


def training_weights(m: Shape) -> float:
    """Bytes of the quantised base: NF4 with double quantisation, embeddings, head and norms in bf16."""
    return NF4 * m.linear + 2 * m.other


def activations(m: Shape, batch: int, length: int, checkpointing: bool, dropout: bool) -> float:
    """Bytes kept for the backward pass.

    A layer keeps 34 H + 8 I bytes a token (Korthikanti et al. 2022, for a gated MLP), and LoRA a float32 copy of
    every linear layer's input, with dropout its result and mask too. Checkpointing keeps the layers' bf16
    inputs, and one layer whole.
    """
    layer = 34 * m.hidden + 8 * m.intermediate + (9 if dropout else 4) * m.inputs / m.layers
    return batch * length * (m.layers * 2 * m.hidden + layer if checkpointing else m.layers * layer)


class Costs:
    """Seconds and bytes of the few things that all steps are made of, for one model on one machine."""

    def __init__(self, params: Params, model: Shape, machine: Machine):
        self.params, self.model, self.machine = params, model, machine
        wide = params.model.dtype == "float32"
        self.rate = machine.f32 * self.share("float32") if wide else machine.bf16 * self.share("bfloat16")
        self.width = 4 if wide else 2  # bytes a weight
        self.host = machine.loop / REFERENCE.loop  # this machine's Python against the recorded one's

    def share(self, name: str) -> float:
        """What of a measured rate is reached here."""
        return SHARES[name][self.machine.device]

    def forward(self, tokens: float, context: float, logits: bool = False) -> float:
        """2 N + 4 L H c/2 FLOP a token of sequences of `context` tokens; all `logits` only where they are read."""
        m = self.model
        flop = 2 * (m.active if logits else m.linear) + 2 * m.layers * m.hidden * context
        return tokens * flop / self.rate + (tokens * m.vocab * (self.width + 8) / self.machine.fresh if logits else 0)

    def kv(self, tokens: float) -> float:
        """Bytes of keys and values of so many tokens."""
        return tokens * self.model.layers * self.model.kv * 2 * self.width

    def decode(self, batch: float, context: float, sampled: bool) -> float:
        """Seconds of one new token for each of `batch` sequences: arithmetic, weights and cache read, calls, top-p."""
        m = self.model
        reading = (m.total * self.width + self.kv(batch * context)) / (self.machine.copy * self.share("stream"))
        drawing = batch * m.vocab / self.machine.topk if sampled else 0
        return batch * 2 * m.active / self.rate + reading + m.layers * OPS * self.machine.call + drawing

    def answer(self, n: float, batch: int, prompt: float, new: int, sampled: bool, shared: float = 0.0) -> float:
        """Seconds to answer `n` prompts of `prompt` tokens with `new` tokens each, `batch` at a time.

        The first `shared` tokens are those of all prompts, and computed once a batch.
        """
        if not n:
            return 0.0
        batches = -(-n // batch)
        read = n * (prompt - shared) + batches * shared
        return self.forward(read, prompt) + batches * new * self.decode(min(batch, n), prompt + new / 2, sampled)

    def load(self) -> float:
        """Seconds to read the model's bf16 weights from disk."""
        return self.model.total * 2 / DISK
