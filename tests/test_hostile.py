"""Model text is hostile, and secrets are at hand: a finished study is told again, from its answers to its pages."""

import json
import os
import shutil
import subprocess

import pandas as pd
import pytest
from conftest import PAYLOADS
from test_study import environment, run, snakemake

from s2utils.workflow import artefacts

pytestmark = pytest.mark.slow
MODEL = "SmolLM2-135M-chat"
TOKENS = {"HF_TOKEN": "hf_" + "PlantedNeverShown" * 2, "OPENAI_API_KEY": "sk-" + "plantedNeverShown0" * 2}


def planted(folder) -> None:
    """The answers and judgements of one model become hostile, and their metadata holds a token."""
    for step, file, texts in (
        ("answers", "answers.jsonl", ("text",)),
        ("mtbench", "judged.jsonl", ("text", "reply")),
    ):
        made = folder / step / MODEL
        rows = artefacts.read_jsonl(made / file)
        for i, row in enumerate(rows):
            row |= dict.fromkeys(texts, PAYLOADS[i % len(PAYLOADS)]) | {"server": {"authorization": TOKENS["HF_TOKEN"]}}
        (made / file).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        manifest = artefacts.read_json(made / "manifest.json")
        manifest["files"][file] = {"bytes": (made / file).stat().st_size, "sha256": artefacts.sha256(made / file)}
        artefacts.write_json(made / "manifest.json", manifest)


@pytest.fixture(scope="module")
def told(study, tmp_path_factory):
    """A copy of the study whose answers were planted, its collecting notebooks and its report made again."""
    root = tmp_path_factory.mktemp("hostile") / "repository"
    shutil.copytree(study, root, copy_function=os.link, ignore=shutil.ignore_patterns(".snakemake"))
    smoke = root / "artefacts/smoke"
    for path in (*(smoke / s / MODEL for s in ("answers", "mtbench")), smoke / "notebooks", root / "reports/smoke"):
        copied = shutil.copytree(path, path.with_name(f"{path.name}.copy"))  # not the study's own files
        shutil.rmtree(path)
        copied.rename(path)
    planted(smoke)
    shutil.rmtree(smoke / "text_metrics")
    (root / "reports/smoke/index.html").unlink()
    for step in ("answers", "mtbench"):
        (smoke / step / ".done").unlink()
    command = snakemake(root, "--rerun-triggers", "mtime", "--", "reports/smoke/index.html")
    done = subprocess.run(
        command, cwd=root, env=environment(root) | TOKENS, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return root, done.stdout + done.stderr


def test_no_secret_is_in_any_output(told):
    root, said = told
    assert not [t for t in TOKENS.values() if t in said]
    source = {root / "artefacts/smoke" / step / MODEL for step in ("answers", "mtbench")}
    seen = 0
    for folder in (root / "reports", root / "artefacts", root / ".snakemake"):
        for path in folder.rglob("*"):
            if path.is_file() and path.suffix not in (".safetensors", ".parquet") and path.parent not in source:
                data, seen = path.read_bytes(), seen + 1
                assert not [name for name, token in TOKENS.items() if token.encode() in data], path
    assert seen > 200


def test_hostile_answers_are_text_on_every_page(told, chromium):
    root, _ = told
    site, wrong, texts = root / "reports/smoke", [], {}
    page = chromium.new_page()
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or wrong.append(asked.url))
    for path in sorted(site.rglob("*.html")):
        if path.parent.name != "tables":
            page.goto(path.as_uri())
            texts[path.stem] = page.locator("main").inner_text()
            assert page.evaluate("window.ran === undefined && !document.querySelector('svg[onload], [onerror]')"), path
    page.goto((site / "answers.html").as_uri())
    held = json.loads(page.locator('script[type="application/json"]').first.text_content())
    page.close()
    assert not wrong and len(texts) > 30
    answers = {a["t"] for q in held["questions"] for a in q["answers"] if a}
    rows = artefacts.read_jsonl(root / f"artefacts/smoke/answers/{MODEL}/answers.jsonl")
    assert {row["text"] for row in rows} <= answers
    assert "window.ran = 1; alert(1)" in texts["04_generate"] and "window.ran = 1; alert(1)" in texts["answers"]


def test_tables_of_hostile_answers_are_whole(told):
    root, _ = told
    scores = pd.read_parquet(root / "artefacts/smoke/text_metrics/scores.parquet")
    mine = scores[scores["model_id"] == MODEL]
    rows = artefacts.read_jsonl(root / f"artefacts/smoke/answers/{MODEL}/answers.jsonl")
    assert sorted(mine["text"]) == sorted(row["text"] for row in rows)
    table = pd.read_csv(root / "reports/smoke/tables/rouge.csv", keep_default_na=False)
    assert (table["n"].astype(int) == 2).all() and len(table) == 3 * scores["model_id"].nunique()


def test_the_write_up_is_set_all_the_same(told):
    root, _ = told
    if not shutil.which("pdflatex"):
        assert not os.environ.get("CI"), "CI must have LaTeX"
        pytest.skip("no pdflatex on this machine")
    done = run(root, ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "writeup.tex"], "reports/smoke")
    assert done.returncode == 0, done.stdout[-2000:]
