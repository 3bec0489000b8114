"""The report of a profile: one page of tables and figures, one page per executed notebook (`pages`).

The same inputs give the same bytes.

    python -m s2utils.report cpu
    python -m s2utils.report a100-7b a100-13b
"""

from __future__ import annotations

import argparse
import base64
import os
import shutil
import sys
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from s2utils import artefacts, claims, pages, paths, provenance, tables
from s2utils.params import load, parse_set
from s2utils.steps import STEPS

# table → the notebook that writes it
MAKERS = {name: STEPS[step].notebook for name, step in tables.MAKERS.items()}
HEADLINES = {
    "leaderboard": "average", "rouge": "rouge_l_f1", "bertscore": "bertscore_f1", "flesch": "flesch_reading_ease",
    "mtbench": "single_turn_rating", "judge": "judge_rating",
}  # fmt: skip


def build(profile: str, overrides: dict | str | None = None) -> Path:
    """Write reports/<profile>/html/*.html and index.html from what is there; returns the index's path."""
    params = load(profile, overrides)
    folder = paths.reports(profile)
    runs = [_run(profile, params.study, folder, pages.notebook_pages(profile))]
    gaps = {name: [_gap(name, profile)] for name in MAKERS if not _csv(profile, name).is_file()}
    if len(gaps) < len(MAKERS):
        claims.write(profile, params, parse_set(overrides) if isinstance(overrides, str) else overrides)
    return _index(folder, profile, params.study == "embedded", runs, gaps)


def join(profiles: list[str], overrides: dict | str | None = None) -> Path:
    """Write reports/<p1>+<p2>/ with the tables of several profiles of one study; returns the index's path.

    Their own reports, which it links to, are built as well. Raises ValueError where the profiles do not
    belong in one table or have none yet.
    """
    profiles = list(dict.fromkeys(profiles))
    studies = {p: load(p, overrides).study for p in profiles}
    for profile in profiles:
        if studies[profile] == "embedded":
            raise ValueError(f"profile {profile} proves the pipeline and is not joined: report it alone")
    if len(set(studies.values())) > 1:
        told = ", ".join(f"{p} is of '{s}'" for p, s in studies.items())
        raise ValueError(f"only profiles of one study share a report: {told}")
    for profile in profiles:
        if not any(_csv(profile, name).is_file() for name in MAKERS):
            raise ValueError(f"profile {profile} has no tables yet: run `make reproduce PROFILE={profile}` first")
        build(profile, overrides)
    title = "+".join(profiles)
    folder = paths.reports(title)
    shutil.rmtree(folder, ignore_errors=True)  # a table that no profile has any more must not stay
    gaps = {}
    for name in MAKERS:
        held = [p for p in profiles if _csv(p, name).is_file()]
        gaps[name] = [_gap(name, p) for p in profiles if p not in held]
        if held:
            frames = [read_table(_csv(p, name)) for p in held]
            caption = " ".join(f"{p}: {_caption(_csv(p, name))}" for p in held)
            tables.write(_stacked(frames), name, folder / "tables", caption)
    runs = [_run(p, studies[p], folder, {}) for p in profiles]
    return _index(folder, title, False, runs, gaps)


def read_table(path: Path) -> pd.DataFrame:
    """A table as it was written: keys are text (a model may be called "null"), everything else numbers."""
    keys, numbers = [], []
    for column in pd.read_csv(path, nrows=0):
        (keys if column in tables.KEYS else numbers).append(column)
    return pd.read_csv(
        path, dtype=dict.fromkeys(keys, str), keep_default_na=False, na_values=dict.fromkeys(numbers, "")
    )


def headline(folder: Path) -> pd.DataFrame:
    """One row per (model, merge_mode), one number per table in `folder`: its main metric, mean over data sets."""
    means = []
    for name, metric in HEADLINES.items():
        if (folder / f"{name}.csv").is_file():
            groups = read_table(folder / f"{name}.csv").groupby(["model", "merge_mode"], sort=False)
            means.append(groups[metric].mean().round(tables.DECIMALS[name]))
    return pd.concat(means, axis=1, sort=False).reset_index() if means else pd.DataFrame()


def _csv(profile: str, name: str) -> Path:
    return paths.reports(profile) / "tables" / f"{name}.csv"


def _caption(csv: Path) -> str:
    file = csv.with_suffix(".txt")
    return file.read_text(encoding="utf-8").strip() if file.is_file() else ""


def _gap(name: str, profile: str) -> str:
    maker = MAKERS[name]
    return f"Not there yet for {profile}: notebooks/{maker}.ipynb makes it (make {maker} PROFILE={profile})."


def _link(folder: Path, target: Path) -> str:
    """Relative link from a page in `folder`, "" where there is no such file."""
    return quote(Path(os.path.relpath(target, folder)).as_posix()) if target.is_file() else ""


