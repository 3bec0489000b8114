"""What is trained from nothing on the corpus of 09: the ladder of sizes, and one small model for each kind of corpus.

Texts are those that the filters left and that are not held out; `ladder.RAW` after a domain's name stands for its
documents before the filters, held-out texts left out of them too. Weights are shares of the bytes, documents counted as
often as their epochs say. One byte-level tokenizer, learnt from the mix, serves all. Trap: a domain that is smaller
than its share of a budget is seen several times (`epochs` of a run tells).

    python -m s2utils make ladder cpu
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from transformers import PreTrainedTokenizerBase

from s2utils.data import corpora
from s2utils.models import likelihood
from s2utils.models.parameters import Weights
from s2utils.training import byte_bpe, ladder
from s2utils.training.parameters import Ladder
from s2utils.workflow import artefacts
from s2utils.workflow.notebook import Run
from s2utils.workflow.params import Params

ROWS = "checkpoints.parquet"


class Material(NamedTuple):
    """What models from nothing are made of."""

    texts: dict[str, list[str]]  # by domain
    held_out: dict[str, list[str]]
    weights: dict[str, float]  # domain → share of the mix
    tok: PreTrainedTokenizerBase


def material(run: Run, raw: tuple[str, ...] = ()) -> Material:
    """Texts, weights and tokenizer of the corpus of 09; of domains in `raw` also the documents before the filters."""
    folder, p = run.require("corpus").folder, run.params
    frame, unseen = (pd.read_parquet(folder / f"{name}.parquet") for name in ("train", "held_out"))
    components = {name: p.corpus.components[name] for name in frame["component"].unique()}
    sizes = frame["text"].map(lambda text: len(text.encode()))
    sizes *= frame["component"].map(lambda name: components[name].epochs)
    weights = sizes.groupby(frame["domain"], sort=False).sum() / sizes.sum()
    texts = _by_domain(frame)
    texts |= {f"{domain}{ladder.RAW}": found for domain, found in _before(components, unseen, raw, p.seed).items()}
    held_out = _by_domain(unseen[unseen["domain"].isin(texts)])
    tok = byte_bpe.train((text for domain in weights.index for text in texts[domain]), p.ladder.vocab_size)
    for document in itertools.chain.from_iterable(texts.values()):
        likelihood.encoded(tok, [document])  # BytesError where bits a byte would be of another text
    return Material(texts, held_out, weights.to_dict(), tok)


def make_ladder(run: Run) -> pd.DataFrame:
    """Train every size, unless that is done; one row a checkpoint, as `ladder.train`."""
    return make(run, "ladder", ladder.rungs)


def make_ablation(run: Run) -> pd.DataFrame:
    """Train a model an arm and seed, unless that is done; one row each, as `ladder.train`."""
    arms = run.params.ladder.ablation.arms.values()
    raw = tuple(dict.fromkeys(domain for arm in arms for domain in arm.raw))
    return make(run, "ablation", ladder.arms, raw=raw)


def make(
    run: Run, step: str, plan: Callable[[Ladder, dict], list[ladder.Run]], build: Callable = ladder.llama,
    raw: tuple[str, ...] = (),
) -> pd.DataFrame:  # fmt: skip
    """`made` of what `plan` makes of (parameters of the ladder, weights of the mix); `build` as in `ladder.train`."""
    p = run.params

    def train(given: Material, folder: Path) -> pd.DataFrame:
        return ladder.train_all(
            plan(p.ladder, given.weights), given.texts, given.held_out, given.tok, p.ladder, folder,
            p.runtime.threads, p.runtime.device, build,
        )  # fmt: skip

    return made(run, step, train, raw)


def made(
    run: Run, step: str, train: Callable[[Material, Path], pd.DataFrame], raw: tuple[str, ...] = ()
) -> pd.DataFrame:
    """What `train` makes of the corpus in the folder of the artefact of `step`, unless that is done.

    One row a checkpoint, as `ladder.train`; `raw` as in `material`.
    """
    artefact = run.artefact(step=step)
    if not artefact.ready:
        given = material(run, raw)
        with artefact.making():
            rows = train(given, artefact.folder)
            with artefacts.replacing(artefact.folder / ROWS, "wb") as file:
                rows.to_parquet(file, index=False)
    return pd.read_parquet(artefact.folder / ROWS)


def _before(components: dict, unseen: pd.DataFrame, domains: tuple[str, ...], seed: int) -> dict[str, list[str]]:
    """Documents of `domains` as they were read, but for those that are held out."""
    ids, texts, found = set(zip(unseen["component"], unseen["id"])), set(unseen["text"]), defaultdict(list)
    for name, component in components.items():
        if component.domain.startswith("{") or component.domain in domains:
            for document in corpora.documents(name, component, seed):
                held = (name, document.id) in ids or document.text in texts
                if document.domain in domains and not held:
                    found[document.domain].append(document.text)
    return dict(found)


def _by_domain(frame: pd.DataFrame) -> dict[str, list[str]]:
    return frame.groupby("domain", sort=False)["text"].apply(list).to_dict()


def checkpoint(folder: Path, row) -> Path:
    """Folder of a row's checkpoint, which transformers loads."""
    return folder / row.run / row.checkpoint


def weights(folder: Path, row, params: Params) -> Weights:
    """A row's checkpoint, as `loading` takes it."""
    return params.model.base.model_copy(update={"path": str(checkpoint(folder, row)), "revision": ""})
