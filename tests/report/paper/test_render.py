"""The write-up: it says what the tables say, in three formats, whatever is missing and whatever a name holds."""

import html.parser
import itertools
import json
import os
import re
import shutil
import subprocess

import mistune
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.__main__ import main
from s2utils.evaluation import metrics
from s2utils.report.paper import markup, phrases, render
from s2utils.results import claims, tables
from s2utils.workflow import paths, steps
from s2utils.workflow.params import flat, load

EVIL = "<script>alert(1)</script> **b** [x](javascript:y) | `c` \\input{x} $m$ é中\u202e & # _ %"
TESTED = {
    "text_metrics_tests": ("rouge_l_f1", "bertscore_f1", "flesch_reading_ease", "flesch_kincaid_grade", "toxic"),
    "leaderboard_tests": ("average", "arc_acc_norm", "hellaswag_acc_norm", "mmlu_acc", "truthfulqa_mc2"),
}


class Make:
    """Tables of a profile as the notebooks write them, with values drawn by a seed."""

    def __init__(self, profile: str):
        self.profile, self.params, self.rng = profile, load(profile), np.random.default_rng(7)
        self.folder = paths.reports(profile) / "tables"
        self.models = steps.models(self.params)

    def file(self, name: str, rows: list[dict] | pd.DataFrame) -> None:
        known = metrics.TABLES.get(name)
        about = {"title": known.title if known else name, "caption": f"Protocol of {name}."}
        tables.write(pd.DataFrame(rows).round(6), name, self.folder, about)

    def measured(self, metric: str, low: float = 0, high: float = 1, end: str = "") -> dict:
        value, half = self.rng.uniform(low, high), (high - low) / 20
        ends = {"": value, "_ci_low": value - half, "_ci_high": value + half}
        return {f"{metric}{end}{tail}": number for tail, number in ends.items()}

    def data(self) -> None:
        names, s2 = list(self.params.data.sources), self.params.s2
        each = {
            "sizes": ("simple", [{"records": 1234, "words_median": 61.0, "fre_median": 58.25, "fkg_median": 8.75}]),
            "limits": (
                "kept",
                [{"fre_min": s2.fre_min - e, "fkg_max": s2.fkg_max + g} for e in (0, 10) for g in (0, 2)],
            ),
            "backends": ("kept", [{"readability": backend} for backend in ("pyphen", "cmudict")]),
            "vocabulary": ("easy_words", [{"kept": side} for side in ("dropped", "kept")]),
            "toxicity": ("toxic", [{"kept": side} for side in ("dropped", "kept")]),
            "lengths": ("too_long", [{"n_words_median": 61, "n_tokens_p95": 333}]),
        }
        for name, (metric, rows) in each.items():
            drawn = [{"dataset": n, "n": 1111} | row | self.measured(metric) for n in names for row in rows]
            self.file(f"eda_{name}", drawn)
        parts = (("read", 1000), ("under 20 words", 620), ("kept", 380))
        self.file("funnel", [{"dataset": n, "reason": r, "n": c} for n in names for r, c in parts])
        sizes = (("train", 300), ("validation", 70))
        self.file("sets", [{"dataset": n, "set": "sft", "split": s, "n": c} for n in names for s, c in sizes])
        asked = ((1, "", 91), (1, "too long", 9), (2, "", 6), (2, "too long", 3))
        self.file("questions", [{"attempt": a, "reason": r, "n": c, "dataset": names[1]} for a, r, c in asked])

    def training(self) -> None:
        sets, modes = self.params.sft.train_sets, [*self.params.merge.modes, "requantized", "nf4"]
        losses = {"eval_loss_before": 2.5, "eval_loss_after": 2.25, "steps": 88, "rows_too_long": 17}
        self.file("sft", [{"train_set": t, "eval_rows": 64, "train_rows": 300} | losses for t in sets])
        rows = [{"train_set": t, "merge_mode": m, "n": 64} | self.measured("kl", 0, 0.1) for t in sets for m in modes]
        self.file("merge", rows)
        self.pairs("merge_paired", ["kl"], -1, -0.5)

    def pairs(self, name: str, tested: list[str] | tuple[str, ...], low: float = -0.5, high: float = 0.5) -> None:
        rows = [{"train_set": t, "merge_mode": "dequantized", "minus": "bf16"} for t in self.params.sft.train_sets]
        for row in rows:
            for metric in tested:
                row |= self.measured(metric, low, high, "_difference")
                row |= {f"{metric}_difference_n": 100, f"{metric}_difference_n_failed": 0}
        self.file(name, rows)

    def results(self) -> None:
        sets, counts = self.params.datasets, {"n": 100, "n_failed": 0}
        for name, table in metrics.TABLES.items():
            keys = [{"dataset": d} for d in sets] if table.step == "text_metrics" else [{}]
            rows = [
                {k: getattr(m, k) for k in tables.MODEL} | key | {"n": 100, "n_cut": 11, "n_looping": 13}
                for key in keys
                for m in self.models
            ]
            for row in rows:
                for metric in metrics.columns(name):
                    row |= self.measured(metric) | {f"{metric}_n_failed": 0}
            self.file(name, tables.beside(pd.DataFrame(rows), name) if name in metrics.STUDY else rows)
        answers = {"n": 100, "cut": 21, "empty": 1}
        self.file("answers", [{"model": m.id, "dataset": d} | answers for m in self.models for d in sets])
        for name, tested in TESTED.items():
            keys = [{}] if name == "leaderboard_tests" else [{"dataset": d} for d in sets]
            tuned = [m for m in self.models if m.variant == "sft" or (m.variant == "chat" and len(keys) == 1)]
            self.file(name, [self.test(m, metric) | key for metric in tested for m in tuned for key in keys])
            self.pairs(name.replace("tests", "paired"), tested)
        self.pairs("mtbench_paired", metrics.columns("mtbench"))
        self.pairs("judge_paired", ["judge_rating"])
        protocols = {"n": 555, "n_changed": 14, "v1": 44.5, "harness": 43.25}
        rows = [{"metric": m} | protocols | self.measured("difference") for m in TESTED["leaderboard_tests"]]
        self.file("protocols", rows)
        leak = {"texts": "question", "test": "min_k", "value": 0.515, "ci_low": 0.45, "ci_high": 0.58} | counts
        self.file("membership", [{"dataset": d, "verdict": "can't tell"} | leak for d in self.params.data.sources])
        choice = {"metric": "rouge_2_f1", "choice": "prompt"} | counts
        self.file("protocols_text", [{"dataset": d} | choice | self.measured("effect") for d in sets])
        checks, judge = ("reference above shuffled", "repeats"), {"judge": "j", "kind": "single"} | counts
        self.file("judge_panel", [judge | {"check": check, "passed": "yes"} for check in checks])
        base = self.models[0].id
        rows = [{"model": m.id, "other": base, "n": 30} | self.measured("net", 0.2, 0.9) for m in self.models[2:]]
        self.file("judge_pairs", rows)

    def test(self, m: steps.ModelRow, metric: str) -> dict:
        base = self.models[0]
        keys = {"model": m.model, "merge_mode": m.merge_mode, "minus": base.model, "minus_merge_mode": base.merge_mode}
        numbers = {"n": 100, "n_failed": 2, "p": 0.4, "p_holm": 0.8, "d_z": 0.15, "verdict": "no evidence"}
        return keys | {"metric": metric} | self.measured("difference", -0.5, 0.5) | numbers

    def flip(self, name: str, where: dict, **changes: object) -> None:
        frame = tables.read(self.folder / f"{name}.csv").astype(object)
        chosen = np.logical_and.reduce([frame[k] == v for k, v in where.items()])
        assert chosen.any()
        frame.loc[chosen, list(changes)] = list(changes.values())
        frame.to_csv(self.folder / f"{name}.csv", index=False)

    def all(self) -> "Make":
        if self.profile not in MADE:
            self.data()
            self.training()
            self.results()
            claims.write(self.profile, self.params)
            MADE[self.profile] = {f.name: f.read_bytes() for f in self.folder.iterdir()}
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, content in MADE[self.profile].items():
            (self.folder / name).write_bytes(content)
        return self


