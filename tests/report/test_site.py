"""The site in a real browser: it works, loads nothing, runs nothing but its own, and can be read by everybody."""

import io
import json
import random
import re
import shutil
import time
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import REPOSITORY
from PIL import Image
from playwright.sync_api import expect
from test_build import HOSTILE, fill

from s2utils.data import cards
from s2utils.report import build, compare
from s2utils.workflow import artefacts, params, paths, provenance, steps

pytestmark = pytest.mark.slow
PICTURES = REPOSITORY / "reports" / "screenshots"  # kept, as CI artefacts
EVIL = (
    f"{HOSTILE}<img src=x onerror=alert(2)><svg onload=alert(3)></p></main><b>bold</b> \x1b[31mred\x1b[0m "
    "\u202eabc\u202c \\frac{1}{2} $x$ | a | b |\n|---|---|\n<!-- -->]]></script>"
)
N = 100  # questions a data set


def words(rng: random.Random, n: int) -> str:
    return " ".join(rng.choice(("rain", "light", "the", "a", "cat", "water", "why", "grows", "sun")) for _ in range(n))


def scores(models: list, datasets: list[str]) -> pd.DataFrame:
    """Answers and metrics of every model: question 3 is hostile, question 4 has a line of 100 kB."""
    rng, rows = random.Random(0), []
    for dataset in datasets:
        for i in range(N):
            asked = {
                "dataset": dataset,
                "source": "sciq",
                "id": str(i),
                "question": f"Question {i}: {words(rng, 8)}?",
                "reference": words(rng, 60),
            }
            if i == 3:
                asked |= {"question": EVIL, "reference": EVIL}
            for model in models:
                text = EVIL if i == 3 else "x" * 100_000 if i == 4 else f"{words(rng, 150)} {model.id}"
                ease = rng.gauss(50, 10) + (200 if i == 7 and model.merge_mode == "dequantized" else 0)
                ease -= 300 if i == 9 and model.variant == "sft" else 0
                made = {"text": text, "n_tokens": 150, "ended": i % 5 > 0, "looping": i == 11, "model_id": model.id}
                keys = {k: getattr(model, k) for k in ("model", "base", "variant", "train_set", "merge_mode")}
                measured = {
                    "rouge_l_f1": rng.random(),
                    "bertscore_f1": rng.random(),
                    "flesch_reading_ease": ease,
                    "flesch_kincaid_grade": 12 - ease / 10,
                }
                rows.append(asked | made | keys | measured)
    return pd.DataFrame(rows)  # fmt: skip