def _stacked(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Rows of all frames, data sets kept together; published values left out, for `tables.write` adds them."""
    frame = pd.concat(frames, ignore_index=True)
    frame = frame[[c for c in frame if not c.endswith("_published")]]
    if "dataset" not in frame:
        return frame
    order = {d: i for i, d in enumerate(dict.fromkeys(frame["dataset"]))}
    return frame.sort_values("dataset", key=lambda s: s.map(order), kind="stable", ignore_index=True)


# The index


def _index(folder: Path, title: str, embedded: bool, runs: list[dict], gaps: dict[str, list[str]]) -> Path:
    """Write index.html from the tables and figures in `folder`."""
    values = {
        "title": f"Simple and safe answers: {title}",
        "embedded": embedded,
        "runs": runs,
        "tables": [_table(folder / "tables", name, gaps.get(name, [])) for name in MAKERS],
        "others": sorted(f.name for f in (folder / "tables").glob("*.csv") if f.stem not in MAKERS),
        "claims": _claims(folder / "tables" / "claims.csv"),
        "figures": [_figure(png) for png in sorted((folder / "figures").glob("*.png"))],
    }
    return pages.write_page(folder / "index.html", values)


def _table(folder: Path, name: str, gaps: list[str]) -> dict:
    """What the index says of one table; the paper's is added where it does not stand beside ours already."""
    csv = folder / f"{name}.csv"
    frame = read_table(csv) if csv.is_file() else None
    theirs = [] if frame is None else [c for c in frame if c.endswith("_published")]
    matched = bool(theirs) and frame[theirs].notna().any(axis=None)
    return {
        "name": name,
        "title": tables.TITLES[name],
        "gaps": gaps,
        "caption": _caption(csv),
        "view": None if frame is None else tables.shown(frame, name),
        "published": None if matched else tables.shown(tables.published(name), name),
        "files": [f"{name}.{kind}" for kind in ("csv", "md", "tex") if (folder / f"{name}.{kind}").is_file()],
    }


def _claims(csv: Path) -> dict | None:
    """The study's claims as readers see them, where a profile was measured."""
    view = claims.shown(pd.read_csv(csv, dtype={"claim": str, "notebook": str})) if csv.is_file() else None
    return None if view is None else {"view": view, "caption": _caption(csv)}


def _figure(png: Path) -> dict:
    text = png.with_suffix(".txt")
    alt, _, caption = (text.read_text(encoding="utf-8") if text.is_file() else png.stem).partition("\n")
    return {
        "data": f"data:image/png;base64,{base64.b64encode(png.read_bytes()).decode()}",
        "alt": alt.strip(),
        "caption": caption.strip(),
        "files": [f"{png.stem}.{kind}" for kind in ("svg", "pdf") if png.with_suffix(f".{kind}").is_file()],
    }


def _run(profile: str, study: str, folder: Path, titles: dict[str, str]) -> dict:
    """What was run, in words: models, n, time, code and hardware; with links from a page in `folder`."""
    frames = {name: read_table(_csv(profile, name)) for name in MAKERS if _csv(profile, name).is_file()}
    rows = dict.fromkeys(row for f in frames.values() for row in zip(f["model"], f["merge_mode"]))
    spent = [run["seconds"] for run in provenance.notebooks(profile).values() if run["seconds"] is not None]
    facts = {
        "Study": study,
        "Models": ", ".join(m if mode == "none" else f"{m} ({mode})" for m, mode in rows) or "none scored yet",
        "n per row": ", ".join(_n(name, f["n"].dropna()) for name, f in frames.items() if "n" in f and len(f)) or "–",
        "Wall time": "no notebook has finished yet",
    }
    if spent:
        facts["Wall time"] = f"{pages.duration(sum(spent))}, summed over {len(spent)} notebook runs"
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
        "provenance": _link(folder, own / "provenance.json"),
        "report": "" if own == folder else _link(folder, own / "index.html"),
        "notebooks": _listing(profile, folder, titles),
    }


def _n(name: str, counts: pd.Series) -> str:
    """The table's number and n, a range where its rows differ."""
    ends = dict.fromkeys((int(counts.min()), int(counts.max())))
    return f"{tables.TITLES[name].partition(' · ')[0]}: {'–'.join(map(str, ends))}"


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


def main(arguments: list[str] | None = None) -> None:
    """Build one profile's report, or join several, and print where it is and what it says."""
    parser = argparse.ArgumentParser(prog="python -m s2utils.report", description=main.__doc__)
    parser.add_argument("profiles", nargs="+", metavar="profile")
    parser.add_argument("--set", default="", metavar="'sft.max_steps=5'", help="parameters the run was made with")
    parser.add_argument("--show", action="store_true", help="only say where the report is, and its headline numbers")
    parser.add_argument("--record", action="store_true", help="write provenance.json anew: this machine made the run")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.show:
            index = paths.reports("+".join(chosen.profiles)) / "index.html"
        elif len(chosen.profiles) == 1:
            if chosen.record or not (paths.reports(chosen.profiles[0]) / "provenance.json").is_file():
                provenance.write(chosen.profiles[0], chosen.set)
            index = build(chosen.profiles[0], chosen.set)
        else:
            index = join(chosen.profiles, chosen.set)
    except ValueError as error:
        sys.exit(f"report: {error}")
    numbers = headline(index.parent / "tables")
    print(index)
    print(numbers.to_string(index=False, na_rep="–") if len(numbers) else "no table is there yet")


if __name__ == "__main__":
    main()
