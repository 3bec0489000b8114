from conftest import REPOSITORY

from s2utils.workflow import parameter_table
from s2utils.workflow.params import flat, load


def test_the_page_is_current():
    text = (REPOSITORY / "docs" / "parameters.md").read_text(encoding="utf-8")
    assert text == parameter_table.page(), "python -m s2utils params --docs"


def test_the_page_says_what_a_value_is_what_it_may_be_and_what_it_is(tree):
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in parameter_table.page().splitlines()]
    known = {row[0].strip("`"): row[1:] for row in rows if row and row[0].startswith("`")}
    assert known["sft.r"] == ["rank of the adapter", "int from 1 up to 65,536", "64", "64", "16", "8"]
    assert known["leaderboard.shots"][-1] == "{arc: 3, hellaswag: 2, mmlu: 1, truthfulqa: 0}"
    assert known["data.sources.<name>.kind"][-1] == "{sciq: qa, wikilead: articles}"
    assert all(meaning and limits for meaning, limits, *_ in known.values())
    undotted = {key.partition(".<")[0] for key in known}
    assert not [key for key in flat(load("cpu")) if not any(key == k or key.startswith(f"{k}.") for k in undotted)]
