"""Toxicity of texts, 0–1: the highest label's probability.

`profanity-check` is a linear model that works offline; it catches swearing and insults, and misses
polite hate. Any other name is a sequence classifier with sigmoid labels (the study: Detoxify
"unbiased", on the hub as unitary/unbiased-toxic-roberta, or its own `.ckpt` file; identity labels are left out).
Trap: the offline model is a pickle inside its package, so its files are checked by hash before import.
"""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from s2utils.workflow import artefacts, paths

PICKLES = {
    "data/model.joblib": "aeafc04849d4d93db4721cf30a86ebf22085595294b8a07d51918e7fa98f538b",
    "data/vectorizer.joblib": "19c5200dc6a41f026e0558e2f164f5fe8d8f58e502b46b37e4385037fcfa4831",
}
TOXIC_LABELS = {
    "toxicity", "toxic", "severe_toxicity", "severe_toxic", "obscene", "identity_attack", "identity_hate", "insult",
    "threat", "sexual_explicit",
}  # fmt: skip


def toxicity(texts: list[str], model: str, batch_size: int = 32) -> np.ndarray:
    """Highest toxicity label of each text, shape (len(texts),)."""
    if not texts:
        return np.empty(0)
    if model == "profanity-check":
        check_pickles()
        from profanity_check import predict_prob

        return np.asarray(predict_prob(texts), dtype=float)
    return _classifier(texts, model, batch_size)


def check_pickles() -> None:
    """Raise unless the offline model's files are the pinned ones."""
    folder = Path(importlib.util.find_spec("profanity_check").origin).parent
    for name, pinned in PICKLES.items():
        digest = artefacts.sha256(folder / name)
        if digest != pinned:
            raise RuntimeError(
                f"{folder / name} has sha256 {digest}, pinned is {pinned}: reinstall alt-profanity-check==1.9.1"
            )


def _classifier(texts: list[str], model: str, batch_size: int) -> np.ndarray:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if model.endswith((".ckpt", ".pt")):
        tokenizer, network = _detoxify(paths.root() / model)
    else:
        name, _, revision = model.partition("@")
        pinned = {"revision": revision or "main"}
        tokenizer = AutoTokenizer.from_pretrained(name, **pinned)
        network = AutoModelForSequenceClassification.from_pretrained(name, use_safetensors=True, **pinned)
    network.eval().to(device)
    columns = [i for i, label in network.config.id2label.items() if label.lower() in TOXIC_LABELS]
    if not columns:
        raise ValueError(f"{model} has no toxicity label; it has {', '.join(network.config.id2label.values())}")
    scores = []
    for start in tqdm(range(0, len(texts), batch_size), desc="toxicity", unit="batch"):
        batch = tokenizer(
            texts[start : start + batch_size], padding=True, truncation=True, max_length=512, return_tensors="pt"
        )
        with torch.inference_mode():
            scores.append(network(**batch.to(device)).logits[:, columns].sigmoid().amax(dim=1).float().cpu())
    return torch.cat(scores).numpy()


def _detoxify(path: Path) -> tuple:
    """(tokenizer, network) of a checkpoint as Detoxify publishes it, read without running code from it.

    The architecture's configuration and tokenizer lie beside it, or come from the hub under the name it gives.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        labels = checkpoint["config"]["dataset"]["args"]["classes"]
        model_type, weights = checkpoint["config"]["arch"]["args"]["model_type"], checkpoint["state_dict"]
    except (KeyError, TypeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is not a Detoxify checkpoint ({type(error).__name__}: {str(error)[:120]})") from error
    base = path.parent if (path.parent / "config.json").is_file() else model_type
    config = AutoConfig.from_pretrained(
        base, id2label=dict(enumerate(labels)), label2id={k: i for i, k in enumerate(labels)}
    )
    network = AutoModelForSequenceClassification.from_config(config)
    missing, _ = network.load_state_dict(weights, strict=False)  # older checkpoints also hold position ids
    if missing:
        raise ValueError(f"{path} lacks the weights {', '.join(missing[:3])} of {base}")
    return AutoTokenizer.from_pretrained(base), network