def study(profile: str) -> None:
    """What a run of `profile` leaves, made up: every text of a model or a source is hostile somewhere."""
    p = params.load(profile)
    models, folder = steps.models(p), paths.artefacts(profile)
    fill(profile, p.model.name, notebooks=("01_eda", "02_datasets", "05_text_metrics", "04_generate.one"))
    with artefacts.replacing(folder / "text_metrics" / "scores.parquet", "wb") as file:
        scores(models, p.datasets).to_parquet(file)
    for model in models:
        rows = [
            {"question_id": q, "turn": t, "text": EVIL, "ended": True, "rating": 7.0 - t, "reply": EVIL, "again": "",
                "error": "", "judge": "j"}
            for q in (8, 41) for t in (1, 2)
        ]  # fmt: skip
        artefacts.append_jsonl(folder / "mtbench" / model.id / "judged.jsonl", rows)
    held = folder / "data"
    held.mkdir()
    record = {"dataset": "sciq", "question": EVIL, "answer": EVIL, "fre": 61.0, "fkg": 5.0}
    rows = [record | {"id": str(i), "dropped": ("toxicity over 0.1", "under 20 words")[i % 2]} for i in range(40)]
    pd.DataFrame(rows).to_parquet(held / "rejected.parquet")
    pd.DataFrame([record | {"id": "k"}]).to_parquet(held / "train.parquet")
    (held / "funnel.csv").write_text(
        "dataset,reason,n\nsciq,read,41\nsciq,under 20 words,20\nsciq,toxicity over 0.1,20\nsciq,kept,1\n"
    )
    (held / "README.md").write_text(f"---\nlanguage: en\n---\n# Card\n\n{cards._line(EVIL)}\n")
    tests = [
        {"metric": "flesch_reading_ease", "dataset": d, "model": m.id, "minus": p.model.name, "n": 100, "n_failed": 0,
         "difference": 9.5, "difference_ci_low": 5.0, "difference_ci_high": 14.0, "p": 0.001, "p_holm": 0.004,
         "d_z": 0.5, "verdict": "different"}
        for d in ("ELI5", "wiki") for m in models[2:]
    ]  # fmt: skip
    pd.DataFrame(tests).to_csv(paths.reports(profile) / "tables" / "text_metrics_tests.csv", index=False)
    provenance.write(profile, "")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A report of made-up results at full size: 8 models, 300 questions; beside it another, and what differs."""
    root = tmp_path_factory.mktemp("site") / "repository"
    for folder in ("params", "notebooks", "s2utils", "reports/published"):
        shutil.copytree(REPOSITORY / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S2_ROOT", str(root))
        study("cpu")
        made = build.build("cpu").parent
        for folder in (paths.reports, paths.artefacts):
            shutil.copytree(folder("cpu"), folder("other"))
        table = paths.reports("other") / "tables" / "rouge.csv"
        table.write_text(table.read_text().replace("0.", "0.1"))
        scored = paths.artefacts("other") / "text_metrics" / "scores.parquet"
        answers = pd.read_parquet(scored)
        answers.assign(rouge_l_f1=answers["rouge_l_f1"] / 2).to_parquet(scored)
        compare.write(compare.side("cpu"), compare.side("other"))
        yield made


@pytest.fixture
def opened(chromium, site):
    """Open a page of the site; at the end nothing may have been asked of the network, and nothing have gone wrong."""
    contexts, wrong = [], []

    def open_page(path: str, **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        context.on("request", lambda r: r.url.startswith(("file:", "data:")) or wrong.append(f"request of {r.url}"))
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda m: m.type in ("error", "warning") and wrong.append(f"{path}: {m.text}"))
        page.on("pageerror", lambda e: wrong.append(f"{path}: {e}"))
        page.on("dialog", lambda d: (wrong.append(f"{path}: a dialog, so model text ran"), d.dismiss()))
        file, _, anchor = path.partition("#")
        page.goto((site / file).as_uri() + (f"#{anchor}" if anchor else ""))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def test_every_page_opens_and_every_link_and_anchor_is_there(site, opened):
    page = opened("index.html")
    links, ids = {}, {}
    for file in sorted(site.parent.rglob("*.html")):
        page.goto(file.as_uri())
        links[file] = page.eval_on_selector_all("a[href]", "all => all.map(a => a.getAttribute('href'))")
        ids[file] = set(page.eval_on_selector_all("[id]", "all => all.map(e => e.id)"))
    assert len(links) >= 15
    for file, found in links.items():
        for link in found:
            target, _, anchor = link.partition("#")
            there = (file.parent / unquote(target)).resolve() if target else file
            assert there.is_file(), f"{file.name}: {link}"
            assert not anchor or {anchor, unquote(anchor)} & ids[there], f"{file.name}: {link}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_keeps_a_reader_out(site, opened, scheme):
    """axe-core finds nothing serious, in either colours, and the answers neither with a judge's words open."""
    pages = (
        "index",
        "tables/rouge",
        "tables/text_metrics_tests",
        "html/05_text_metrics",
        "data",
        "provenance",
        "writeup",
        "../compare/cpu..other",
        "answers",
    )
    page, found = opened("index.html", color_scheme=scheme, bypass_csp=True), []
    for name in pages if scheme == "light" else pages[:2] + pages[-1:]:
        page.goto((site / f"{name}.html").as_uri())
        page.eval_on_selector_all("details", "all => all.forEach(d => { d.open = true; })")
        rules = ["wcag2a", "wcag2aa", "wcag21aa"] if scheme == "light" else ["color-contrast"]  # the rest is the same
        kind = "tag" if scheme == "light" else "rule"
        result = Axe().run(page, options={"resultTypes": ["violations"], "runOnly": {"type": kind, "values": rules}})
        for v in result.response["violations"]:
            if v["impact"] in ("serious", "critical"):
                found.append((name, v["id"], [n["html"][:120] for n in v["nodes"][:3]]))
    assert found == []


