"""The command line: it starts at once, every documented command is one, and what cannot be used is said in a line."""

import os
import re
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from s2utils.__main__ import app, main
from s2utils.workflow import terminal

VERBS = {command.name or command.callback.__name__ for command in app.registered_commands}
WRITTEN = [
    *(REPOSITORY / name for name in ("Makefile", "Snakefile", "README.md", "CONTRIBUTING.md")),
    *REPOSITORY.glob("docs/*.md"),
    *REPOSITORY.glob("cluster/**/*.*"), *REPOSITORY.glob("notebooks/*.ipynb"), *REPOSITORY.glob("s2utils/**/*.py"),
]  # fmt: skip


def test_help_names_every_verb_and_waits_for_no_library():
    code = (
        "import sys; from s2utils.__main__ import main; assert main([]) == 0; assert not {'torch', 'pandas', "
        "'numpy', 'yaml', 'pydantic', 'openai'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = done.stdout.partition("Commands:\n")[2].splitlines()
    assert {line.split()[0] for line in told} == VERBS and len(VERBS) > 15
    assert not [line for line in told if line.endswith("...")], "a first line that is too long is cut"


def test_every_command_that_is_written_down_is_one():
    texts = {file.name: file.read_text(encoding="utf-8") for file in WRITTEN}
    found = {(name, verb) for name, text in texts.items() for verb in re.findall(r"-m s2utils ([\w-]+)", text)}
    assert len(found) > 25 and {verb for _, verb in found} <= VERBS, found
    assert not [name for name, text in texts.items() if re.search(r"-m s2utils\.(?!evaluation\.leaderboard)", text)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["compare", "cpu"], "python -m s2utils compare: Missing argument 'b'."),
        (["compares", "cpu"], "python -m s2utils: No such command 'compares'."),
        (["disk", "cpu", "--al"], "python -m s2utils disk: No such option: --al"),
        (["publish", "a", "b", "c"], "python -m s2utils publish: Got unexpected extra argument(s) (c)"),
        (["step", "99_none"], "no step runs notebooks/99_none.ipynb"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line(tree, capsys, given, said):
    assert main(given) == 2
    told = capsys.readouterr().err
    assert told.startswith(said) and told.count("\n") == 1


def test_what_goes_to_another_command_line_goes_as_it_is(monkeypatch):
    seen = []
    monkeypatch.setattr(terminal, "run", seen.extend)
    given = ["-n", "--cores", "2", "--set", "--", "artefacts/it's/.done", "--help", ""]
    assert main(["run", *given]) == 0 and seen == given


def test_where_typer_is_not_installed_that_is_said():
    code = "import sys; sys.modules['typer'] = None; import runpy; runpy.run_module('s2utils', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 1 and "needs typer" in done.stderr and done.stderr.count("\n") == 1
