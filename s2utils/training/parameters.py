"""Parameters of fine-tuning and merging; keys that trl, peft or transformers have carry their names."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from s2utils.data import parameters as data
from s2utils.workflow.limits import (
    MOST,
    Amount,
    Count,
    Country,
    Distinct,
    Filled,
    FilledLine,
    Line,
    Name,
    Names,
    Section,
    Seed,
    Size,
    known,
)

Tracker = Literal["tensorboard", "trackio", "wandb", "mlflow"]
MergeMode = Literal["bf16", "dequantized", "adapter"]
OPTIMIZERS = ("adamw_torch", "paged_adamw_8bit")  # what the profiles name; transformers knows the others


class Sft(Section):
    """QLoRA fine-tuning."""

    train_sets: Annotated[Names, Filled] = Field(description="data sets, or all of them joined: one adapter each")
    seed: Seed = Field(description="initialisation of the adapter, dropout and the order of the rows")
    r: int = Field(ge=1, le=65_536, description="rank of the adapter")
    lora_alpha: Size = Field(description="the adapter is scaled by lora_alpha / r")
    lora_dropout: float = Field(ge=0, le=0.99, description="share of an adapter's inputs")
    learning_rate: float = Field(gt=0, le=MOST, description="after the warm-up; falls linearly to 0")
    num_train_epochs: float = Field(gt=0, le=10**6, description="passes over the rows")
    max_steps: Count = Field(description="0: as many as the epochs take")
    per_device_train_batch_size: Size = Field(description="rows")
    gradient_accumulation_steps: Size = Field(description="batches a step, shared by all processes")
    max_length: Size = Field(description="tokens; longer rows are dropped and counted")
    optim: Line = Field(description="an optimizer of transformers")
    weight_decay: Amount = Field(description="of the optimizer")
    warmup_steps: float = Field(ge=0, le=0.99, description="share of the steps")
    evaluations: Count = Field(description="validation losses during training, evenly spaced")
    eval_rows: Count = Field(description="validation rows; 0 takes all")
    early_stopping_patience: Count = Field(description="evaluations without improvement before stopping; 0: never")
    gradient_checkpointing: bool = Field(description="less memory, a third more time")
    packing: bool = Field(description="several rows in a sequence; with FlashAttention only, see `sft.batching`")
    padding_free: bool = Field(description="the rows of a batch without padding; with FlashAttention only")
    samples: Count = Field(description="validation questions answered at each evaluation; 0: none")
    sample_tokens: Size = Field(description="new tokens of such an answer")
    country: Country = Field(description='ISO 3166 code, for the carbon of a kWh; "": energy is not measured')
    report_to: Distinct[Tracker] = Field(description="trackers beside log.jsonl")

    @field_validator("optim")
    @classmethod
    def _optimizer_of_transformers(cls, name: str) -> str:
        if name in OPTIMIZERS:
            return name
        from transformers.training_args import OptimizerNames  # slow

        return known(name, [optimizer.value for optimizer in OptimizerNames])


class Merge(Section):
    """How adapters become models."""

    modes: Annotated[Distinct[MergeMode], Filled] = Field(description="simple; careful; 4-bit base, unmerged")


class Routers(Section):
    """Routers through the years, trained on a small task made for them; see `architecture.routers`."""

    seeds: Annotated[Distinct[Seed], Filled] = Field(description="one task and start each; two or more give intervals")
    steps: Size = Field(description="batches that each router learns from")


class Arm(Section):
    """What a model of the ablation is trained on: the mix of the corpus, changed."""

    only: Distinct[FilledLine] = Field(description="domains that are left; []: all")
    raw: Distinct[FilledLine] = Field(description="domains whose documents are taken as they were before the filters")
    upsampled: Distinct[FilledLine] = Field(description="domains whose weight is multiplied")
    times: float = Field(gt=0, le=MOST, description="by that much, before all weights are scaled to 1")


class Ablation(Section):
    """One small model for each kind of corpus, all on as many bytes."""

    arms: Annotated[dict[Name, Arm], Filled] = Field(description="name → what it is trained on")
    parameters: Size = Field(description="outside of the embedding")
    bytes: Size = Field(description="UTF-8 bytes of text a model")
    seeds: Annotated[Distinct[Seed], Filled] = Field(description="one model an arm each; two or more give a spread")


class Ladder(Section):
    """Small Llamas trained from nothing on the mix of the corpus."""

    vocab_size: int = Field(ge=512, le=65_536, description="tokens of the byte-level BPE, learnt from the same mix")
    context: Size = Field(description="tokens of a block; positions of the model")
    parameters: Annotated[Distinct[Size], Filled] = Field(description="outside of the embedding: one model each")
    bytes: Size = Field(description="UTF-8 bytes of text a model")
    checkpoints: Distinct[Size] = Field(description="tokens after which one is kept; the end is one in any case")
    seeds: Annotated[Distinct[Seed], Filled] = Field(description="one model a size each: of its weights, order of text")
    per_device_train_batch_size: Size = Field(description="blocks")
    gradient_accumulation_steps: Size = Field(description="batches a step")
    learning_rate: float = Field(
        gt=0, le=MOST, description="of Muon, for the matrices of the layers, after the warm-up"
    )
    adamw_learning_rate: float = Field(
        gt=0, le=MOST, description="of AdamW, for embedding and norms, after the warm-up"
    )
    weight_decay: Amount = Field(description="of the matrices")
    warmup_steps: float = Field(ge=0, le=0.99, description="share of the steps")
    lr_scheduler_type: Literal["linear", "cosine"] = Field(description="how the learning rate falls to 0")
    held_out_bytes: Size = Field(description="of text on which every checkpoint is measured while training")
    ablation: Ablation


class Architecture(Section):
    """One small decoder for each choice of an architecture, trained with the ladder's settings."""

    parameters: Size = Field(description="outside of the embedding; must make heads that groups can share")
    bytes: Size = Field(description="UTF-8 bytes of text a model")
    seeds: Annotated[Distinct[Seed], Filled] = Field(description="one model an arm each; two or more give a spread")
    held_out_bytes: Size = Field(description="of text on which every arm is measured")
    times: Annotated[Distinct[Size], Filled] = Field(
        description="lengths at which positions are measured, in blocks of training; the longest a multiple of each"
    )


