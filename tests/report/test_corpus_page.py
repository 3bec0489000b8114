"""The page of a corpus that somebody brings: every document counted, nothing of it acts, no detail is told."""

import gzip
import json

import pandas as pd
import pytest
import zstandard
from conftest import write_jsonl

from s2utils.__main__ import main
from s2utils.data import corpora

EVIL = "<script>window.ran=1</script>$\\frac \u202e"
THINGS = "weather island harbour market garden winter kitchen library mountain village river castle".split()
TEXT = "He said that it was good on the {0}, and she wrote to ann{2}@example.org about the {1} of the day: {2}. "


def english(n: int) -> list[str]:
    return [TEXT.format(THINGS[i % 12], THINGS[5 * i % 12], i) for i in range(n)]


@pytest.fixture
def folder(tmp_path):
    """Texts of three domains in four formats; of what cannot be used one of each kind."""
    made = tmp_path / "My texts"
    (made / "web").mkdir(parents=True)
    lines = [json.dumps({"id": f"ann{i}@example.org", "text": text}) for i, text in enumerate(english(30))]
    lines += ["{broken", '{"text": " "}', '{"other": 1}', '{"text": "a", "domain": null}', "x" * 3000]
    raw = "\n".join(lines).encode() + b'\n{"text": "\xff"}\n'
    (made / "web" / "a.jsonl.gz").write_bytes(gzip.compress(raw))
    row = {"text": f"{EVIL} This is a page that tells of the weather and of nothing else.", "domain": EVIL}
    (made / "b.jsonl.zst").write_bytes(zstandard.compress(json.dumps(row).encode()))
    (made / "c.txt").write_text("A whole file is one text, and that is all that there is to it.")
    return made


def table(tree, name):
    return pd.read_csv(tree / "reports/corpus-my-texts/tables" / f"{name}.csv", keep_default_na=False, na_values="")


def test_every_document_is_counted_and_the_page_tells_of_it(folder, tree, chromium, capsys, monkeypatch):
    monkeypatch.setattr(corpora, "LONGEST", 2000)
    assert main(["corpus", str(folder), "--profile", "smoke"]) == 0
    assert "reports/corpus-my-texts/index.html" in capsys.readouterr().out
    read = dict(table(tree, "corpus_read").itertuples(index=False))
    left_out = ("broken row", "empty", "no text", "no domain", "too long", "not UTF-8")
    assert read == {"kept": 32} | dict.fromkeys(left_out, 1)
    mix = table(tree, "corpus_mix").set_index("domain")
    assert mix.loc["web", "documents"] == 30 and mix.loc["total", "documents"] == 32
    assert mix.loc["web", "raw_size"] == sum(map(len, english(30)))
    assert mix["weight"].iloc[:-1].sum() == pytest.approx(1, abs=1e-5)
    lengths = table(tree, "corpus_lengths")
    assert set(lengths["unit"]) == {"characters", "bytes", "words", "tokens"}
    content = table(tree, "corpus_content").set_index(["domain", "kind"])
    assert content.loc[("web", "e-mail"), "n_hits"] == 30

    reports = tree / "reports/corpus-my-texts"
    assert not [p for p in (tree / "reports").iterdir() if p.name.startswith(".")]
    for file in [*reports.glob("tables/*"), reports / "index.html", reports / "figures/corpus_lengths.svg"]:
        assert "example.org" not in file.read_text(encoding="utf-8"), file.name
    asked, page = [], chromium.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: asked.append(message.text))
    page.goto((reports / "index.html").as_uri())
    assert page.evaluate("window.ran") is None and all(url.startswith(("file:", "data:")) for url in asked)
    assert page.locator("h1").inner_text() == "What is in My texts"
    assert page.locator("p.lede").inner_text().startswith("32 documents were read, 6 were not used.")
    assert page.locator("table").count() == len(list(reports.glob("tables/*.csv")))
    assert page.locator("#table-corpus_read tbody tr").count() == 7
    assert page.locator("figure img").evaluate("image => image.naturalWidth") > 300
    shown = page.locator("#table-corpus_samples").inner_text()
    assert "[e-mail]" in shown and "<script>window.ran=1</script>" in shown and "⟨U+202E⟩" in shown
    gaps = page.locator("p.gap").all_inner_texts()
    assert page.locator("h2").count() + len(gaps) == 13 and any("Words beside words" in gap for gap in gaps)
    page.close()


def test_a_second_run_takes_the_place_of_the_first_and_a_failed_one_leaves_it(folder, tree, capsys):
    file = folder / "web" / "a.jsonl.gz"
    for sample in ("20", "0"):
        assert main(["corpus", str(file), "--profile", "smoke", "--sample", sample]) == 0
        read = pd.read_csv(tree / "reports/corpus-a/tables/corpus_read.csv").set_index("reason")["n"]
        assert read.sum() == 36 and read["kept"] == (20 if sample == "20" else 30)
        assert read.get("not drawn", 0) == (10 if sample == "20" else 0)
    before = {p: p.read_bytes() for p in sorted((tree / "reports").rglob("*")) if p.is_file()}
    file.write_bytes(gzip.compress(b'{"text": "\xff"}\n{"text": ""}\n'))
    capsys.readouterr()
    assert main(["corpus", str(file), "--profile", "smoke"]) == 1
    assert "no document can be used (1 not UTF-8, 1 empty)" in capsys.readouterr().err
    assert before == {p: p.read_bytes() for p in sorted((tree / "reports").rglob("*")) if p.is_file()}


def test_other_columns_are_read(tmp_path, tree):
    rows = [{"body": text, "meta": {"set": "ab"[i % 2]}} for i, text in enumerate(english(6))]
    write_jsonl(tmp_path / "rows.jsonl", *rows)
    given = ["--profile", "smoke", "--text", "body", "--domain", "meta.set"]
    assert main(["corpus", str(tmp_path / "rows.jsonl"), *given]) == 0
    mix = pd.read_csv(tree / "reports/corpus-rows/tables/corpus_mix.csv")
    assert mix["domain"].tolist() == ["a", "b", "total"] and mix["documents"].tolist() == [3, 3, 6]


@pytest.mark.parametrize(
    ("make", "code", "message"),
    [
        (lambda path: None, 2, "there is no such file or folder"),
        (lambda path: path.mkdir(), 1, "no file in this folder is one of .jsonl"),
        (lambda path: (path.mkdir(), (path / "a.jsonl").write_text("\n")), 1, "holds no documents"),
        (lambda path: (path.mkdir(), (path / "a.jsonl.gz").write_bytes(gzip.compress(b"x" * 99)[:20])), 1, "a.jsonl"),
        (lambda path: (path.mkdir(), (path / "all").mkdir(), (path / "all/a.txt").write_text("a")), 1, "another name"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_said_in_one_line(tmp_path, tree, capsys, make, code, message):
    make(tmp_path / "texts")
    assert main(["corpus", str(tmp_path / "texts"), "--profile", "smoke"]) == code
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in said and not (tree / "reports/corpus-texts").exists()
