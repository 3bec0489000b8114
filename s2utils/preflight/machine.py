"""What computes and what is computed: measured rates of this machine, and the sizes of a decoder without its weights.

Rates are a second: FLOP, bytes, values; times are seconds. Weights are counted on PyTorch's meta device, where none
exists. Trap: newly allocated memory is far slower than a copy between buffers that are there already (the kernel
pages it in: 0.9 against 38 GB/s on one machine), and logits over a large vocabulary are nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from s2utils.preflight import assumptions
from s2utils.workflow.params import Params

NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)  # bytes a weight: 4 bits, an 8-bit scale a block of 64, a float32 scale 256 blocks


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

    @property
    def quantized(self) -> float:
        """Bytes of a base in training: NF4 with double quantisation, embeddings, head and norms in bf16."""
        return NF4 * self.linear + 2 * self.other

    def activations(self, batch: int, length: int, checkpointing: bool, dropout: bool) -> float:
        """Bytes kept for the backward pass.

        A layer keeps 34 H + 8 I bytes a token (Korthikanti et al. 2022, for a gated MLP), and LoRA a float32 copy of
        every linear layer's input, with dropout its result and mask too. Checkpointing keeps the layers' bf16 inputs,
        and one layer whole.
        """
        layer = 34 * self.hidden + 8 * self.intermediate + (9 if dropout else 4) * self.inputs / self.layers
        return batch * length * (self.layers * 2 * self.hidden + layer if checkpointing else self.layers * layer)


def known(path: str):
    """Configuration of a model whose sizes are published, by its name; None for any other."""
    from transformers import AutoConfig

    sizes = next((sizes for name, sizes in assumptions.PUBLISHED.items() if name in path.lower()), None)
    return AutoConfig.for_model(**({"model_type": "llama"} | sizes)) if sizes else None


def shape(config, name: str, source: str) -> Shape:
    """Counts of the model that `config` (transformers) describes, made on the meta device: no weight exists."""
    import torch
    from transformers import AutoModelForCausalLM

    from s2utils.architecture import shapes

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings()
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    linear = sum(m.weight.numel() for m in layers)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return Shape(
        name=name,
        source=source,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=getattr(config, "intermediate_size", 4 * config.hidden_size),
        kv=heads * shapes.head_dim(config),
        vocab=config.vocab_size,
        linear=linear,
        other=sum(w.numel() for w in model.parameters()) - linear,
        widths=sum(m.in_features + m.out_features for m in layers),
        inputs=sum(m.in_features for m in layers),
    )


def measure(device: str, threads: int, hidden: int, intermediate: int) -> Machine:
    """Rates of this machine in about two seconds; matrix products at the widths of a model."""
    import torch

    rates = {}
    with torch.device(device), torch.inference_mode():
        for name, dtype in (("bf16", torch.bfloat16), ("f32", torch.float32)):
            x, w = torch.ones(512, hidden, dtype=dtype), torch.ones(intermediate, hidden, dtype=dtype)
            product = fastest("torch.nn.functional.linear(x, w)", threads, x=x, w=w)
            rates[name] = 2 * 512 * hidden * intermediate / product
        a, b = torch.zeros(2**24), torch.zeros(2**24)  # 64 MB, beyond the caches
        logits, small = torch.rand(4, 49_152), torch.zeros(8)
        return Machine(
            device=device,
            what="measured now",
            **rates,
            copy=2 * a.nbytes / fastest("b.copy_(a)", threads, a=a, b=b),
            fresh=a.nbytes / fastest("a + 1", threads, a=a),
            topk=logits.numel() / fastest("logits.topk(256)", threads, logits=logits),
            call=fastest("small + small", threads, small=small),
            loop=loop(),
        )


def loop() -> float:
    """Seconds of one step of a plain Python loop."""
    return fastest("total = 0\nfor i in range(100_000):\n    total += i") / 100_000


def fastest(code: str, threads: int = 1, **names: object) -> float:
    """Seconds of the fastest of as many runs as fit in 0.2 s, warmed up: other work only makes it slower."""
    from torch.utils.benchmark import Timer

    return min(Timer(code, globals=names, num_threads=threads).blocked_autorange(min_run_time=0.2).times)


class Costs:
    """Seconds and bytes of the few things that all steps are made of, for one model on one machine."""

    def __init__(self, params: Params, model: Shape, machine: Machine, beside: Sequence[Shape] = ()):
        self.params, self.model, self.machine = params, model, machine
        self.beside = [Costs(params, other, machine) for other in beside]  # models beside the study's
        wide = params.model.dtype == "float32"
        self.rate = machine.f32 * self.share("float32") if wide else machine.bf16 * self.share("bfloat16")
        self.width = 4 if wide else 2  # bytes a weight
        self.python = machine.loop / REFERENCE.loop  # seconds here a second of the recorded machine

    def share(self, name: str) -> float:
        """What of a measured rate is reached here."""
        return assumptions.SHARES[name][self.machine.device]

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
        return batch * 2 * m.active / self.rate + reading + m.layers * assumptions.OPS * self.machine.call + drawing

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
        return self.model.total * 2 / assumptions.DISK
