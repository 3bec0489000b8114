"""The write-up of a profile: the study as a short paper, made from the tables as HTML, LaTeX and Markdown.

The prose stands once, in `paper/`, without a number: every value, comparison and verdict is put in from the tables, and
sentences change with them. The same tables give the same bytes.

    python -m s2utils write-up cpu
"""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from s2utils.evaluation import metrics
from s2utils.report import web
from s2utils.report.paper import comparisons, facts, markup, phrases, tables_read, views
from s2utils.report.paper.markup import Text
from s2utils.results import tables, verdicts
from s2utils.workflow import artefacts, paths, steps
from s2utils.workflow.params import load

BASE = "Llama-2-7b"
PAPER = Path(__file__).parent
PREAMBLE = r"""\documentclass[11pt,a4paper]{article}
\usepackage[T1]{fontenc}
\usepackage{textcomp,mathptmx,courier}
\usepackage[margin=2.4cm]{geometry}
\usepackage{booktabs,graphicx,float}
\usepackage[hidelinks]{hyperref}
\setlength{\parindent}{0pt}\setlength{\parskip}{0.6em}
\setlength{\abovecaptionskip}{2pt}\setlength{\belowcaptionskip}{6pt}\sloppy
% a table wider than the page is made as wide as the page
\newsavebox{\fitbox}
\newcommand{\fitted}[1]{\sbox{\fitbox}{\small #1}\ifdim\wd\fitbox>\linewidth
  \resizebox{\linewidth}{!}{\usebox{\fitbox}}\else\usebox{\fitbox}\fi}
\begin{document}
"""


def write(profile: str, overrides: dict | str | None = None, site: web.Site | None = None) -> Path:
    """Write reports/<profile>/writeup.md, .tex and .html from the tables that are there; returns the page's path.

    `site` is the report that the page is part of; without one it stands alone.
    """
    folder, text = paths.reports(profile), markdown(profile, overrides)
    found = markup.tokens(text)
    latex = f"{PREAMBLE}{markup.to_latex(found)}\\end{{document}}\n"
    for kind, content in (("md", text), ("tex", latex)):
        with artefacts.replacing(folder / f"writeup.{kind}") as file:
            file.write(content)
    site = site or web.Site(folder, f"profile {profile}", home="writeup.html")
    values = {"title": "Write-up", "fragment": Markup(markup.to_html(found, folder))}
    return web.write_page(site, "writeup.html", "writeup", values)


def markdown(profile: str, overrides: dict | str | None = None) -> str:
    """The write-up as Markdown; pictures are named by their path in reports/<profile>/."""
    params = load(profile, overrides)
    found = tables_read.Held(profile, params)
    numbers = {kind: itertools.count(1) for kind in ("Table", "Figure")}

    def table(view: pd.DataFrame, caption: object) -> Text:
        return Text(f"Table {next(numbers['Table'])}: {markup.escape(caption)}\n\n{markup.grid(view)}")

    def figure(name: str) -> Text:
        png = found.folder / "figures" / f"{name}.png"
        if not png.is_file() or not png.with_suffix(".pdf").is_file():
            return Text(f"*The figure {markup.code(f'{name}.png')} is missing.*")
        said = png.with_suffix(".txt")
        alt, _, caption = (said.read_text(encoding="utf-8") if said.is_file() else name).partition("\n")
        parts = f"Figure {next(numbers['Figure'])}: {markup.escape(caption)}", markup.escape(alt)
        return Text(f"{parts[0]}\n\n![{parts[1]}](figures/{name}.png)")

    values = {
        "profile": profile,
        "p": params,
        "embedded": params.study == "embedded",
        "held": found,
        "table": table,
        "figure": figure,
        "steps": steps,
        "published": _published(),
        "audited": _audited(),
    }
    text = environment().get_template("paper.md").render(values)
    lines = [line.rstrip() for line in text.splitlines()]
    return "\n".join(line for line, after in zip(lines, [*lines[1:], ""]) if line or after).strip() + "\n"


@functools.cache
def environment() -> jinja2.Environment:
    """The prose.

    What is put into it is escaped unless it is Markdown already, and a name that is missing is an error.
    """
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAPER),
        finalize=markup.escape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        extensions=["jinja2.ext.do"],
    )
    made.filters |= {name: getattr(phrases, name) for name in ("number", "percent", "listed", "capital", "count")}
    made.filters["code"] = markup.code
    made.tests["known"] = pd.notna
    made.globals |= {
        "facts": facts,
        "metrics": metrics,
        "say": phrases,
        "compare": comparisons,
        "verdicts": verdicts,
        "views": views,
        "frame": pd.DataFrame,
    }
    return made


def _published() -> dict:
    """What the study's own tables show of what is wrong with them.

    The rows of its 7B base, in the draft and the revision.
    """
    folder, found = paths.root() / "reports" / "published", {}
    for name in ("flesch", "rouge"):
        sides = {"draft": folder / f"{name}.csv", "revised": folder / "revised" / f"{name}.csv"}
        rows = {side: tables.read(file).to_dict("records") for side, file in sides.items()}
        found[name] = {side: {r["dataset"]: r for r in rows[side] if r["model"] == BASE} for side in sides}
    return found


def _audited() -> list[dict]:
    """What `make audit` measured on the study's released answers.

    How far prompt and syllable counter move reading ease.
    """
    file = paths.reports("audit") / "tables" / "flesch.csv"
    rows = tables.read(file).to_dict("records") if file.is_file() else []
    found = {}
    for row in (r for r in rows if BASE in (r["model"], r.get("published_model"))):
        kept = found.setdefault(row["dataset"], {"dataset": row["dataset"], "model": BASE, "n": row["n"]})
        effects = {
            e: next((v for k, v in row.items() if k.endswith(f"_effect_{e}")), 0.0) for e in ("prompt", "backend")
        }
        moved = [e for e, value in effects.items() if value]
        if len(moved) == 1:  # one choice switched alone
            kept[moved[0]] = effects[moved[0]]
    return [row for row in found.values() if {"prompt", "backend"} <= set(row)]
