"""docs/corpora.md: every archive, model and set that the repository uses, as profiles and archives have it."""

import re
from pathlib import Path

import pytest
import yaml

from s2utils.data.parameters import TRAINABLE
from s2utils.preflight.access import BOARD
from s2utils.workflow import params
from s2utils.workflow.archives import ARCHIVES, BY_HAND, CONTENTS, CONTENTS_BY_HAND, MADE_HERE, TARBALLS

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "corpora.md").read_text(encoding="utf-8")
PROFILES = {name: params.load(name) for name in params.profiles()}
COMPONENTS = {c.path: c for p in PROFILES.values() for c in p.corpus.components.values()}


def table(heading: str) -> list[dict[str, str]]:
    """Rows of the table of a section."""
    (section,) = (part for part in re.split(r"^## ", PAGE, flags=re.M) if part.startswith(f"{heading}\n"))
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    head, _, *rows = lines
    assert all(len(row) == len(head) for row in rows)
    return [dict(zip(head, row)) for row in rows]


INSIDE, HUB = table("What is in them"), table("What the A100 profiles take from the hub")
ROWS = [
    *((row["name in a profile"].strip("`"), row) for row in INSIDE),
    *((row["name"].strip("`"), row) for row in HUB),
]  # fmt: skip


def hub_names() -> set[str]:
    """What profiles and the leaderboard take from the hub."""
    named = set(BOARD)
    for p in PROFILES.values():
        models = (p.model.base, p.model.chat, p.data.embedder, p.text_metrics.bertscore)
        paths = [*(weights.path for weights in models), *(source.path for source in p.data.sources.values())]
        paths += [c.path for c in p.corpus.components.values()] + [p.s2.toxicity_model.split("@")[0]]
        named |= {path for path in paths if re.fullmatch(r"[\w.-]+/[\w.-]+", path) and not (ROOT / path).exists()}
    return named


def test_every_archive_stands_there_with_its_licence():
    told = [(row["archive"], row["licence"], row["what is read"]) for row in table("Archives")]
    assert told == [(a.requirement, a.licence, a.what) for a in (ARCHIVES | BY_HAND).values()]


def test_every_name_stands_there_once_with_its_archive():
    contents = CONTENTS | CONTENTS_BY_HAND
    assert [name for name, _ in ROWS] == list(dict.fromkeys(name for name, _ in ROWS))
    assert {row["name in a profile"].strip("`") for row in INSIDE} == {f"embedded:{k}" for k in [*contents, *MADE_HERE]}
    assert {row["name"].strip("`") for row in HUB} == hub_names()
    for row in INSIDE:
        key = row["name in a profile"].strip("`").removeprefix("embedded:")
        if key in contents:
            assert row["archive"] == (ARCHIVES | BY_HAND)[contents[key][0]].requirement, key


@pytest.mark.parametrize("path", COMPONENTS)
def test_a_component_is_as_the_profile_says(path):
    row, component = dict(ROWS)[path], COMPONENTS[path]
    assert row["licence"].removesuffix("; gated") == component.licence
    assert row["shown"] == ("yes" if component.show else "no")
    in_02 = any(source.path == path for p in PROFILES.values() for source in p.data.sources.values())
    assert row["trained on"] == ("yes" if component.train or in_02 else "no")


def test_what_is_trained_on_is_what_may_be():
    trained = {name.removeprefix("embedded:") for name, row in ROWS[: len(INSIDE)] if row["trained on"] == "yes"}
    assert trained == {*TRAINABLE, "sciq", "smollm2-135m-instruct"}
    assert {row["published"] for name, row in ROWS if row["trained on"] == "no"} <= {"scores", "–"}
    assert {row["shown"] for _, row in ROWS} == {"yes", "no", "a few", "–"}


def test_the_command_for_npm_makes_the_tarball_that_is_read():
    (requirement,) = (archive.requirement for archive in BY_HAND.values())
    assert f"npm pack {requirement} --pack-destination ~/.cache/s2" in PAGE
    assert all(name in PAGE for name in TARBALLS.values())


def test_a_component_of_ones_own_is_taken(tree):
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    (tree / "params" / "mine.yaml").write_text("extends: smoke\n" + block)
    assert params.load("mine").corpus.components["notes"].path == "my/notes"
    assert yaml.safe_load(block)["corpus"]["components"]["notes"]["train"] is True
