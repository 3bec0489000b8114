"""Two domains of made-up text, a byte-level tokenizer of them, and a ladder that trains in a second."""

import functools

from transformers import PreTrainedTokenizerBase

from s2utils.training import byte_bpe
from s2utils.training.parameters import Ladder

TEXTS = {
    "code": [f"def f{i}(x):\n    return x + {i * i}\n" * (1 + i % 4) for i in range(120)],
    "prose": [f"The cat number {i * i} sat on a mat. It was warm é.\n" * (1 + i % 9) for i in range(90)],
}
EVEN = {"code": 0.5, "prose": 0.5}


@functools.cache
def tokenizer() -> PreTrainedTokenizerBase:
    """512 tokens."""
    return byte_bpe.train([text for texts in TEXTS.values() for text in texts], 512)


def ladder(**changes) -> Ladder:
    """Parameters; keyword arguments replace some."""
    given = {
        "vocab_size": 512, "context": 16, "parameters": [20_000, 40_000], "bytes": 6_000, "checkpoints": [640, 1280],
        "seeds": [1], "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "learning_rate": 0.02,
        "adamw_learning_rate": 0.02, "weight_decay": 0.0, "warmup_steps": 0.1, "lr_scheduler_type": "linear",
        "held_out_bytes": 1_000,
        "ablation": {"parameters": 20_000, "bytes": 3_000, "seeds": [1, 2], "arms": {
            "mix": {"only": [], "raw": [], "upsampled": [], "times": 1.0},
            "code": {"only": ["code"], "raw": [], "upsampled": [], "times": 1.0},
        }},
    }  # fmt: skip
    return Ladder(**given | changes)