MADE: dict[str, dict[str, bytes]] = {}  # made once, for the same seed gives the same


@pytest.fixture
def small(tree) -> Make:
    return Make("smoke").all()


@pytest.fixture
def full(tree) -> Make:
    return Make("a100-7b").all()


def section(text: str, title: str) -> str:
    """What stands below a heading, to the next of its rank."""
    rank = re.search(rf"^(#+) {re.escape(title)}$", text, re.M)[1]
    return re.split(rf"^#{{2,{len(rank)}}} ", text.split(f"\n{rank} {title}\n", 1)[1], maxsplit=1, flags=re.M)[0]


def test_a_verdict_changes_the_sentence(full):
    before = render.markdown("a100-7b")
    assert "In none of the 18 comparisons of a fine-tune with the base is there evidence" in section(before, "Summary")
    where = {"metric": "flesch_reading_ease", "dataset": "wiki", "model": "Llama-2-7b-ELI5", "merge_mode": "bf16"}
    easier = {"difference": 4.25, "difference_ci_low": 1.5, "difference_ci_high": 7.75, "p_holm": 0.012}
    full.flip("text_metrics_tests", where, verdict="different", **easier)
    summary = section(render.markdown("a100-7b"), "Summary")
    assert "in one it is easier to read and for the other 17 there is no evidence of a difference" in summary
    told = "Llama-2-7b-ELI5 (simple merge) on wiki +4.25 [+1.50, +7.75] (n = 100, 2 failed, p = 0.012, d = +0.15)"
    assert told in summary
    full.flip("text_metrics_tests", where, difference=-4.25, difference_ci_low=-7.75, difference_ci_high=-1.5)
    summary = section(render.markdown("a100-7b"), "Summary")
    assert "in one it is harder to read" in summary and "easier" not in summary
    assert "In none of the nine comparisons" in section(render.markdown("a100-7b"), "Readability")  # the careful merge


