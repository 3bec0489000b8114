"""The report: complete, offline, safe to open, and the same each time."""

import base64
import hashlib
import html.parser
import json
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pandas as pd
import pytest
from conftest import write_table
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from s2utils.__main__ import main
from s2utils.evaluation import metrics
from s2utils.report import build
from s2utils.report.notebook_pages import last_states
from s2utils.results import tables
from s2utils.workflow import artefacts, packaged, paths, provenance, steps

HOSTILE = "<script>alert(1)</script>"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Page(html.parser.HTMLParser):
    """Tags, links and resources of a page as a browser sees them."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags, self.links, self.loads, self.ids, self.text, self.scripts = [], [], [], set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append((tag, found))
        self.ids.add(found.get("id"))
        if tag == "script":
            self.scripts.append([found, ""])
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif "src" in found or "href" in found:
            self.loads.append(found.get("src") or found.get("href"))

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] == "script" and self.cdata_elem == "script":
            self.scripts[-1][1] += data
        elif self.cdata_elem is None:
            self.text.append(data)

    def data(self) -> dict:
        """The JSON that the page carries."""
        return next(json.loads(text) for found, text in self.scripts if found.get("type") == "application/json")


def table(name: str, models: list[tuple[str, str]], datasets=("ELI5", "wiki")) -> pd.DataFrame:
    per_dataset = name in ("rouge", "bertscore", "flesch")
    rows = []
    for dataset in datasets if per_dataset else [""]:
        for i, (model, mode) in enumerate(models):
            row = {"model": model, "base": "b", "variant": "sft", "train_set": "", "merge_mode": mode}
            row |= {"dataset": dataset} if per_dataset else {}
            row["n"] = 16
            for metric in metrics.columns(name):
                row |= {metric: i + 0.5, f"{metric}_ci_low": i + 0.25, f"{metric}_ci_high": i + 0.75}
                row[f"{metric}_n_failed"] = 0
            rows.append(row)
    return pd.DataFrame(rows)


def notebook(*outputs, title="# 05 · Overlap") -> nbformat.NotebookNode:
    text = (
        f"{title}\n\nAfter [the data](02_datasets.ipynb) and [the code](../s2utils/nothing.py). {HOSTILE}\n\n## Checks"
    )
    times = {"duration": 125.0, "start_time": "2024-01-01T00:00:00", "end_time": "2024-01-01T00:02:05"}
    cells = [new_markdown_cell(text, id="a"), new_code_cell("x = 1\nx", id="b", outputs=list(outputs))]
    return new_notebook(cells=cells, metadata={"papermill": {**times, "exception": None}})


def fill(profile: str, base: str, names=tuple(metrics.STUDY), notebooks=("02_datasets",)) -> None:
    for name in names:
        models = [(base, "none"), (f"{base}-{HOSTILE}", "bf16")]
        write_table(table(name, models), name, paths.reports(profile) / "tables", f"Profile {profile}, <b>small</b>.")
    for stem in notebooks:
        path = paths.artefacts(profile) / "notebooks" / f"{stem}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook(title=f"# {stem}"), path)


def pages(profile: str) -> dict[Path, Page]:
    return {p: Page(p) for p in sorted(paths.reports(profile).rglob("*.html"))}


def check(profile: str) -> None:
    """Every page of a report: links resolve, nothing is loaded, nothing of a model's text is markup."""
    for path, page in pages(profile).items():
        for link in page.links:
            parts = urlsplit(link)
            if not parts.scheme:
                target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
                assert target.is_file(), f"{path.name}: {link}"
                spellings = {parts.fragment, unquote(parts.fragment)}  # a browser tries both
                assert not parts.fragment or spellings & Page(target).ids, f"{path.name}: {link}"
        assert all(load.startswith("data:image/") for load in page.loads)
        assert not {"iframe", "link", "object", "embed", "base"} & {tag for tag, _ in page.tags}
        policy = next(found["content"] for tag, found in page.tags if found.get("http-equiv"))
        assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe-eval" not in policy
        assert ("style-src 'unsafe-inline'" in policy) == (
            path.parent.name == "html"
        )  # what a notebook shows has widths
        for found, text in page.scripts:  # ours, or data that is not run
            hashed = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert found.get("type") == "application/json" or (not found and f"'sha256-{hashed}'" in policy)
        assert not [a for _, found in page.tags for a in found if a.startswith("on")]
        kinds = [tag for tag, _ in page.tags]
        assert kinds.count("title") == 1 and ("html", {"lang": "en"}) in page.tags
        assert all(found.get("alt") for tag, found in page.tags if tag == "img")


