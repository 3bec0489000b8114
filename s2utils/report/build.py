"""The report of a profile: a site of static pages, reports/<profile>/index.html and what it links to.

A page a table (`table_pages`), a page an executed notebook (`pages`), the answers (`answers_page`), the data
(`data_page`), where the numbers come from (`provenance_page`). The same inputs give the same bytes.

    python -m s2utils report cpu
    python -m s2utils report a100-7b a100-13b
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from s2utils.evaluation import metrics
from s2utils.report import answers_page, data_page, front_page, notebook_pages, provenance_page, table_pages, web
from s2utils.report.paper import render
from s2utils.results import claims, figures, model_claims, tables
from s2utils.workflow import artefacts, paths, provenance, timings
from s2utils.workflow.params import ParameterError, load, parse_set
from s2utils.workflow.steps import STEPS

# table → the notebook that writes it
MAKERS = {name: STEPS[metrics.TABLES[name].step].notebook for name in metrics.STUDY}


def build(profile: str, overrides: dict | str | None = None) -> Path:
    """Write every page of reports/<profile>/ from what is there; returns the index's path."""
    params = load(profile, overrides)
    folder = paths.reports(profile)
    gaps = {name: [_gap(name, profile)] for name in MAKERS if not _csv(profile, name).is_file()}
    if len(gaps) < len(MAKERS):
        claims.write(profile, params, parse_set(overrides) if isinstance(overrides, str) else overrides)
    model_claims.write(profile, params)
    pages = {  # what is optional: whether it is there, and what writes it
        "Answers": (answers_page.held(profile), lambda: answers_page.write(site, profile, params)),
        "Data": (data_page.held(profile), lambda: data_page.write(site, profile, params)),
        "Figures": (any((folder / "figures").glob("*.png")), lambda: _figures(site)),
        "Provenance": (provenance_page.held(profile), lambda: provenance_page.write(site, profile)),
    }
    there = [(label, f"{label.lower()}.html") for label, (held, _) in pages.items() if held]
    links = [
        ("Tables", "index.html#tables"),
        ("Write-up", "writeup.html"),
        *there,
        ("Notebooks", "index.html#notebooks"),
    ]
    site = web.Site(folder, f"profile {profile}", params.study == "embedded", links)
    titles = notebook_pages.notebook_pages(profile, site)
    for label, (held, write) in pages.items():
        if held:
            write()
        else:
            (folder / f"{label.lower()}.html").unlink(missing_ok=True)
    render.write(profile, overrides, site)
    runs = [_run(profile, params.study, folder, titles)]
    return _index(site, runs, gaps)


def join(profiles: list[str], overrides: dict | str | None = None) -> Path:
    """Write reports/<p1>+<p2>/ with the tables of several profiles of one study; returns the index's path.

    Their own reports, which it links to, are built as well. Raises ValueError where the profiles do not
    belong in one table or have none yet.
    """
    profiles = list(dict.fromkeys(profiles))
    studies = {p: load(p, overrides).study for p in profiles}
    for profile in profiles:
        if studies[profile] == "embedded":
            raise ParameterError(f"profile {profile} proves the pipeline and is not joined: report it alone")
    if len(set(studies.values())) > 1:
        told = ", ".join(f"{p} is of '{s}'" for p, s in studies.items())
        raise ParameterError(f"only profiles of one study share a report: {told}")
    for profile in profiles:
        if not any(_csv(profile, name).is_file() for name in MAKERS):
            raise ParameterError(f"profile {profile} has no tables yet: run `make reproduce PROFILE={profile}` first")
        build(profile, overrides)
    title = "+".join(profiles)
    folder = paths.reports(title)
    shutil.rmtree(folder, ignore_errors=True)  # a table that no profile has any more must not stay
    gaps = {}
    for name in MAKERS:
        held = {p: _csv(p, name) for p in profiles if _csv(p, name).is_file()}
        gaps[name] = [_gap(name, p) for p in profiles if p not in held]
        if held:
            caption = " ".join(f"{p}: {tables.schema(csv).get('caption', '')}" for p, csv in held.items())
            about = {"title": metrics.TABLES[name].title, "unit": metrics.TABLES[name].unit, "caption": caption}
            frame = _stacked([tables.read(csv) for csv in held.values()])
            tables.write(tables.beside(frame, name), name, folder / "tables", about)
    runs = [_run(p, studies[p], folder, {}) for p in profiles]
    site = web.Site(folder, f"profiles {title}", links=[("Tables", "index.html#tables")])
    return _index(site, runs, gaps)