def test_a_table_sorts_searches_and_copies(site, opened):
    page = opened("tables/rouge.html", permissions=["clipboard-read", "clipboard-write"])

    def column(i):
        return page.eval_on_selector_all(
            f"#grid tbody tr:not([hidden]) td:nth-child({i})", "all => all.map(c => c.dataset.sort)"
        )

    heads = page.locator("#grid thead th")
    at = [i for i in range(heads.count()) if "ROUGE-1" in heads.nth(i).inner_text()][0] + 1
    for order, down in (("ascending", False), ("descending", True)):
        heads.nth(at - 1).locator("button").click()
        values = [float(v) for v in column(at)]
        assert heads.nth(at - 1).get_attribute("aria-sort") == order and values == sorted(values, reverse=down)
    assert page.locator("#grid th[aria-sort]").count() == 1
    page.get_by_label("Search").fill("wiki bf16")
    assert set(column(1)) == {"wiki"} and page.locator("[data-count=grid]").inner_text() == "1 of 4"
    for label, file in (("LaTeX", "rouge.tex"), ("CSV", "rouge.csv"), ("Markdown", "rouge.md")):
        button = page.locator(f"[data-copy={label}]")
        button.click()
        expect(button).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == (site / "tables" / file).read_text()
    assert page.locator("#grid svg.interval .range").count() > 8  # the intervals are drawn


def test_300_questions_of_8_models_load_at_once_and_stay_smooth(site, opened):
    page = opened("index.html")
    started = time.perf_counter()
    page.goto((site / "answers.html").as_uri())
    page.wait_for_selector("body[data-ready]")
    page.wait_for_selector(".card")
    loaded = time.perf_counter() - started
    data = json.loads(page.locator("#data").text_content())
    assert len(data["models"]) == 8 and sum(not q["set"].startswith("MT") for q in data["questions"]) == 3 * N
    page.locator("#set").select_option("")
    times = {}
    for name, act in {
        "next": "document.getElementById('next').click()",
        "search": "text.value = 'grows sun'; text.dispatchEvent(new Event('input')); await new Promise(r => "
        "setTimeout(r, 100))",
        "order": "order.value = 'drop'; order.dispatchEvent(new Event('input')); await new Promise(r => setTimeout(r, "
        "10))",
    }.items():
        times[name] = page.evaluate(f"""async () => {{
            const [text, order] = ["text", "order"].map((id) => document.getElementById(id)), began = performance.now();
            {act};
            await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
            return performance.now() - began;
        }}""")  # fmt: skip
    size = (site / "answers.html").stat().st_size / 1e6
    told = ", ".join(f"{k} {v:.0f} ms" for k, v in times.items())
    print(f"\n8 models × 300 questions, {size:.1f} MB: loaded in {loaded:.2f} s; {told}")
    assert loaded < 2 and times["next"] < 300 and times["search"] < 1000 and times["order"] < 1000


def test_the_answers_by_keyboard_filters_orders_and_address(site, opened):
    page = opened("answers.html")
    title, count = page.locator("#view h1"), page.locator("#count")
    assert title.inner_text().startswith("Question 0") and page.locator(".card").count() == 8
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert title.inner_text().startswith("Question 1:")
    page.keyboard.press("/")
    page.keyboard.type("question 17:")
    expect(count).to_contain_text(re.compile("^1 of"))
    assert title.inner_text().startswith("Question 17") and "j" not in page.locator("#text").input_value()
    page.locator("#text").fill("")
    expect(count).to_contain_text(re.compile("^100 of"))
    page.keyboard.press("Escape")
    page.locator("#order").select_option("merges")
    expect(page.locator("#questions small").first).to_contain_text("·")
    page.locator("#questions button").first.click()
    assert title.inner_text().startswith("Question 7:")  # its merges are 200 points apart
    page.locator("#order").select_option("drop")
    page.wait_for_timeout(50)
    page.locator("#questions button").first.click()
    assert title.inner_text().startswith("Question 9:")  # 300 points lost
    page.locator("#max").fill("-100")
    expect(count).to_contain_text(re.compile("^1 of"))
    page.locator("#max").fill("")
    page.locator("#loops").check()
    expect(count).to_contain_text(re.compile("^1 of"))
    assert title.inner_text().startswith("Question 11:") and page.locator(".flag", has_text="loops").count() == 8
    shared = page.evaluate("location.hash")
    again = opened(f"answers.html{shared}")
    assert again.locator("#view h1").inner_text().startswith("Question 11:") and again.locator("#loops").is_checked()
    linked = opened("answers.html#set=full&q=sciq/42&metric=rouge_l_f1")
    assert linked.locator("#view h1").inner_text().startswith("Question 42:")
    assert linked.locator("#set").input_value() == "full" and linked.locator(".scores .chosen").count() == 16