def test_pages_are_complete_linked_and_offline(tree, monkeypatch):
    fill("cpu", "SmolLM2-135M", notebooks=("02_datasets", "03_sft", "03_sft.sciq", "04_generate.SmolLM2-135M"))
    monkeypatch.setenv("OPENAI_API_KEY", "s2-secret")
    drawn = paths.reports("cpu") / "figures"
    drawn.mkdir()
    for kind in ("png", "svg", "pdf"):
        (drawn / f"ease.{kind}").write_bytes(base64.b64decode(PNG))
    (drawn / "ease.txt").write_text('A <line> "going" up\nIt goes & goes up.\n')
    (paths.reports("cpu") / "tables" / "funnel.csv").write_text(f"dataset,reason,n\n{HOSTILE},read,3\n")
    provenance.write("cpu", "sft.max_steps=5")
    index = build.build("cpu", "sft.max_steps=5")
    check("cpu")
    page = Page(index)
    text = " ".join("".join(page.text).split())
    assert "prove the pipeline, not the question" in text
    assert [t for t in (metrics.TABLES[name].title for name in metrics.STUDY) if t not in text] == []
    assert f"SmolLM2-135M-{HOSTILE}" in text and HOSTILE not in index.read_text(encoding="utf-8")
    assert "8 min, summed over 4 notebook runs" in text and "unknown" in text  # no repository here
    figures = Page(paths.reports("cpu") / "figures.html")
    assert ("img", 'A <line> "going" up') in [(t, f.get("alt")) for t, f in figures.tags]
    assert {"figures/ease.svg", "figures/ease.pdf"} <= set(figures.links)
    assert {"tables/rouge.html", "tables/rouge.csv", "tables/rouge.md", "tables/rouge.tex"} <= set(page.links)
    rouge = Page(paths.reports("cpu") / "tables" / "rouge.html")
    assert "The published table" in "".join(rouge.text) and "[0.2500, 0.7500]" in "".join(rouge.text)
    assert rouge.data()["CSV"] == (paths.reports("cpu") / "tables" / "rouge.csv").read_text()
    assert set(rouge.data()) == {"Markdown", "LaTeX", "CSV"}
    funnel = Page(paths.reports("cpu") / "tables" / "funnel.html")
    assert (
        HOSTILE in "".join(funnel.text)
        and r"\_" not in funnel.data()["Markdown"]
        and "tabular" in funnel.data()["LaTeX"]
    )
    assert "html/03_sft.sciq.html" in page.links and "provenance.html" in page.links
    assert "03_sft.html" in Page(tree / "reports/cpu/html/03_sft.sciq.html").links
    sft = Page(tree / "reports/cpu/html/03_sft.html")
    assert "02_datasets.html" in sft.links and "03_sft.ipynb" in sft.links
    assert (tree / "reports/cpu/html/03_sft.ipynb").read_bytes() == (
        paths.artefacts("cpu") / "notebooks/03_sft.ipynb"
    ).read_bytes()
    assert "#Checks" in sft.links  # the contents at the side
    told = "".join(Page(tree / "reports/cpu/provenance.html").text)
    assert "sft.max_steps = 5" in told and "04_generate.SmolLM2-135M" in told
    record = artefacts.read_json(tree / "reports/cpu/provenance.json")
    assert record["overrides"] == {"sft.max_steps": 5} and record["parameters"]["sft.max_steps"] == 5
    assert record["notebooks"]["03_sft"]["seconds"] == 125.0 and len(record["archives"]) == len(packaged.ARCHIVES)
    assert "s2-secret" not in str(record)