def test_no_evidence_names_no_winner(full):
    text = section(render.markdown("a100-7b"), "Readability")
    for word in ("best", "Different:", "highest", "beats", "wins"):
        assert word not in text


def test_each_part_of_the_text_follows_its_table(full):
    here = {"dataset": "ELI5", "fre_min": 60.0, "fkg_max": 9.0}
    full.flip("eda_limits", here, kept=0.3, kept_ci_low=0.25, kept_ci_high=0.35)
    text = render.markdown("a100-7b")
    assert "validation loss fell from 2.5000 to 2.2500" in section(text, "Model and training")
    assert "the careful merge is nearer than the simple merge" in section(text, "Merging")
    assert "The limits keep 30.0 % [25.0, 35.0] of the answers" in section(text, "A look at the data")
    assert "most of this text is not simple, as expected" in section(text, "A look at the data")
    parts = ("on a list of easy words", "Over the limit of toxicity are", "Rows over 1,024 tokens", "limit in disguise")
    assert [section(text, "A look at the data").count(part) for part in parts] == [2] * 4
    assert "Not measured" not in text
    full.flip("sft", {"train_set": "wiki"}, eval_loss_after=2.75)
    full.flip("merge_paired", {"train_set": "wiki"}, kl_difference_ci_high=0.5)
    full.flip("eda_limits", here, kept_ci_high=0.55)
    full.flip("funnel", {"dataset": "ELI5", "reason": "kept"}, n=123)
    text = render.markdown("a100-7b")
    lost = "**wiki**: the validation loss did not fall: it went from 2.5000 to 2.7500"
    assert lost in section(text, "Model and training")
    assert "the careful merge shows no evidence of being nearer" in section(text, "Merging")
    assert "it cannot be told whether most of this text is simple" in section(text, "A look at the data")
    assert "**ELI5**: 123 of 1,000 records (12.3 %) are kept" in section(text, "Filtering")


def test_marks_of_the_table_name_the_best_where_a_test_bears_it_out(full):
    frame = pd.read_csv(full.folder / "rouge.csv", keep_default_na=False).assign(rouge_l_f1_mark="")
    frame.loc[1, "rouge_l_f1_mark"] = "best, not told apart"
    frame.to_csv(full.folder / "rouge.csv", index=False)
    assert "By ROUGE-L no model is told apart from the runner-up." in render.markdown("a100-7b")
    frame.loc[1, "rouge_l_f1_mark"] = "best"
    frame.to_csv(full.folder / "rouge.csv", index=False)
    assert "told apart from the runner-up in one case: Llama-2-7b-chat on ELI5." in render.markdown("a100-7b")


def test_a_judge_that_fails_a_check_is_not_believed(full):
    text = section(render.markdown("a100-7b"), "MT(S)-bench")
    assert "It passed all of its two checks" in text and "judged better than the base" in text
    full.flip("judge_panel", {"check": "repeats"}, passed="no")
    text = section(render.markdown("a100-7b"), "MT(S)-bench")
    assert "it failed one of two checks" in text and "carry no weight" in text and "judged better" not in text