@pytest.mark.parametrize(
    "path", ["answers.html#set=sciq&q=sciq/3", "answers.html#set=MT(S)-bench, turn 2&q=8", "data.html"]
)
def test_hostile_text_is_text(site, opened, path):
    page = opened(path)
    page.eval_on_selector_all("details", "all => all.forEach(d => { d.open = true; })")
    shown = page.locator("#main").inner_text()
    assert shown.count(HOSTILE) >= 9 and "␛[31mred" in shown and "⟨U+202E⟩abc" in shown and "|---|---|" in shown
    assert page.locator("#main :is(script, img, [onerror], [onload])").count() == 0 and "\x1b" not in shown
    assert page.locator("#main b", has_text="bold").count() == 0 and page.locator("main").count() == 1


def test_a_line_of_100_kb_stays_in_its_card(site, opened):
    page = opened("answers.html#set=sciq&q=sciq/4", viewport={"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".card").first.bounding_box()["height"] < 800


def test_a_script_that_slips_in_is_not_run(chromium, site, tmp_path):
    """The policy is the second lock: markup that escaping missed is refused by the browser."""
    text = (
        (site / "index.html")
        .read_text(encoding="utf-8")
        .replace("</main>", f"{HOSTILE}<img src=x onerror='window.ran=1'><script>window.ran=1</script></main>")
    )
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    page = chromium.new_page()
    refused = []
    page.on("console", lambda m: refused.append(m.text))
    page.goto((tmp_path / "page.html").as_uri())
    assert page.evaluate("window.ran") is None and sum("Content Security Policy" in r for r in refused) >= 3
    page.close()


def test_colours_follow_the_system_and_the_reader(site, opened):
    page = opened("index.html", color_scheme="light")

    def paper():
        return sum(map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[:3]))

    assert paper() > 700
    page.emulate_media(color_scheme="dark")
    assert paper() < 150
    page.get_by_role("button", name="Light").click()
    assert paper() > 700
    page.goto((site / "tables/rouge.html").as_uri())
    assert paper() > 700  # remembered
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator(".top").is_visible() and paper() > 700
    page.set_viewport_size({"width": 760, "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth") <= 760, "a printed table runs off the paper"


def test_a_notebook_opens_at_the_cell_that_made_a_table(site, opened):
    page = opened("html/05_text_metrics.html#cell-id=b")
    assert page.locator("#cell-id\\=b details.code").get_attribute("open") is not None
    page.get_by_role("button", name="Fold all code").or_(page.get_by_role("button", name="Show all code")).click()
    page.get_by_role("link", name="Checks").first.click()
    assert page.url.endswith("#Checks")


LOOKS = {
    "light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
}


@pytest.mark.parametrize("look", LOOKS)
def test_pages_are_drawn_and_fit_the_screen(site, opened, look):
    page = opened("index.html", **LOOKS[look])
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in (
        "index",
        "tables/rouge",
        "html/05_text_metrics",
        "answers",
        "data",
        "provenance",
        "writeup",
        "../compare/cpu..other",
    ):
        page.goto((site / f"{name}.html").as_uri())
        picture = page.screenshot(path=PICTURES / f"{Path(name).name}.{look}.png")
        shades = Image.open(io.BytesIO(picture)).convert("L").getcolors()
        width, height = LOOKS[look]["viewport"].values()
        assert len(shades) > 20 and max(n for n, _ in shades) < 0.99 * width * height, name
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} is wider than the screen"