def test_hostile_outputs_are_text(tree):
    outputs = [
        new_output("stream", name="stdout", text=f"\x1b[31m{HOSTILE}\x1b[0m\x07\n"),
        new_output("stream", name="stderr", text="\rmerge:   0%|   | 0/3 [00:00<?, ?it/s]\rmerge:  33%|#  | 1/3 "
                                                 "[00:01"),
        new_output("stream", name="stderr", text="<00:01]\rmerge: 100%|###| 3/3 [00:02<00:00]\nW: look\n"),
        new_output("display_data", data={"text/html": f"</div></main><style>*{{}}</style>{HOSTILE}<img "
                                                      "src=https://e/x.png onerror=alert(1)>"}),
        new_output("display_data", data={"text/html": "<iframe src=https://e></iframe><svg onload=alert(1)><a "
                                                      "href='javascript:alert(1)'>j</a><a href='javascript:1'>k</a><a "
                                                      "href='data:text/html,x'>l</a>"}),
        new_output("display_data", data={"text/markdown": f"{HOSTILE} [m](javascript:alert(1)) ![n](https://e/n.png)"}),
        new_output("display_data", data={"application/javascript": "alert(1)", "text/plain": "js"}),
        new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {"model_id": "w"},
            "text/plain": "0%|"}),
        new_output("display_data", data={"image/png": PNG}, metadata={"image/png": {"alt": 'a "b" <c>'}}),
        new_output("display_data", data={"text/html": "<p>\u202eone &#8238;two &#x202E;three &#169;</p>"}),
        new_output("error", ename="E", evalue="v", traceback=[f"\x1b[31m{HOSTILE}"]),
    ]  # fmt: skip
    path = paths.artefacts("cpu") / "notebooks" / "05_text_metrics.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(notebook(*outputs), path)
    build.build("cpu")
    check("cpu")
    page = Page(tree / "reports/cpu/html/05_text_metrics.html")
    text = "".join(page.text)
    assert text.count(HOSTILE) == 5  # prose, stream, HTML, Markdown, traceback
    inside = [unquote(link) for link in page.links if not link.startswith("../")]
    assert inside == [
        "#main", "#Checks", "05_text_metrics.html", "05_text_metrics.ipynb", "#05-·-Overlap", "#Checks",
    ]  # fmt: skip
    assert "\x1b" not in text and "\x07" not in text and "*{}" not in text
    assert "⟨U+202E⟩one ⟨U+202E⟩two ⟨U+202E⟩three ©" in text
    assert "33%" not in text and "merge: 100%" in text and "W: look" in text
    assert ("img", 'a "b" <c>') in [(t, f.get("alt")) for t, f in page.tags]
    assert [tag for tag, _ in page.tags].count("main") == 1


def test_what_is_missing_is_named(tree):
    fill("a100-7b", "Llama-2-7b", names=("rouge",), notebooks=())
    half = paths.artefacts("a100-7b") / "notebooks" / "01_eda.ipynb"
    half.parent.mkdir(parents=True)
    half.write_text('{"cells": [')
    stale = paths.reports("a100-7b") / "html" / "gone.html"
    stale.parent.mkdir()
    stale.touch()
    text = "".join(Page(build.build("a100-7b")).text)
    check("a100-7b")
    assert not stale.exists()
    assert "notebooks/07_mtbench.ipynb makes it (make 07_mtbench PROFILE=a100-7b)" in text
    assert text.count("Not there yet") == 5 and "cannot be read" in text
    assert text.count("not run yet") == len(steps.shown_of(sweep=False)) - 1  # all but 01
    rouge, flesch = ("".join(Page(tree / f"reports/a100-7b/tables/{n}.html").text) for n in ("rouge", "flesch"))
    assert "published 0.3796" in rouge and "For orientation" not in rouge  # its own stands beside ours
    assert "For orientation" in flesch and "Not there yet" in flesch
    assert "prove the pipeline" not in text
    assert text.count("nothing can be said yet") == 4
    assert not {"answers.html", "data.html", "figures.html", "provenance.html"} & {
        p.name for p in paths.reports("a100-7b").iterdir()
    }


def test_same_inputs_same_bytes(tree):
    fill("cpu", "SmolLM2-135M")

    def everything():
        main(["report", "cpu"])
        return {p: p.read_bytes() for p in (tree / "reports").rglob("*") if p.is_file()}

    assert everything() == everything()


def test_an_audit_is_found_from_the_front_page(tree):
    fill("cpu", "SmolLM2-135M")
    link = 'href="../audit/index.html"'
    assert link not in build.build("cpu").read_text()
    page = paths.reports("audit") / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("<p>an audit")
    assert link in build.build("cpu").read_text()