def test_published_values_stand_beside_ours_where_the_model_is_the_same(full, small):
    text = section(render.markdown("a100-7b"), "Leaderboard")
    assert "Of 25 published values" in text and "(53.40)" in text and "(56.34)" in text
    assert "no published value stands beside ours" in section(render.markdown("smoke"), "Leaderboard")


def test_both_merges_have_their_results(full):
    text = render.markdown("a100-7b")
    assert "pipeline" not in text
    for title in ("Leaderboard", "ROUGE", "BERTScore", "Readability", "MT(S)-bench", "Judged validation set"):
        assert all(f"#### {merge} merge" in section(text, title) for merge in ("Careful", "Simple")), title


def test_small_profiles_say_what_they_prove(small):
    text = render.markdown("smoke")
    assert "prove the pipeline, not the question" in text
    for title in ("Summary", "Results", "Limits", "The study's claims"):
        assert "pipeline" in section(text, title), title


# Numbers


def decorated(text: str) -> str:
    """The text without Markdown's escapes, its tables' rules, and the numbers of tables and figures."""
    text = re.sub(r"\\(.)", r"\1", text)
    return re.sub(r"^(Table|Figure) \d+: ", "", re.sub(r"^\|[ |:-]+\|$", "", text, flags=re.M), flags=re.M)


def known(made: Make) -> tuple[set, set]:
    """(numbers, names) of all tables and parameters, and counts and sums of rows that are alike."""
    files = [*made.folder.glob("*.csv"), *paths.reports("published").rglob("*.csv")]
    pool = {0.05, 0.001, *made.params.s2.min_words.values()}  # the level of tests, and the p that is not told smaller
    names = {*(m.full_name for m in metrics.METRICS.values()), *(m.label for m in metrics.METRICS.values())}
    names |= {text for t in metrics.TABLES.values() for text in (t.title, t.protocol)} | {"Llama-2", "F1", "NF4"}
    for frame in map(tables.read, files):
        numbers = frame.select_dtypes("number")
        words = [c for c in frame if c not in numbers]
        pool |= set(np.abs(numbers.to_numpy(dtype=float).ravel())) | set(numbers.sum()) | {len(frame)}
        names |= {str(v) for c in words for v in frame[c]}
        for pair in itertools.combinations_with_replacement(words, 2):
            alike = frame.groupby(list(dict.fromkeys(pair)))
            pool |= set(alike.size()) | set(alike["n"].sum() if "n" in numbers else ())
        theirs = [c for c in numbers if c.endswith("_published")]
        ends = [[c.replace("_published", end) for c in theirs] for end in ("_ci_low", "_ci_high")]
        low, printed, high = (numbers[columns].to_numpy() for columns in (ends[0], theirs, ends[1]))
        pool |= {int((printed == printed).sum()), int(((low <= printed) & (printed <= high)).sum())}
    funnel = tables.read(made.folder / "funnel.csv")
    pool |= set(funnel["n"] / funnel["n"].max())
    for value in flat(made.params).values():
        (names if isinstance(value, str) else pool).update([value] if isinstance(value, str | int | float) else [])
        names |= {str(v) for v in value} if isinstance(value, list) else set()
    names |= {m.model for m in made.models} | {f.stem for f in made.folder.iterdir()} | {made.profile}
    return {float(v) for v in pool if v == v}, names | {s.notebook for s in steps.STEPS.values()}


def foreign(text: str, pool: set, names: set) -> list[str]:
    """Numbers of a text that are none of `pool`, rounded as they are printed, as they are or as percent."""
    for name in sorted((n for n in names if re.search(r"[A-Za-z]", n)), key=len, reverse=True):
        text = text.replace(name, " ")
    values, found = np.array(sorted(pool)), []
    for token in dict.fromkeys(re.findall(r"\d[\d,]*\.?\d*", text)):
        number, digits = float(token.replace(",", "").rstrip(".")), len(token.rstrip(".").partition(".")[2])
        if all(np.abs(times * values - number).min() > 0.5 * 10**-digits + 1e-9 for times in (1, 100)):
            found.append(token)
    return found


@pytest.mark.parametrize("profile", ["smoke", "a100-7b"])
def test_every_number_stands_in_a_table(tree, profile):
    made = Make(profile).all()
    text = decorated(render.markdown(profile))
    assert len(re.findall(r"\d+\.\d+", text)) > 300
    pool, names = known(made)
    assert foreign(text, pool, names) == []
    assert foreign(f"{text} and 123.4567", pool, names) == ["123.4567"]


