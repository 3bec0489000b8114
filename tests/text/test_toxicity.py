import shutil
from pathlib import Path

import numpy as np
import pytest

from s2utils.text import toxicity

NEUTRAL = "The cat sat on the mat because it was warm."
INSULT = "You are a stupid idiot and everyone hates you."


def test_an_insult_ranks_above_a_neutral_sentence_in_their_order():
    neutral, insult, again, empty, last = toxicity.toxicity([NEUTRAL, INSULT, NEUTRAL, "", INSULT], "profanity-check")
    assert 0 <= neutral == again < 0.1 < 0.9 < insult == last <= 1 and empty < insult
    assert toxicity.toxicity([], "profanity-check").shape == (0,)


@pytest.mark.parametrize("name", sorted(toxicity.PICKLES))
def test_a_changed_pickle_is_refused_before_it_is_loaded(tmp_path, monkeypatch, name):
    real = Path(toxicity.importlib.util.find_spec("profanity_check").origin).parent
    shutil.copytree(real / "data", tmp_path / "data", copy_function=shutil.copyfile)
    spec = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr(toxicity.importlib.util, "find_spec", lambda _: spec)
    toxicity.check_pickles()
    with open(tmp_path / name, "ab") as file:
        file.write(b"\x00")
    with pytest.raises(RuntimeError, match="pinned is .*reinstall alt-profanity-check==1.9.1"):
        toxicity.toxicity([NEUTRAL], "profanity-check")


LABELS = "toxicity severe_toxicity obscene identity_attack insult threat sexual_explicit male christian".split()


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """Save a random RoBERTa that scores these labels; its biases make the identity labels the highest."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForSequenceClassification

    def make(labels=LABELS) -> tuple[str, torch.nn.Module]:
        folder = tmp_path_factory.mktemp("roberta")
        words = ["<s>", "<pad>", "</s>", "<unk>", *sorted({*NEUTRAL.split(), *INSULT.split()})]
        raw = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
        raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
        PreTrainedTokenizerFast(tokenizer_object=raw, **special).save_pretrained(folder)
        torch.manual_seed(0)
        config = RobertaConfig(
            vocab_size=len(words), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
            max_position_embeddings=514, id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
        )  # fmt: skip
        network = RobertaForSequenceClassification(config).eval()
        with torch.no_grad():
            network.classifier.out_proj.weight.normal_()
            network.classifier.out_proj.bias[-2:] = 9.0
        network.save_pretrained(folder)
        return str(folder), network

    return make


def test_a_classifier_gives_its_highest_toxicity_label_as_a_probability(classifier):
    import torch
    from transformers import AutoTokenizer

    folder, network = classifier()
    texts = [NEUTRAL, INSULT, "", "cat"]
    scores = toxicity.toxicity(texts, folder, batch_size=3)
    tok = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        logits = torch.cat(
            [network(**tok(t or "", return_tensors="pt", padding="max_length", max_length=12)).logits for t in texts]
        )
    assert np.allclose(scores, logits[:, :7].sigmoid().amax(dim=1).numpy(), atol=1e-5)
    assert (logits[:, 7:].sigmoid() > 0.99).all() and scores.max() < 0.99  # identity labels are left out


def test_long_texts_are_cut_not_refused(classifier):
    folder, _ = classifier()
    assert toxicity.toxicity([NEUTRAL * 500], folder).shape == (1,)


def test_a_classifier_without_a_toxicity_label_is_refused(classifier):
    folder, _ = classifier(["positive", "negative"])
    with pytest.raises(ValueError, match="has no toxicity label; it has positive, negative"):
        toxicity.toxicity([NEUTRAL], folder)


def test_a_detoxify_checkpoint_scores_as_the_same_weights_in_safetensors(classifier, tmp_path):
    import torch

    folder, network = classifier()
    path = Path(folder) / "unbiased.ckpt"
    config = {"dataset": {"args": {"classes": LABELS}}, "arch": {"args": {"model_type": "roberta-base"}}}
    weights = network.state_dict() | {"roberta.embeddings.position_ids": torch.arange(4)}
    torch.save({"config": config, "state_dict": weights}, path)
    texts = [NEUTRAL, INSULT]
    assert np.allclose(toxicity.toxicity(texts, str(path)), toxicity.toxicity(texts, folder), atol=1e-6)


def test_a_checkpoint_that_runs_code_or_is_another_is_refused(classifier):
    import torch

    folder, _ = classifier()
    path = Path(folder) / "bad.ckpt"
    for held in ({"config": {}, "state_dict": {}}, {"run": Path("x")}, [1]):
        torch.save(held, path)
        with pytest.raises(ValueError, match="not a Detoxify checkpoint"):
            toxicity.toxicity(["a"], str(path))