def _csv(profile: str, name: str) -> Path:
    return paths.reports(profile) / "tables" / f"{name}.csv"


def _gap(name: str, profile: str) -> str:
    maker = MAKERS[name]
    return f"Not there yet for {profile}: notebooks/{maker}.ipynb makes it (make {maker} PROFILE={profile})."


def _link(folder: Path, target: Path) -> str:
    """Relative link from a page in `folder`, "" where there is no such file."""
    return quote(Path(os.path.relpath(target, folder)).as_posix()) if target.is_file() else ""


def _stacked(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Rows of all frames, data sets kept together; published values left out, for `tables.beside` adds them."""
    frame = pd.concat(frames, ignore_index=True)
    frame = frame[[c for c in frame if not c.endswith("_published")]]
    if "dataset" not in frame:
        return frame
    order = {d: i for i, d in enumerate(dict.fromkeys(frame["dataset"]))}
    return frame.sort_values("dataset", key=lambda s: s.map(order), kind="stable", ignore_index=True)


def _index(site: web.Site, runs: list[dict], gaps: dict[str, list[str]]) -> Path:
    """Write index.html and a page a table from the tables in the site's folder."""
    folder = site.folder / "tables"
    others = sorted(f.stem for f in folder.glob("*.csv") if f.stem not in MAKERS)
    for old in folder.glob("*.html"):
        if old.stem not in (*MAKERS, *others):
            old.unlink()
    values = {
        "title": "Can a language model learn to answer simply and safely?",
        "runs": runs,
        "findings": front_page.answer(folder),
        "ease": front_page.ease(folder),
        "short": front_page.overview(folder),
        "five": [table_pages.write(site, name, gaps.get(name, [])) for name in MAKERS],
        "gaps": [gap for told in gaps.values() for gap in told],
        "others": [table_pages.write(site, name, []) for name in others],
        "claims": _claims(folder / "claims.csv"),
        "audit": _link(site.folder, paths.reports("audit") / "index.html"),
    }
    return web.write_page(site, "index.html", "index", values)


def _claims(csv: Path) -> dict | None:
    """How many of the study's claims hold, do not and cannot be told, by its numbers and by ours."""
    if not csv.is_file():
        return None
    frame = tables.read(csv)
    counts = {side: frame[f"{side}_verdict"].value_counts().to_dict() for side in ("published", "measured")}
    return {"n": len(frame), "counts": counts, "caption": tables.schema(csv).get("caption", "")}


def _figures(site: web.Site) -> None:
    """figures.html: every figure of the notebooks."""
    drawn = [figures.read(png) for png in sorted((site.folder / "figures").glob("*.png"))]
    web.write_page(site, "figures.html", "figures", {"title": "Figures", "figures": drawn})


def _run(profile: str, study: str, folder: Path, titles: dict[str, str]) -> dict:
    """What was run, in words: models, n, time, energy, code and hardware; with links from a page in `folder`."""
    frames = {name: tables.read(_csv(profile, name)) for name in MAKERS if _csv(profile, name).is_file()}
    rows = dict.fromkeys(row for f in frames.values() for row in zip(f["model"], f["merge_mode"]))
    spent = [run["seconds"] for run in provenance.notebooks(profile).values() if run["seconds"] is not None]
    facts = {
        "Study": study,
        "Models": ", ".join(m if mode == "none" else f"{m} ({mode})" for m, mode in rows) or "none scored yet",
        "n per row": ", ".join(_n(name, f["n"].dropna()) for name, f in frames.items() if "n" in f and len(f)) or "–",
        "Wall time": "no notebook has finished yet",
    }
    if spent:
        facts["Wall time"] = f"{timings.shown(sum(spent))}, summed over {len(spent)} notebook runs"
    if energy := provenance_page.energy(profile):
        facts["Energy of training"] = energy
    own = paths.reports(profile)
    if record := artefacts.read_json(own / "provenance.json"):
        commit, machine, made = record["commit"], record["hardware"], record["artefacts"]
        old = sum(not a["current"] for a in made)
        facts["Commit"] = commit["id"] + (" with uncommitted changes" if commit["dirty"] else "")
        sizes = f"{machine['cores']} cores, {machine['memory_gb']} GB"
        facts["Hardware"] = ", ".join([machine["cpu"], sizes, *machine["gpus"]])
        stale = f", {old} of them made with other parameters or code than these" if old else ""
        facts["Artefacts"] = f"{len(made)} finished{stale}"
    return {
        "profile": profile,
        "facts": facts,
        "provenance": _link(folder, own / "provenance.html"),
        "report": "" if own == folder else _link(folder, own / "index.html"),
        "notebooks": _listing(profile, folder, titles),
    }


def _n(name: str, counts: pd.Series) -> str:
    """The table's number and n, a range where its rows differ."""
    ends = dict.fromkeys((int(counts.min()), int(counts.max())))
    return f"{metrics.TABLES[name].number}: {'–'.join(map(str, ends))}"


def _listing(profile: str, folder: Path, titles: dict[str, str]) -> list[dict]:
    """The notebooks in order, each with the runs it fanned out into, linked from a page in `folder`."""
    times = provenance.notebooks(profile)

    def entry(stem: str) -> dict:
        title = stem.partition(".")[2] or titles.get(stem, stem)
        why = "cannot be read: its run was cut short" if stem in times else "not run yet"
        href = _link(folder, paths.reports(profile) / "html" / f"{stem}.html")
        return {"title": title, "href": href, "why": why, "seconds": None, "failed": False, **times.get(stem, {})}

    due = (step.notebook for name, step in STEPS.items() if name != "sweep")  # which only some runs have
    stems = dict.fromkeys([*due, *(s.partition(".")[0] for s in times)])
    return [{**entry(stem), "children": [entry(s) for s in times if s.startswith(f"{stem}.")]} for stem in stems]


def headline(folder: Path) -> pd.DataFrame:
    """One row per (model, merge_mode), one number per table in `folder`: its main metric, mean over data sets."""
    means = []
    for name in metrics.STUDY:
        if (folder / f"{name}.csv").is_file():
            column = metrics.TABLES[name].headline
            groups = tables.read(folder / f"{name}.csv").groupby(["model", "merge_mode"], sort=False)
            means.append(groups[column].mean().round(metrics.METRICS[column].decimals))
    return pd.concat(means, axis=1, sort=False).reset_index() if means else pd.DataFrame()


def report(profiles: list[str], overrides: str = "", show: bool = False, record: bool = False) -> None:
    """Build one profile's report, or join several, and print where it is and what it says; `show` only prints.

    `record` writes provenance.json anew, for this machine made the run.
    """
    if show:
        for profile in profiles:
            load(profile, overrides)
        index = paths.reports("+".join(profiles)) / "index.html"
    elif len(profiles) == 1:
        if record or not (paths.reports(profiles[0]) / "provenance.json").is_file():
            provenance.write(profiles[0], overrides)
        index = build(profiles[0], overrides)
    else:
        index = join(profiles, overrides)
    numbers = headline(index.parent / "tables")
    print(index)
    print(numbers.to_string(index=False, na_rep="–") if len(numbers) else "no table is there yet")