def test_the_prose_itself_holds_no_number():
    for file in render.PAPER.glob("*.md"):
        prose = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", file.read_text(encoding="utf-8"), flags=re.S)
        for name in ("Llama-2", "ELI5", "NF4", "F1", "ROUGE-2"):
            prose = prose.replace(name, "")
        assert not re.search(r"\d", prose), (file.name, re.findall(r".{20}\d+.{20}", prose))


# What is missing, and what is hostile


def test_without_a_table_the_text_says_which_notebooks_make_them(tree):
    text = (render.write("smoke").parent / "writeup.md").read_text(encoding="utf-8")
    makers = {table: step.notebook for step in steps.STEPS.values() for table in step.tables}
    missing = set(re.findall(r"the table `(\w+)\.csv` is missing", text))
    told = {"eda_sizes", "funnel", "sft", "merge", "answers", "claims", "protocols", "membership", "judge_panel"}
    study = {name for name, table in metrics.TABLES.items() if steps.STEPS[table.step].part == "study"}
    assert told | study <= missing
    for name in missing - {"claims"}:
        assert (
            f"`{name}.csv` is missing; `notebooks/{makers[name]}.ipynb` makes it (`make {makers[name]} PROFILE" in text
        )
    assert "`claims.csv` is missing; `python -m s2utils report` makes it (`make report PROFILE=smoke`)" in text


def test_any_of_the_tables_may_be_missing(small):
    kept = {f.stem: f.read_bytes() for f in small.folder.glob("*.csv")}
    groups = [[n for n in kept if n.endswith(tail)] for tail in ("_tests", "_paired")]
    for group in (*groups, list(kept)[::2], list(kept)[1::2]):
        for name in group:
            (small.folder / f"{name}.csv").unlink()
        text = render.markdown("smoke")
        assert any(f"the table `{name}.csv` is missing" in text for name in group), group
        for name in group:
            (small.folder / f"{name}.csv").write_bytes(kept[name])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is missing"), ("{head}", "holds no row"), ("x,y\n1,2", "lacks"), ('{head}\n"x', "cannot be read"),
        (b"a,b\n\xff\xfe,1", "cannot be read"), ("{head}\n{words}", "holds words"),
    ],
)  # fmt: skip
def test_tables_that_are_not_as_they_should_be_never_stop_the_text(small, content, told):
    for file in small.folder.glob("*.csv"):
        head = file.read_text(encoding="utf-8").splitlines()[0]
        words = ",".join("x" * len(head.split(",")))
        file.write_bytes(content if isinstance(content, bytes) else content.format(head=head, words=words).encode())
    assert render.markdown("smoke").count(f"csv` {told}") > 10


def test_a_table_without_its_schema_is_not_believed(small):
    (small.folder / "sft.json").unlink()
    assert "the table `sft.csv` has no schema beside it; `notebooks/03_sft.ipynb`" in render.markdown("smoke")


