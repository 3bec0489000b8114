"""Where the numbers come from: parameters, versions, seeds, hashes, and a chart of when what ran.

Reads reports/<profile>/provenance.json, artefacts/<profile>/benchmarks/*.tsv and the results of training. Seconds are
wall clock, memory is MB. Trap: notebooks of one report may have run on different days; idle time between them is cut
out of the chart, and the page says how much.
"""

from __future__ import annotations

import csv
from datetime import datetime
from pathlib import Path

from s2utils.report import web
from s2utils.workflow import artefacts, paths, timings

LETTER, WIDTH, ROW = 6.5, 900, 17  # of a label's letter, of all, of one bar


def held(profile: str) -> bool:
    """Whether the run was recorded."""
    return (paths.reports(profile) / "provenance.json").is_file()


def write(site: web.Site, profile: str) -> Path:
    """Write provenance.html."""
    record = artefacts.read_json(paths.reports(profile) / "provenance.json") or {}
    made = record.get("artefacts", [])
    values = {
        "title": "Provenance",
        "record": record,
        "chart": chart(record.get("notebooks", {})),
        "jobs": jobs(profile, record.get("notebooks", {})),
        "energy": energy(profile),
        "made": [a | {"label": f"{a['step']}/{a['name']}" if a["name"] else a["step"]} for a in made],
        "stale": sum(not a["current"] for a in made),
    }
    return web.write_page(site, "provenance.html", "provenance", values, scripts=("table",))


def energy(profile: str) -> str:
    """KWh and CO2 of all trainings, as their logs have it; "" where none measured."""
    found = [artefacts.read_json(f) or {} for f in sorted((paths.artefacts(profile) / "sft").glob("*/result.json"))]
    measured = [r for r in found if "kwh" in r]
    if not measured:
        return ""
    kwh, co2 = sum(r["kwh"] for r in measured), sum(r.get("co2_kg", 0) for r in measured)
    return f"{kwh:.3g} kWh, {co2:.3g} kg CO₂, over {len(measured)} training{'s' if len(measured) != 1 else ''}"


def jobs(profile: str, notebooks: dict[str, dict]) -> list[dict]:
    """One row per job: seconds of the notebook, and memory and processor seconds where the graph measured them."""
    measured = {}
    for file in sorted((paths.artefacts(profile) / "benchmarks").glob("*.tsv")):
        with open(file, encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines, delimiter="\t"))
        if rows:
            measured[file.stem] = rows[-1]
    rows = []
    for name in sorted({*notebooks, *measured}):
        run, job = notebooks.get(name, {}), measured.get(name, {})
        numbers = {
            "seconds": run.get("seconds") or job.get("s"),
            "memory": job.get("max_rss"),
            "cpu": job.get("cpu_time"),
        }
        row = {"name": name, "failed": run.get("failed", False)}
        rows.append(row | {key: _number(value) for key, value in numbers.items()})
    return rows


def _number(value: object) -> float | None:
    """A number of a benchmark file, which writes "-" or "NA" for what it could not measure."""
    try:
        return round(float(value), 1)
    except (TypeError, ValueError):
        return None


def chart(notebooks: dict[str, dict]) -> dict | None:
    """Bars of when each notebook ran, in order of start; None where no times are known."""
    bars = []
    for name, run in notebooks.items():
        start, end = _time(run.get("start")), _time(run.get("end"))
        if start is not None and end is not None and end >= start:
            bars.append({"name": name, "start": start, "end": end, "failed": run["failed"]})
    if not bars:
        return None
    bars.sort(key=lambda b: (b["start"], b["end"], b["name"]))
    place, length, idle = _squeezed([(b["start"], b["end"]) for b in bars])
    left = round(12 + LETTER * max(len(bar["name"]) for bar in bars))
    width = max(WIDTH, left + WIDTH // 2)
    scale = (width - left - 60) / (length or 1)
    for i, bar in enumerate(bars):
        bar |= {"y": 6 + ROW * i, "x": round(left + scale * place(bar["start"]), 1)}
        bar["seconds"] = bar["end"] - bar["start"]
        bar["width"] = max(1.0, round(left + scale * place(bar["end"]) - bar["x"], 1))
    longest = max(bars, key=lambda b: b["seconds"])
    alt = (
        f"{len(bars)} notebook runs over {timings.shown(length)}; the longest is {longest['name']} with "
        f"{timings.shown(longest['seconds'])}."
    )
    drawing = {"width": width, "height": 10 + ROW * len(bars), "left": left, "alt": alt}
    return drawing | {"bars": bars, "idle": idle, "length": length}


def _squeezed(spans: list[tuple[float, float]]):
    """(time → seconds on an axis without long gaps, length of the axis, idle seconds left out).

    Spans in order of start.
    """
    busy: list[list[float]] = []
    for start, end in spans:
        if busy and start <= busy[-1][1]:
            busy[-1][1] = max(busy[-1][1], end)
        else:
            busy.append([start, end])
    allowed = 0.03 * sum(end - start for start, end in busy)
    offsets, cut = [], 0.0
    for i, (start, _) in enumerate(busy):
        cut += max(0.0, start - busy[i - 1][1] - allowed) if i else 0.0
        offsets.append((start, busy[0][0] + cut))

    def place(time: float) -> float:
        return time - [offset for start, offset in offsets if start <= time][-1]

    return place, place(busy[-1][1]), cut


def _time(text: str | None) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None
