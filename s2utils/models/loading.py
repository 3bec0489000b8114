"""Load tokenizers and language models: published weights, their NF4 form, adapters, and the prompts they answer.

What a user, a data set or another model wrote stands in a prompt as text, its special tokens too (`special_tokens`).
Trap: bitsandbytes packs every 4-bit layer in place at the first evaluation on a CPU with AVX512-BF16,
after which most LoRA gradients are silently zero; `quantized` switches that off.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from s2utils.models import bases, chat_templates, special_tokens
from s2utils.models.parameters import Model, Weights
from s2utils.workflow import packaged, paths
from s2utils.workflow.params import ParameterError


def located(weights: Weights) -> tuple[str, dict]:
    """(folder or hub id, keyword arguments) for `from_pretrained`."""
    if weights.path.startswith("embedded:"):
        return str(packaged.resolve(weights.path)), {}
    local = paths.root() / weights.path
    if local.is_dir():
        return str(local), {}
    return weights.path, {"revision": weights.revision or "main"}


def folder(weights: Weights) -> Path:
    """Local folder of the model's configuration and safetensors, fetched from the hub where it is not local."""
    path, options = located(weights)
    if Path(path).is_dir():
        return Path(path)
    from huggingface_hub import snapshot_download

    wanted = ["model*.safetensors", "model.safetensors.index.json", "config.json", "generation_config.json"]
    return Path(snapshot_download(path, allow_patterns=wanted, **options))


def tokenizer(weights: Weights) -> PreTrainedTokenizerBase:
    """Tokenizer with a padding token that is not the end-of-sequence token, padding on the left.

    An adapter's folder that holds none has that of the base beneath it.
    """
    path, options = located(weights)
    if bases.is_adapter(path) and not any(Path(path).glob("tokenizer*")):
        return bases.beneath(Path(path), tokenizer)
    tok = AutoTokenizer.from_pretrained(path, **options)
    return prepared(tok, _vocab_size(weights))


def prepared(tok: PreTrainedTokenizerBase, vocab_size: int | None = None) -> PreTrainedTokenizerBase:
    """Left padding, with the token that `special_tokens.padding` chooses: training and generation pad alike."""
    tok.pad_token = special_tokens.padding(tok, vocab_size)
    tok.padding_side = "left"
    return tok


def _vocab_size(weights: Weights) -> int | None:
    """How many tokens the model has embeddings of; None for a folder that holds a tokenizer alone."""
    path, options = located(weights)
    if bases.is_adapter(path):
        return bases.beneath(Path(path), _vocab_size)
    if Path(path).is_dir() and not (Path(path) / "config.json").is_file():
        return None
    return AutoConfig.from_pretrained(path, **options).get_text_config().vocab_size


def usable(device: str) -> str:
    """`device`, or ParameterError where it is a GPU that is not there."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ParameterError(
            "runtime.device is cuda and no GPU is visible: make this on a machine with one, or use PROFILE=cpu"
        )
    return device


def nearest(device: str) -> str:
    """`device`, or the CPU where it is a GPU that is not there: for what a run computes while it collects."""
    return "cpu" if device.startswith("cuda") and not torch.cuda.is_available() else device


def computing(dtype: str) -> torch.dtype:
    """What a 4-bit base and its adapter compute in under `model.dtype`: no float16, which gradients outgrow."""
    return torch.float32 if dtype == "float32" else torch.bfloat16


def nf4(dtype: torch.dtype = torch.bfloat16, storage: torch.dtype = torch.uint8) -> BitsAndBytesConfig:
    """4-bit NormalFloat with double quantisation, as QLoRA (Dettmers et al. 2023); `storage` holds the bits."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_quant_storage=storage,
    )


def full(weights: Weights, dtype: str, device: str = "cpu") -> PreTrainedModel:
    """The model in `dtype`, for inference; of an adapter's folder the 4-bit base beneath its unmerged adapter."""
    device, (path, options) = usable(device), located(weights)
    if bases.is_adapter(path):
        return bases.beneath(Path(path), lambda base: adapted(base, Path(path), dtype, device))
    model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype), use_safetensors=True, **options)
    return model.to(device).eval()


def quantized(weights: Weights, dtype: str, device: str = "cpu", sharded: bool = False) -> PreTrainedModel:
    """The model with NF4 linear layers on `device`; it computes in `computing(dtype)`, as its other weights are.

    The 4 bits are those of the bf16 weights whatever it computes in. `sharded`: for FSDP, which splits float tensors of
    one dtype and places them itself, so the bits are kept as that.
    """
    compute, (path, options) = computing(dtype), located(weights)
    if bases.is_adapter(path):
        raise ParameterError(
            f"{weights.path} is an adapter, which can be asked and compared: train on the base that it names, "
            "with model.base.path"
        )
    settings = {"quantization_config": nf4(compute, compute)} if sharded else {
        "quantization_config": nf4(compute), "device_map": {"": usable(device)},
    }  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.bfloat16, use_safetensors=True, **settings, **options
    )
    return keep_unpacked(_compute_in(model, compute))