class Page(html.parser.HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.tags, self.links, self.text = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [v for k, v in attrs if k in ("href", "src")]

    def handle_data(self, data):
        self.text.append(data)


def hostile(made: Make) -> None:
    """Names that are markup, in every column of text and in every caption."""
    for file in made.folder.glob("*.csv"):
        frame = tables.read(file)
        named = "dataset reason readability check statement claim train_set other".split()
        for column in set(frame) & set(named):
            frame[column] = frame[column] + EVIL
        if "model" in frame:
            frame["model"] = [f"[{v}] {EVIL}" for v in frame["model"]]
        frame.to_csv(file, index=False)
    for file in made.folder.glob("*.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"caption": EVIL}), encoding="utf-8")


def test_names_stay_text_in_every_format(small):
    for name in TESTED:
        small.flip(name, {"verdict": "no evidence"}, verdict="different")
    hostile(small)
    page = render.write("smoke")
    body = Page(page.read_text(encoding="utf-8").split('<main id="main">')[1])
    written = (page.parent / "writeup.md").read_text(encoding="utf-8")
    again = Page(mistune.create_markdown(escape=False, plugins=["table"])(written))
    for read in (body, again):
        assert not read.tags & {"script", "iframe", "svg", "input"}
        assert not any("javascript" in link for link in read.links)
    assert EVIL.replace("\u202e", "[U+202E]") in "".join(body.text)
    latex = (page.parent / "writeup.tex").read_text(encoding="utf-8")
    assert latex.isascii() and r"\input" not in latex
    assert r"\textbackslash{}input\{x\}" in latex and r"\'{e}[U+4E2D][U+202E]" in latex


def test_the_same_tables_give_the_same_bytes(small):
    def written():
        return {f.name: f.read_bytes() for f in render.write("smoke").parent.glob("writeup.*")}

    first = written()
    assert set(first) == {"writeup.html", "writeup.md", "writeup.tex"} and written() == first
    assert not re.search(rb"\b20\d\d-\d\d-\d\d\b|\b\d\d:\d\d\b", first["writeup.md"])


def test_figures_come_inside_the_page_and_as_vectors_in_latex(small):
    folder = paths.reports("smoke") / "figures"
    folder.mkdir()
    for kind in ("png", "pdf"):
        (folder / f"funnel.{kind}").write_bytes(b"bytes")
    (folder / "funnel.txt").write_text("Bars & <b>\nThe funnel_1.", encoding="utf-8")
    page = render.write("smoke")
    text = page.read_text(encoding="utf-8")
    assert 'src="data:image/png;base64,Ynl0ZXM="' in text and 'alt="Bars &amp; &lt;b&gt;"' in text
    assert "The funnel_1.</figcaption>" in text
    latex = (page.parent / "writeup.tex").read_text(encoding="utf-8")
    assert r"\includegraphics[width=\linewidth]{figures/funnel.pdf}" in latex and r"The funnel\_1." in latex
    assert "The figure `sft_loss.png` is missing" in (page.parent / "writeup.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_latex_compiles_with_hostile_names(small):
    if not shutil.which("pdflatex"):
        assert not os.environ.get("CI"), (
            "pdflatex is missing: install texlive-latex-recommended and texlive-fonts-recommended"
        )
        pytest.skip("pdflatex is not installed")
    import matplotlib.pyplot as plt

    folder = paths.reports("smoke") / "figures"
    folder.mkdir()
    for kind in ("png", "pdf"):
        plt.figure(figsize=(1, 1)).savefig(folder / f"funnel.{kind}")
    for attack in (lambda made: None, hostile):
        attack(small)
        page = render.write("smoke")
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "writeup.tex"]
        done = subprocess.run(command, cwd=page.parent, capture_output=True, timeout=300)
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
        assert (page.parent / "writeup.pdf").stat().st_size > 20_000


def test_the_command_says_what_it_wrote_and_refuses_a_profile_it_does_not_know(tree, capsys):
    assert main(["write-up", "smoke"]) == 0 and capsys.readouterr().out == "reports/smoke/writeup.html\n"
    assert main(["write-up", "nowhere"]) == 2 and "there is no profile 'nowhere'" in capsys.readouterr().err


# Words


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (phrases.number(-1234.5, 1), "−1,234.5"), (phrases.number(float("nan")), "–"),
        (phrases.number(-0.001, 2, True), "+0.00"),
        (phrases.percent(0.125, 1), "12.5 %"), (phrases.count(0), "none"), (phrases.count(0, "test"), "no test"),
        (phrases.count(1, "test"), "one test"), (phrases.count(12, "test"), "12 tests"),
        (phrases.listed(["a_b", "c", "d"]), "a\\_b, c and d"), (phrases.listed([]), ""),
        (phrases.estimate({"m": 1.0}, "m", 1), "1.0 (no interval)"),
    ],
)  # fmt: skip
def test_words(said, wanted):
    assert said == wanted


@given(st.text(min_size=1))
def test_a_value_is_shown_as_it_is(text):
    shown = markup.plain(text).strip()
    for made in (f"x {markup.escape(text)} y", f"x {markup.code(text)} y", f"- {markup.escape(text)} y"):
        read = Page(markup.to_html(markup.tokens(made), None))
        assert shown in re.sub(r"\s+", " ", "".join(read.text))
        assert read.tags <= {"p", "code", "ul", "li"} and not read.links
    assert markup.to_latex(markup.tokens(f"x {markup.escape(text)} y")).isascii()


@given(st.lists(st.text(), min_size=2, max_size=3))
def test_a_cell_stays_in_its_table(cells):
    view = pd.DataFrame([cells, ["1"] * len(cells)], columns=[f"c{i}" for i in range(len(cells))])
    found = markup.tokens(f"Table 1: T\n\n{markup.grid(view)}")
    assert [t["type"] for t in found] == ["float"]
    rows = markup.to_html(found, None)
    assert rows.count("<td") == 2 * len(cells) and rows.count("<th") - rows.count("<thead") == len(cells)