class Mixtures(Section):
    """Mixtures of experts and their dense counterparts; text, tokenizer, batches and rates are the ladder's."""

    parameters: Size = Field(description="of the dense model, outside of the embedding")
    num_local_experts: int = Field(ge=2, le=4096, description="in each layer")
    num_experts_per_tok: int = Field(ge=1, le=64, description="that a token is sent to")
    router_aux_loss_coef: Amount = Field(description="of the balance loss, which every layer adds while training")
    experts_implementation: Literal["eager", "grouped_mm"] = Field(
        description="of transformers; its third, batched_mm, copies an expert's weights for every token"
    )
    bytes: Size = Field(description="UTF-8 bytes of text a model, where steps are equal")
    upcycle_at: Size = Field(description="tokens after which the dense model is copied into experts")
    checkpoints: Distinct[Size] = Field(description="further tokens after which a model is kept")
    seeds: Annotated[Distinct[Seed], Filled] = Field(description="one of each model; two or more give a spread")

    @model_validator(mode="after")
    def _meets_no_more_than_there_are(self):
        if self.num_experts_per_tok > self.num_local_experts:
            raise ValueError("needs 'mixtures.num_experts_per_tok' at most 'mixtures.num_local_experts'")
        return self


class Parameters(data.Parameters):
    """Sections of this room."""

    sft: Sft
    merge: Merge
    routers: Routers
    ladder: Ladder
    architecture: Architecture
    mixtures: Mixtures

    @model_validator(mode="after")
    def _train_sets_are_data_sets(self):
        for name in self.sft.train_sets:
            known(name, map(self.train_set_name, self.datasets), "'sft.train_sets' ")
        return self

    @model_validator(mode="after")
    def _arms_name_domains_that_are_trained_on(self):
        for name, arm in self.ladder.ablation.arms.items():
            for field in ("only", "raw", "upsampled"):
                for domain in getattr(arm, field):
                    self.corpus.check_domain(domain, f"ladder.ablation.arms.{name}.{field}", trained=True)
        return self
