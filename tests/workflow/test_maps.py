import pytest
from conftest import REPOSITORY, declare

from s2utils.__main__ import main
from s2utils.workflow import maps


@pytest.fixture
def read_me(tree):
    """The repository's inputs with both files that hold a map."""
    for file in maps.MAPS:
        (tree / file).write_text((REPOSITORY / file).read_text(encoding="utf-8"), encoding="utf-8")
    return tree


def test_the_maps_of_the_repository_are_those_that_the_notebooks_declare(read_me, capsys):
    assert main(["maps", "--check"]) == 0, capsys.readouterr().err


def test_a_new_notebook_comes_onto_both_maps_and_nothing_else_moves(read_me, capsys):
    before = (read_me / "README.md").read_text(encoding="utf-8")
    declare(read_me, "17_look", {"name": "look", "parameters": "seed", "collects": True})
    assert main(["maps", "--check"]) == 1 and "make format" in capsys.readouterr().err
    assert (read_me / "README.md").read_text(encoding="utf-8") == before
    assert main(["maps"]) == 0 and main(["maps", "--check"]) == 0
    row = "| [17_look](notebooks/17_look.ipynb) | Why? | an answer |\n"
    assert (read_me / "README.md").read_text(encoding="utf-8").replace(row, "") == before
    assert "|  | [17_look](17_look.ipynb) | Why? |\n" in (read_me / "notebooks/README.md").read_text(encoding="utf-8")


def test_a_file_without_a_place_for_the_map_is_left_alone(read_me, capsys):
    (read_me / "README.md").write_text("# Other\n")
    assert main(["maps"]) == 1 and "README.md has no lines" in capsys.readouterr().err
    assert (read_me / "README.md").read_text() == "# Other\n"
