"""QLoRA fine-tuning with trl's SFTTrainer: rows, configuration, loss, and the one call that trains an adapter.

The notebook calls `run`; several processes call the same:

    torchrun --nproc_per_node 4 -m s2utils sft a100-7b ELI5 --set 'sft.r=32'
    accelerate launch --config_file cluster/fsdp-qlora.yaml -m s2utils sft …      a base sharded over GPUs

Loss counts on the answer only, the end-of-sequence token included; losses are nats an answer token. Trap: LoRA
weights start in bf16 but a resume reloads them in float32, so they are cast once.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import shutil
from pathlib import Path

from s2utils.workflow import notebook  # isort: skip  # sets what the libraries below read when they load

import pandas as pd
import torch
from datasets import Dataset
from peft import LoraConfig
from safetensors import safe_open
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig

from s2utils.data import splits
from s2utils.models import loading
from s2utils.training import callbacks, distributed, patches, publish
from s2utils.training.failures import TrainingError, explained
from s2utils.training.parameters import Sft
from s2utils.training.trainer import Trainer, masked
from s2utils.workflow.params import ParameterError, Params, load, nearest, parse_set

TAKEN = {  # by trl as they are
    "learning_rate", "num_train_epochs", "per_device_train_batch_size", "warmup_steps", "weight_decay", "optim",
    "gradient_checkpointing", "report_to",
}  # fmt: skip


def rows(frame: pd.DataFrame, params: Params, tok: PreTrainedTokenizerBase) -> tuple[Dataset, int]:
    """(rows, how many were dropped): rows over `sft.max_length` tokens are left out.

    A row has prompt and completion (text, for `loading.encoded`), input_ids and the completion_mask of what is learnt:
    trl takes them as they are, where it would make an end of sequence of a `</s>` that somebody wrote.
    """
    examples = [loading.example(q, a, tok, params.model) for q, a in zip(frame["question"], frame["answer"])]
    kept = [
        {"prompt": p, "completion": c, "input_ids": ids, "completion_mask": [0] * start + [1] * (len(ids) - start)}
        for (p, c), (ids, start) in zip(examples, loading.taught(examples, tok))
        if len(ids) <= params.sft.max_length
    ]
    return Dataset.from_list(kept), len(frame) - len(kept)


def steps(sft: Sft, n_rows: int) -> int:
    """Optimiser steps of the run."""
    batch = sft.per_device_train_batch_size * sft.gradient_accumulation_steps
    return sft.max_steps or max(1, math.ceil(sft.num_train_epochs * n_rows / batch))


def lora(sft: Sft) -> LoraConfig:
    """LoRA on every linear layer."""
    own = sft.model_dump(include={"r", "lora_alpha", "lora_dropout"})
    return LoraConfig(**own, target_modules="all-linear", task_type="CAUSAL_LM")


def batching(sft: Sft, device: str) -> dict:
    """How batches are laid out here: attention, packing, padding_free, and a note where it is not what was asked.

    Rows without padding need an attention that knows where each row ends, which only FlashAttention does; without it
    rows are padded, beside rows of about their length.
    """
    asked = sft.packing or sft.padding_free
    flash = device == "cuda" and importlib.util.find_spec("flash_attn") is not None
    missing = (
        "sft.packing and sft.padding_free need a GPU with flash_attn installed; "
        "rows are padded in batches of like length"
    )
    return {
        "attention": "flash_attention_2" if asked and flash else "sdpa",
        "packing": sft.packing and flash,
        "padding_free": asked and flash,
        "note": missing if asked and not flash else "",
    }


def share(sft: Sft, n_processes: int) -> int:
    """Batches that each process accumulates a step, so that all together take the effective batch of `sft`."""
    if sft.gradient_accumulation_steps % n_processes:
        raise ParameterError(
            f"sft.gradient_accumulation_steps is {sft.gradient_accumulation_steps} and {n_processes} processes share "
            f"it: make it a multiple of {n_processes}; with sft.per_device_train_batch_size divided by as much the "
            "effective batch stays"
        )
    return sft.gradient_accumulation_steps // n_processes


class OneGpu(SFTConfig):
    """Settings of a process that takes one GPU, however many it sees.

    On more, transformers would split each batch over all of them, and take as many more rows.
    """

    @property
    def n_gpu(self) -> int:
        """0 or 1."""
        return min(super().n_gpu, 1)


def config(params: Params, n_rows: int, folder: Path, eos: str, n_processes: int = 1) -> SFTConfig:
    """What trl is told for this profile; checkpoints go into `folder`.

    ParameterError where the processes cannot share a step.
    """
    sft, on_cpu, seed = params.sft, params.runtime.device == "cpu", params.sft.seed  # of all that training draws
    layout = batching(sft, params.runtime.device)
    total, every = steps(sft, n_rows), max(1, steps(sft, n_rows) // max(1, sft.evaluations))
    if layout["packing"]:  # how many sequences the rows fill is known to trl only: a share of the steps instead
        total, every = sft.max_steps or -1, min(0.99, 1 / max(1, sft.evaluations))
    return OneGpu(
        **sft.model_dump(include=TAKEN),
        output_dir=str(folder),
        max_steps=total,
        per_device_eval_batch_size=sft.per_device_train_batch_size,
        gradient_accumulation_steps=share(sft, n_processes),
        lr_scheduler_type="linear",
        max_length=None if layout["padding_free"] and not layout["packing"] else sft.max_length,  # `rows` has cut them
        completion_only_loss=True,
        eos_token=eos,
        packing=layout["packing"],
        eval_packing=False,  # a validation loss is over the same rows whatever the layout
        padding_free=layout["padding_free"],
        bf16=loading.computing(params.model.dtype) == torch.bfloat16,
        use_cpu=on_cpu,
        seed=seed,
        data_seed=seed,
        train_sampling_strategy="group_by_length",
        include_num_input_tokens_seen="non_padding",
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=sft.early_stopping_patience > 0,
        metric_for_best_model="eval_loss",
        restore_callback_states_from_checkpoint=True,  # early stopping goes on counting after a kill
        logging_steps=1,
        logging_nan_inf_filter=False,
        dataloader_pin_memory=not on_cpu,
        disable_tqdm=False,
    )


def settle_adapter(model: torch.nn.Module, base: str, revision: str = "", dtype: torch.dtype = torch.float32) -> None:
    """Cast trainable weights to `dtype` (a resume would make them float32), and settle what adapter_config.json says.

    It names `base`, not a local path, and lists the adapted layers in order, which a set has not.
    """
    adapted = model.peft_config["default"]
    adapted.base_model_name_or_path, adapted.revision = base, revision or None
    adapted.target_modules = sorted(adapted.target_modules)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.to(dtype)


def run(params: Params, data: Path, train_set: str, folder: Path) -> dict:
    """Train the adapter of `train_set` on the rows in `data`, the folder of 02, into `folder`; see `callbacks.result`.

    Goes on from the last whole checkpoint in `folder`, but for a sharded model, which starts anew. Every process of a
    launcher calls it, the first one writes. ParameterError where the processes cannot share the work, TrainingError
    with the remedy where it fails.
    """
    sharded, dataset, base = distributed.sharded(), params.dataset_of(train_set), params.model.base
    if sharded:
        distributed.check_sharding(params)
        patches.name_layers_plainly()
    with explained(params):
        tok = loading.tokenizer(base)
        known, dropped = rows(splits.read(data, "train", dataset, params.data.union), params, tok)
        few = params.sft.eval_rows or None
        held_out = splits.sample(data, "validation", dataset, params.data.union, few, params.seed)
        held_out, _ = rows(held_out, params, tok)
        args = config(params, len(known), folder, tok.eos_token, distributed.count())
        torch.manual_seed(args.seed)
        model = loading.quantized(base, params.model.dtype, distributed.own_device(params.runtime.device), sharded)
        model.set_attn_implementation(batching(params.sft, params.runtime.device)["attention"])
        trainer = Trainer(
            model=model,
            args=args,
            train_dataset=known,
            eval_dataset=held_out,
            processing_class=tok,
            peft_config=lora(params.sft),
            callbacks=callbacks.callbacks(params.sft, folder, tok, list(held_out["prompt"])),
        )
        # FSDP takes one dtype; accelerate then keeps float32 copies of what is trained
        settle_adapter(trainer.model, base.path, base.revision, model.dtype if sharded else torch.float32)
        checkpoint = distributed.everyone(callbacks.last_checkpoint(folder))[0]
        # the base's own loss; `trainer.evaluate()` here would have accelerate take the model for prepared, and never
        # average its gradients over the processes
        args.eval_on_start = checkpoint is None
        if sharded:  # no checkpoint rather than one that is not restored: a rerun starts anew
            args.save_strategy = "no"
        trainer.train(resume_from_checkpoint=checkpoint)
        counts = {"eval_rows": len(held_out), "train_rows": len(known), "rows_too_long": dropped}
        result = callbacks.result(trainer, folder, counts | {"rows_masked": masked(trainer.train_dataset)})
        trainer.save_model(folder)
    distributed.everyone(None)
    with safe_open(folder / "adapter_model.safetensors", "pt") as saved:
        if not saved.keys():
            raise TrainingError(
                f"{folder} holds an adapter without weights: this version of peft cannot save a sharded one"
            )
    for leftover in (*folder.glob("checkpoint-*"), *folder.glob("training_args.bin")) if distributed.first() else ():
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    return result


def launched(profile: str, train_set: str, overrides: str = "") -> None:
    """Make the artefact that the notebook makes for `train_set`, in this process and those of its launcher."""
    changes = parse_set(overrides)
    params = load(profile, changes)
    distributed.join(params.runtime.device)
    torch.set_num_threads(params.runtime.threads)
    if train_set not in params.sft.train_sets:
        raise ParameterError(f"'{train_set}' is not in sft.train_sets{nearest(train_set, params.sft.train_sets)}")
    if params.runtime.device == "cuda" and not torch.cuda.is_available():
        raise ParameterError(f"params/{profile}.yaml: runtime.device is cuda and no GPU is visible")
    share(params.sft, distributed.count())
    study = notebook.Run("sft", profile, params, changes)
    data, adapter = study.require("data"), study.artefact(train_set)
    if distributed.everyone(adapter.ready)[0]:
        print(f"{adapter.folder} is there already")
        return distributed.leave()
    facts = {"train_set": train_set, "dataset": params.dataset_of(train_set)}
    with adapter.making(**facts) if distributed.first() else contextlib.nullcontext({}) as record:
        distributed.everyone(None)  # the folder is there
        record["result"] = run(params, data.folder, train_set, adapter.folder)
        if distributed.first():
            layout, keys = batching(params.sft, params.runtime.device), {"sft": adapter.key, "data": data.key}
            publish.describe(adapter.folder, params, profile, changes, train_set, keys, record["result"], layout)
    if distributed.first():
        print(adapter.folder, *(f"{k} {v}" for k, v in record["result"].items()), sep="\n")
    distributed.leave()
