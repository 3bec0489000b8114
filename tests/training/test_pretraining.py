"""What is trained from nothing: weights by epochs, raw texts without those that are held out, artefacts made once."""

import pandas as pd
import pytest
import yaml
from conftest import forget_digests, write_jsonl
from tiny_ladder import TEXTS

from s2utils.data import corpora
from s2utils.training import byte_bpe, ladder, pretraining
from s2utils.workflow.artefacts import MissingArtefact
from s2utils.workflow.notebook import Run
from s2utils.workflow.params import load

ARM = {"only": [], "raw": [], "upsampled": [], "times": 1.0}
CHANGED = {
    "ladder": {"context": 16, "vocab_size": 512, "parameters": [20_000], "bytes": 3_000, "checkpoints": [256],
               "seeds": [1], "held_out_bytes": 1_000, "ablation": {"parameters": 20_000, "bytes": 2_000, "seeds": [1]}},
    "fit": {"reference_domain": "code"},
}  # fmt: skip
DROPPED = {"code": "def never_kept(x):\n    return x\n" * 4, "prose": "Noise that a filter drops. " * 9}


@pytest.fixture
def run(tree) -> Run:
    """A finished corpus of two components: two epochs of code, one of prose; each lost one document to the filters."""
    base = load("smoke")
    components = dict.fromkeys(base.corpus.components) | {
        name: corpora.folder(f"texts/{name}.jsonl", domain=name, epochs=epochs).model_dump()
        for name, epochs in {"code": 2.0, "prose": 1.0}.items()
    }
    arms = dict.fromkeys(base.ladder.ablation.arms) | {
        "mix": ARM,
        "noisy-raw": ARM | {"only": ["code"], "raw": ["code"]},
    }
    changed = CHANGED | {"corpus": {"components": components, "pipeline": {"web": []}}, "extends": "smoke"}
    changed["ladder"] = changed["ladder"] | {"ablation": changed["ladder"]["ablation"] | {"arms": arms}}
    (tree / "params" / "tiny.yaml").write_text(yaml.safe_dump(changed))
    forget_digests()
    rows = [
        corpora.Document(f"{name}.jsonl:{i + 1}", name, name, text)
        for name, texts in TEXTS.items() for i, text in enumerate(texts)
    ]  # fmt: skip
    for name in TEXTS:
        own = [{"text": row.text} for row in rows if row.component == name]
        write_jsonl(tree / "texts" / f"{name}.jsonl", *own, {"text": DROPPED[name]})
    made = Run("ladder", "tiny", load("tiny"))
    with (corpus := made.artefact(step="corpus")).making():
        corpora.split(corpus.folder, made.params.corpus.components, iter(rows), 0.2, made.params.seed)
    return made


def size(texts: list[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def test_weights_are_bytes_times_epochs_and_sum_to_1(run):
    found = pretraining.material(run)
    assert sum(found.weights.values()) == pytest.approx(1) and list(found.weights) == ["code", "prose"]
    code, prose = 2 * size(found.texts["code"]), size(found.texts["prose"])
    assert found.weights["code"] == pytest.approx(code / (code + prose))
    assert len(found.tok) == 512 and byte_bpe.ids(["é\n"], found.tok)


def test_texts_are_those_of_train_and_held_out_ones_are_apart(run):
    found, folder = pretraining.material(run), run.require("corpus").folder
    for part, name in ((found.texts, "train"), (found.held_out, "held_out")):
        frame = pd.read_parquet(folder / f"{name}.parquet")
        assert {d: list(texts) for d, texts in frame.groupby("domain")["text"]} == part
    assert set(found.texts) == set(found.held_out) == {"code", "prose"}


def test_raw_documents_are_those_before_the_filters_without_what_is_held_out(run):
    found = pretraining.material(run, ("code",))
    raw = found.texts["code-raw"]
    assert "prose-raw" not in found.texts and DROPPED["code"] in raw and DROPPED["code"] not in found.texts["code"]
    assert set(found.texts["code"]) < set(raw) and not set(raw) & set(found.held_out["code"])
    assert list(found.weights) == ["code", "prose"], "an arm's raw domain takes the place of its own"
    assert set(found.held_out) == {"code", "prose"}


def test_what_is_made_is_read_and_not_made_again(run, monkeypatch):
    made = pretraining.make_ablation(run)
    assert made["run"].tolist() == ["mix-1", "noisy-raw-1"] and run.artefact(step="ablation").ready
    for row in made.itertuples():
        folder = pretraining.checkpoint(run.artefact(step="ablation").folder, row)
        assert (folder / "config.json").is_file() and (folder / "model.safetensors").is_file()
    monkeypatch.setattr(pretraining, "material", None)
    monkeypatch.setattr(ladder, "train_all", None)
    assert pretraining.make_ablation(run).equals(made)
    with pytest.raises(TypeError, match="not callable"):  # the ladder is another artefact, and not made
        pretraining.make_ladder(run)


def test_rungs_have_a_row_a_checkpoint(run):
    made = pretraining.make_ladder(run)
    assert made["run"].unique().tolist() == ["20000-1"] and made["tokens"].iloc[0] == 256 and len(made) == 2
    assert pretraining.make_ladder(run).equals(made)


def test_without_a_corpus_the_notebook_that_makes_it_is_named(tree):
    with pytest.raises(MissingArtefact, match="09_corpus"):
        pretraining.material(Run("ladder", "smoke", load("smoke")))
