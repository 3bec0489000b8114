"""Mixtures of experts beside the dense models they are compared with, all from nothing on the corpus of 09.

`DENSE` is a Llama of the ladder. `WIDE` is as deep, its MLP as wide as the experts that a token meets, so it has the
active parameters of a mixture but for the routers. `SCRATCH` is a Mixtral from nothing, `UPCYCLED` one whose experts
are copies of the MLP that `DENSE` had after `upcycle_at` tokens, with new routers (Komatsuzaki and others 2022); it
goes on where `DENSE` stood, on the same text and schedule. Its momenta begin anew, which costs by itself: `RESTARTED`
is the dense model to which the same happens. Steps of a mixture cost more FLOP (`flop_all` of the ladder), so it is
compared twice: at equal steps, and with a `DENSE` that read more text for as many FLOP. Traps: a schedule ends with its
run, so a longer run is no continuation; RMSNorm's epsilon is 1e-6 in Llama and 1e-5 in Mixtral by default, and an
upcycled model is then another function.

    python -m s2utils make mixtures cpu
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM, PreTrainedModel

from s2utils.training import ladder, muon, pretraining
from s2utils.training.parameters import Ladder, Mixtures
from s2utils.workflow.notebook import Run

DENSE, WIDE, RESTARTED = "dense", "dense, wide", "dense, restarted"
UPCYCLED, SCRATCH = "upcycled", "from nothing"
MIXTURES = (UPCYCLED, SCRATCH)
STEPS = "equal steps"
FLOP = {mixture: f"equal FLOP, {mixture}" for mixture in MIXTURES}  # as many as that mixture has used
BUDGETS = {  # what is compared: budget → model → its runs, whose names end with a seed
    STEPS: {DENSE: "dense", WIDE: "wide", RESTARTED: "restarted", UPCYCLED: "upcycled", SCRATCH: "scratch"},
    FLOP[UPCYCLED]: {DENSE: "dense-as-upcycled", UPCYCLED: "upcycled"},
    FLOP[SCRATCH]: {DENSE: "dense-as-scratch", WIDE: "wide", SCRATCH: "scratch"},
}


def make_mixtures(run: Run) -> pd.DataFrame:
    """Train every model with every seed, unless that is done; one row a checkpoint, as `ladder.train`."""
    p = run.params

    def trained(given: pretraining.Material, folder: Path) -> pd.DataFrame:
        return train(given, p.mixtures, p.ladder, folder, p.runtime.threads, p.runtime.device)

    return pretraining.made(run, "mixtures", trained)


def train(
    given: pretraining.Material, settings: Mixtures, base: Ladder, folder: Path, workers: int = 1, device: str = "cpu"
) -> pd.DataFrame:
    """Train into `folder`/<run>; one row a checkpoint. FLOP of `UPCYCLED` are of both parts of its life."""
    later = tuple(settings.checkpoints)
    ends = {DENSE: (settings.upcycle_at,), WIDE: (), RESTARTED: (), UPCYCLED: later, SCRATCH: later}

    def trained(runs: list[ladder.Run]) -> pd.DataFrame:
        texts = (given.texts, given.held_out, given.tok)
        return ladder.train_all(runs, *texts, base, folder, workers, device, partial(build, settings))

    def runs(variant: str, name: str, n_bytes: int) -> list[ladder.Run]:
        return [
            ladder.Run(f"{name}-{seed}", settings.parameters, given.weights, n_bytes, ends[variant], seed, variant)
            for seed in settings.seeds
        ]

    plan = [runs(model, BUDGETS[STEPS][model], settings.bytes) for model in (DENSE, WIDE, SCRATCH)]
    first = trained([one for each in zip(*plan) for one in each])  # seed by seed: those of one read the same blocks
    dense = first[first["run"].str.startswith(f"{BUDGETS[STEPS][DENSE]}-")]
    start, end = (dense.drop_duplicates("run", keep=keep).iloc[0] for keep in ("first", "last"))
    rest = [one for model in (UPCYCLED, RESTARTED) for one in runs(model, BUDGETS[STEPS][model], settings.bytes)]
    for one in rest:
        teacher = folder / f"{BUDGETS[STEPS][DENSE]}-{one.seed}" / start["checkpoint"]
        _begin(one, teacher, int(start["step"]), settings, base, folder / one.name)
    cheap, dear = (flop(settings, base, variant) for variant in (DENSE, SCRATCH))
    whole = dear["flop_all"] * end["tokens"]
    saved = (dear["flop_all"] - cheap["flop_all"]) * start["tokens"]  # of an upcycled model, whose beginning was dense
    for mixture, spent in {UPCYCLED: whole - saved, SCRATCH: whole}.items():
        n_bytes = round(settings.bytes * spent / (cheap["flop_all"] * end["tokens"]))
        rest += runs(DENSE, BUDGETS[FLOP[mixture]][DENSE], n_bytes)
    rows = pd.concat([first, trained(rest)], ignore_index=True)
    begun = rows["seed"].map(dense.drop_duplicates("run").set_index("seed")["tokens"])  # as dense ones
    of_both = rows["run"].str.startswith(f"{BUDGETS[STEPS][UPCYCLED]}-")
    return rows.assign(**{kind: rows[kind] - of_both * begun * (dear[kind] - cheap[kind]) for kind in cheap})


def build(settings: Mixtures, run: ladder.Run, vocab_size: int, context: int) -> PreTrainedModel:
    """The model of a run with new weights."""
    facts = ladder.config(run.parameters, vocab_size, context)
    if run.variant == WIDE:
        facts.intermediate_size *= settings.num_experts_per_tok
    if run.variant not in MIXTURES:
        return LlamaForCausalLM(facts)
    same = {
        key: getattr(facts, key)
        for key in (
            "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "max_position_embeddings", "tie_word_embeddings", "bos_token_id", "eos_token_id",
            "pad_token_id", "use_cache", "rms_norm_eps", "rope_parameters", "head_dim",
        )
    }  # fmt: skip
    mixture = MixtralConfig(
        **same, num_local_experts=settings.num_local_experts, num_experts_per_tok=settings.num_experts_per_tok,
        router_aux_loss_coef=settings.router_aux_loss_coef, experts_implementation=settings.experts_implementation,
    )  # fmt: skip
    return MixtralForCausalLM(mixture)


def flop(settings: Mixtures, base: Ladder, variant: str) -> dict[str, int]:
    """FLOP a token of forward and backward passes: `flop` of the weights alone, `flop_all` with head and attention."""
    run = ladder.Run("", settings.parameters, {}, 0, (), 0, variant)
    with torch.device("meta"):
        model = build(settings, run, base.vocab_size, base.context)
    return dict(zip(("flop", "flop_all"), ladder.flop_per_token(model.config, ladder.active_parameters(model))))


@torch.no_grad()
def upcycle(dense: LlamaForCausalLM, mixture: MixtralForCausalLM) -> MixtralForCausalLM:
    """`mixture` with the weights of `dense`, every expert its MLP; its routers stay. Then both are the same function.

    For the weights of the experts that a token meets sum to 1. ValueError where their shapes differ.
    """
    weights = dense.state_dict()
    for name, weight in mixture.state_dict().items():
        if name.endswith("experts.gate_up_proj"):
            mlp = name.removesuffix("experts.gate_up_proj")
            source = torch.cat([weights[f"{mlp}{part}_proj.weight"] for part in ("gate", "up")])
        elif name.endswith("experts.down_proj"):
            source = weights[name.replace("experts.down_proj", "down_proj.weight")]
        elif name.endswith("mlp.gate.weight"):
            continue
        else:
            source = weights[name]
        if source.shape != weight.shape[-source.ndim :]:
            raise ValueError(f"{name}: {tuple(source.shape)} of the dense model do not fit {tuple(weight.shape)}")
        weight.copy_(source)  # to every expert
    return mixture


def _begin(run: ladder.Run, dense: Path, step: int, settings: Mixtures, base: Ladder, folder: Path) -> None:
    """Leave in `folder` what makes `ladder.train` go on from `step` with the dense model, upcycled or not, once."""
    if any((folder / name).is_file() for name in (ladder.STATE, ladder.RECORD)):
        return
    model = AutoModelForCausalLM.from_pretrained(dense, dtype=torch.float32)
    if run.variant == UPCYCLED:
        torch.manual_seed(run.seed)
        model = upcycle(model, build(settings, run, base.vocab_size, base.context))
    pair = muon.optimizers(model, base.learning_rate, base.adamw_learning_rate, base.weight_decay)
    folder.mkdir(parents=True, exist_ok=True)
    ladder.keep(folder, step, model, pair, [])