def _compute_in(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """Cast what is not quantised, and have the 4 bits unpacked in `dtype`; `model.to` refuses a quantised model."""
    import bitsandbytes

    for weight in model.parameters():
        if isinstance(weight, bitsandbytes.nn.Params4bit):
            weight.quant_state.dtype = dtype
        elif weight.is_floating_point():
            weight.data = weight.data.to(dtype)
    model.config.dtype = dtype
    return model


def adapted(base: Weights, adapter: Path, dtype: str, device: str = "cpu") -> PreTrainedModel:
    """The model as it was trained: NF4 base, its LoRA layers beside the weights, not merged.

    ParameterError where the adapter is not whole or not of this base.
    """
    from peft import PeftModel

    network = quantized(base, dtype, device)
    try:
        return PeftModel.from_pretrained(network, adapter).get_base_model().eval()
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ParameterError(
            f"the adapter {adapter} does not fit the base {base.path}: {bases.first_line(error)}"
        ) from error


def keep_unpacked(model: torch.nn.Module) -> torch.nn.Module:
    """Stop bitsandbytes from packing 4-bit layers for its CPU kernel, which loses gradients and digits."""
    import bitsandbytes

    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False
    return model


def plain_prompt(question: str, model: Model) -> str:
    """The study's prompt, which the base model sees, and fine-tuned ones under the template "human_assistant"."""
    return model.prompt.format(question=question)


def example(question: str, answer: str, tok: PreTrainedTokenizerBase, model: Model) -> tuple[str, str]:
    """(prompt, completion) of a training row under `model.template`; its end-of-sequence token is left to `taught`."""
    space = "" if model.template == "chat" else " "  # a chat template ends where the answer begins
    return prompt([question], "sft", tok, model), f"{space}{special_tokens.marked(answer, tok)}"


def taught(examples: list[tuple[str, str]], tok: PreTrainedTokenizerBase) -> list[tuple[list[int], int]]:
    """(token ids, how many are the prompt's) of each (prompt, completion), with the end of sequence.

    A completion begins where prompt and whole text part, as in trl, should the prompt not end on a token boundary.
    """
    if tok.eos_token is None:
        raise ParameterError(
            f"the tokenizer of {tok.name_or_path} has no eos_token, so no model can learn to end with it"
        )
    asked = encoded([prompt for prompt, _ in examples], tok, "sft")
    whole = encoded([prompt + completion for prompt, completion in examples], tok, "sft")
    return [([*ids, tok.eos_token_id], len(os.path.commonprefix([start, ids]))) for start, ids in zip(asked, whole)]


def chat_prompt(turns: list[dict], tok: PreTrainedTokenizerBase, system: str = "") -> str:
    """`turns` ({role, content}) in the tokenizer's own chat template, ready for an answer; see `chat_templates`."""
    return chat_templates.rendered(([{"role": "system", "content": system}] if system else []) + turns, tok)


def prompt(turns: list[str], whose: str, tok: PreTrainedTokenizerBase, model: Model) -> str:
    """Prompt for alternating user and model turns (first and last are the user's), for `encoded`.

    `whose` prompt: "base", "chat" or "sft", as `ModelRow.prompt`. The chat model sees its template, the base model the
    study's plain prompt, turn after turn, and a fine-tuned model what `model.template` says. Trap: a template may hold
    the token that begins a sequence, and a fine-tuned model's prompt is tokenized like any text, which adds that token:
    it is taken out of the text.
    """
    if whose == "chat" or (whose == "sft" and model.template == "chat"):
        roles = ("user", "assistant")
        turned = [{"role": roles[i % 2], "content": t} for i, t in enumerate(turns)]
        text = chat_prompt(turned, tok, model.system_prompt)
        return text.removeprefix(tok.bos_token) if whose == "sft" and special_tokens.begins(tok) else text
    text, turns = "", [special_tokens.marked(turn, tok) for turn in turns]
    for question, answer in zip(turns[::2], [*turns[1::2], None]):
        text += plain_prompt(question, model) + (f" {answer.strip()}\n" if answer is not None else "")
    return text


def encoded(texts: list[str], tok: PreTrainedTokenizerBase, whose: str) -> list[list[int]]:
    """Token ids of prompts. A chat template holds its own special tokens, so none are added there."""
    return special_tokens.ids(texts, tok, begin=whose != "chat")
