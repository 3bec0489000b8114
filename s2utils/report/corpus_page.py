"""The card of a corpus that somebody brings, as tables and a page in reports/corpus-<name>/. No model is run.

    python -m s2utils corpus folder

What is measured: `data.corpus_card`; the mix is told by domain, each seen once. Names of
domains and documents are masked as their texts are. Trap: all texts are held in memory, so of a corpus that
does not fit take a sample.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from s2utils.data import corpora, corpus_card, corpus_mix
from s2utils.data.parameters import Component
from s2utils.report import table_pages, web
from s2utils.results import figures, tables
from s2utils.text import pii
from s2utils.text.safe import visible
from s2utils.workflow import artefacts, paths, progress
from s2utils.workflow.errors import ParameterError, UserError
from s2utils.workflow.params import Params, load

SHOWN = 12  # domains with a line of their own
TABLES = {  # in the order of the page: title, unit of averaging, caption
    "corpus_read": ("What was read", "document", "What could not be used, by reason; “kept” is what all else is of."),
    "corpus_mix": ("The mix by domain", "", "Sizes in bytes of UTF-8; each document is seen once."),
    **corpus_card.ABOUT,
}


def corpus(
    texts: Path, profile: str = "cpu", overrides: str = "", text: str = "text", domain: str = "domain", sample: int = 0
) -> Path:
    """Measure a folder or file of texts and write its page, which is returned; an earlier one of the name goes.

    `text` and `domain` name columns, `sample` documents (0: all). Raises ParameterError where there is no such folder,
    UserError where nothing of it can be read.
    """
    params, source = load(profile, overrides), texts.expanduser().absolute()
    if not source.exists():
        raise ParameterError(f"TEXTS={texts}: there is no such file or folder")
    component = corpora.folder(source, text=text, domain=f"{{{domain}}}", max_documents=sample)
    held, frame, read = _read(component, params.seed)
    made = {"corpus_read": read} | _tables(held, frame, component, params)
    name = web.slug(source.name.partition(".")[0]) or "texts"
    with artefacts.replacing_folder(paths.reports(f"corpus-{name}")) as folder:
        _figure(frame, folder / "figures")
        _page(folder, _shown(source.name), profile, made)
    page = paths.reports(f"corpus-{name}") / "index.html"
    print(f"\n{read.to_string(index=False)}\n\nWritten: {page.relative_to(paths.root())} and the tables beside it.")
    return page


def _read(component: Component, seed: int) -> tuple[list[str], pd.DataFrame, pd.DataFrame]:
    """(texts, a row of each, table of what was read)."""
    left_out: Counter = Counter()
    try:
        found = corpora.documents("texts", component, seed, left_out)
        frame = pd.DataFrame(progress.bar(found, desc="read"), columns=["id", "domain", "component", "text"])
    except OSError as error:
        raise UserError(f"{error.filename or component.path}: cannot be read ({error.strerror or error})") from None
    read = pd.DataFrame([("kept", len(frame)), *left_out.most_common()], columns=["reason", "n"])
    if frame.empty:
        why = ", ".join(f"{n} {reason}" for reason, n in left_out.most_common())
        raise UserError(
            f"{component.path}: no document can be used ({why}); a .txt file is one text, a line of JSON has it in "
            f"column {component.text!r} and its domain in {component.domain[1:-1]!r} (TEXT= and DOMAIN= name others)"
        )
    return frame.pop("text").tolist(), frame, read


def _tables(texts: list[str], documents: pd.DataFrame, component: Component, params: Params) -> dict[str, pd.DataFrame]:
    """Name → table; `documents` is given the columns that are measured."""
    from s2utils.models import loading

    tokenizer = loading.tokenizer(params.model.base)
    measured = corpus_card.measured(texts, documents, params.s2.toxicity_model, tokenizer)
    documents["bytes"] = measured["bytes"].to_numpy()
    sizes = measured.groupby("domain", sort=False)["bytes"].agg(documents="size", raw_size="sum")
    sizes = sizes.rename_axis("component").reset_index()
    mix = corpus_mix.table(sizes, dict.fromkeys(sizes["component"], component)).rename(columns={"component": "domain"})
    made = corpus_card.tables(
        texts,
        measured,
        params.s2.near_duplicate,
        params.corpus.topics,
        ["texts"],
        params.seed,
        corpus_card.published(),
    )
    made["corpus_samples"] = made["corpus_samples"].drop(columns="component")
    return {"corpus_mix": mix} | made


def _figure(documents: pd.DataFrame, folder: Path) -> None:
    """Lengths by domain; of many domains, all in one."""
    figures.style()
    shown = documents[documents["bytes"] <= documents["bytes"].quantile(0.99)]
    named = shown.assign(domain=[f" {_shown(d)[:40]}".replace("$", r"\$") for d in shown["domain"]])  # no formula
    figure, axis = plt.subplots(figsize=(9, 3.6))
    hue = "domain" if named["domain"].nunique() <= SHOWN else None
    sns.ecdfplot(named, x="bytes", hue=hue, log_scale=True, ax=axis)
    axis.set(xlabel="bytes a document (log scale)", ylabel="share of documents")
    alt = "Cumulative share of documents by length" + (", a line a domain." if hue else ".")
    figures.save(figure, "corpus_lengths", folder, alt, "The longest hundredth is left out.")


def _page(folder: Path, name: str, profile: str, made: dict[str, pd.DataFrame]) -> None:
    """The tables in `folder`/tables, and index.html, last."""
    found, gaps = [], []
    for table, (title, unit, caption) in TABLES.items():
        frame = made.get(table)
        if frame is None or frame.empty:
            gaps.append(f"{title}: left out, for there are too few documents to tell.")
            continue
        for column in filter(lambda c: tables.is_text(frame[c]), frame):
            frame[column] = [_shown(value) if isinstance(value, str) else value for value in frame[column]]
        about = {"title": title, "unit": unit, "caption": caption, "protocol": f"Profile {profile}."}
        tables.write(frame.round(6), table, folder / "tables", about)
        grid = table_pages.grid(tables.read(folder / "tables" / f"{table}.csv"), table)
        files = [f"{table}.{kind}" for kind in tables.FILES]
        found.append({"name": table, "title": title, "caption": caption, "grid": grid, "files": files})
    read = made["corpus_read"]
    n, others = int(read.loc[0, "n"]), int(read.loc[1:, "n"].sum())
    lede = f"{n:,} documents were read, {others:,} were not used. Tokens are those of profile {profile}'s base model."
    values = {"title": f"What is in {name}", "lede": lede, "gaps": gaps, "tables": found}
    values["figure"] = figures.read(folder / "figures" / "corpus_lengths.png")
    web.write_page(web.Site(folder, "corpus"), "index.html", "corpus", values, scripts=("table",))


def _shown(text: str) -> str:
    """Text of others, personal details masked and controls made visible."""
    return visible(pii.mask(text))