@pytest.mark.slow
def test_join_puts_both_models_in_one_table(tree, capsys):
    fill("a100-7b", "Llama-2-7b")
    fill("a100-13b", "Llama-2-13b", names=("leaderboard", "rouge"))
    main(["report", "a100-7b", "a100-13b"])
    folder = tree / "reports" / "a100-7b+a100-13b"
    printed = capsys.readouterr().out
    assert printed.startswith(f"{folder / 'index.html'}\n") and "Llama-2-13b" in printed and "rouge_l_f1" in printed
    check("a100-7b+a100-13b")
    frame = tables.read(folder / "tables" / "rouge.csv")
    assert list(frame["dataset"]) == ["ELI5"] * 4 + ["wiki"] * 4
    assert set(frame["model"]) == {b + e for b in ("Llama-2-7b", "Llama-2-13b") for e in ("", f"-{HOSTILE}")}
    assert frame.columns.is_unique and frame["rouge_l_f1_published"].notna().sum() == 2  # the paper has 7 B only
    assert list(frame["train_set"].unique()) == [""]
    assert "a100-13b: Profile a100-13b" in tables.schema(folder / "tables" / "rouge.csv")["caption"]
    page = Page(folder / "index.html")
    assert {"../a100-7b/index.html", "../a100-13b/index.html"} <= set(page.links)
    text = "".join(page.text)
    assert text.count("Not there yet for a100-13b") == 4 and "Not there yet for a100-7b" not in text
    assert build.headline(folder / "tables")["average"].tolist() == [0.5, 1.5, 0.5, 1.5]


def test_join_refuses_what_does_not_belong_together(tree, capsys):
    fill("a100-7b", "Llama-2-7b")
    with pytest.raises(ValueError, match="make reproduce PROFILE=a100-13b"):
        build.join(["a100-7b", "a100-13b"])
    with pytest.raises(ValueError, match="cpu .*not joined"):
        build.join(["smoke", "cpu"][::-1])
    (tree / "params" / "other.yaml").write_text("extends: a100-13b\nstudy: llama3\n")
    with pytest.raises(ValueError, match="a100-7b is of 'llama2', other is of 'llama3'"):
        build.join(["a100-7b", "other"])
    for arguments in (["cpuu"], ["cpuu", "--show"]):
        assert main(["report", *arguments]) == 2
        told = capsys.readouterr().err
        assert "no profile 'cpuu'" in told and "did you mean 'cpu'" in told and told.count("\n") == 1
    assert not (tree / "reports" / "a100-7b+other").exists()


@pytest.mark.parametrize(
    "written, shown",
    [
        ("a\rb\n", "b\n"),
        ("a\r\nb", "a\nb"),
        ("done\r", "done"),
        ("x: 10%|# | 1/9 [a]\r          \r", ""),
        ("x: 10%|# | 1/9 [a]\nx: 20%|##| 2/9 [b]\nrest", "x: 20%|##| 2/9 [b]\nrest"),
        ("x: 10%|# | 1/9 [a]\ny: 20%|##| 2/9 [b]", "x: 10%|# | 1/9 [a]\ny: 20%|##| 2/9 [b]"),
        ("accuracy 10% of 1/9", "accuracy 10% of 1/9"),
    ],
)
def test_streams_end_as_a_terminal_shows_them(written, shown):
    assert last_states(written) == shown


def test_provenance_needs_no_git(tree, monkeypatch):
    (tree / ".git").mkdir()
    monkeypatch.setenv("PATH", str(tree))
    assert provenance.commit() == {"id": "unknown", "dirty": None}


def test_provenance_tells_which_artefacts_are_of_other_parameters(tree):
    folder = paths.artefacts("cpu") / "sft" / "sciq"
    with artefacts.making(folder, "0123"):
        (folder / "adapter.safetensors").write_bytes(b"weights")
    [row] = provenance.collect("cpu", None)["artefacts"]
    assert (row["step"], row["name"], row["key"], row["current"]) == ("sft", "sciq", "0123", False)
    assert list(row["sha256"]) == ["adapter.safetensors"]


def test_provenance_names_the_commit_behind_a_moving_revision(tree, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tree / "hub"))
    refs = tree / "hub" / "models--meta-llama--Llama-2-7b-hf" / "refs" / "main"
    refs.parent.mkdir(parents=True)
    refs.write_text("abc123")
    record = provenance.collect("a100-7b", None)
    assert record["sources"]["meta-llama/Llama-2-7b-hf"] == {"revision": "main", "commit": "abc123"}
    assert record["sources"]["vblagoje/lfqa"] == {"config": "", "split": "train", "revision": "main", "commit": ""}
    assert record["archives"] == {}
