"""Tiny random decoders as five families publish theirs: tokenizer, special tokens, chat template, shape."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import CORPUS

HEADERS = (  # Llama-3's manner: a header a turn
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim "
    "}}<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif "
    "%}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TURNS = (  # Gemma's manner: no system role
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not "
    "supported') }}{% endif %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim "
    "}}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
KINDS = {  # special tokens in the order of their ids, what they are for, the chat template
    "gpt2": (["<|endoftext|>"], dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>"), None),
    "pythia": (
        ["<|endoftext|>", "<|padding|>"],
        dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>"),
        None,
    ),
    "llama3": (
        ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|finetune_right_pad_id|>"]
        + ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"},
        HEADERS,
    ),
    "qwen2": (
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
        CHATML,
    ),
    "gemma": (
        ["<pad>", "<eos>", "<bos>", "<unk>"],
        {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"},
        TURNS,
    ),
}
TYPES = {  # as transformers calls the architecture, and what is its own
    "gpt2": ("gpt2", {}),
    "pythia": ("gpt_neox", {}),
    "llama3": ("llama", {"num_key_value_heads": 2}),
    "qwen2": ("qwen2", {"num_key_value_heads": 2}),
    "gemma": ("gemma", {"num_key_value_heads": 1, "head_dim": 16}),
}


def tokenizer(kind: str):
    """The tokenizer of a kind as published: nothing prepared."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special, named, template = KINDS[kind]
    if kind == "gemma":  # SentencePiece's manner: blanks are ▁, unknown characters their bytes
        bpe = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        bpe.normalizer = normalizers.Replace(" ", "▁")
        bpe.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        alphabet = {"special_tokens": [*special, *(f"<0x{byte:02X}>" for byte in range(256))]}
    else:
        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        first = special if kind == "pythia" else []
        alphabet = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet(), "special_tokens": first}
    bpe.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=440, show_progress=False, **alphabet))
    if kind == "gemma":  # its bytes are tokens like others, and its turns are added but not special
        bpe = Tokenizer.from_str(json.dumps(json.loads(bpe.to_str()) | {"added_tokens": []}))
        bpe.add_tokens([AddedToken(name, normalized=False) for name in ("<start_of_turn>", "<end_of_turn>")])
    bpe.add_special_tokens(special)
    if kind in ("llama3", "gemma"):
        begin = named["bos_token"]
        ids = [(begin, bpe.token_to_id(begin))]
        bpe.post_processor = processors.TemplateProcessing(single=f"{begin} $A", special_tokens=ids)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, chat_template=template, **named)


def decoder(kind: str, folder: Path) -> Path:
    """`folder` with a random two-layer model of a kind in bf16, and its tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tok = tokenizer(kind)
    shape = {
        "vocab_size": len(tok), "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "bos_token_id": tok.bos_token_id, "eos_token_id": tok.eos_token_id, "max_position_embeddings": 2048,
    }  # fmt: skip
    torch.manual_seed(0)
    config = AutoConfig.for_model(TYPES[kind][0], **(shape | TYPES[kind][1]))
    AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder
