import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_study import copy_of_repository
from test_study import environment as ours

from s2utils.workflow import provenance, redact

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "hf_" + "Ab3" * 8  # made up
ODD = 'pass "word" <7> ü\\n'


def test_values_of_secret_variables_go_and_others_stay():
    environment = {"HF_TOKEN": TOKEN, "my_password": ODD, "HOME": "/home/someone", "TOKENIZERS": "parallel"}
    environment["A_KEY"] = "short"
    known = redact.secrets(environment)
    text = f"login {TOKEN}, {ODD}, {json.dumps(ODD)} in /home/someone, parallel, short"
    clean = redact.redacted(text, known)
    assert TOKEN not in clean and "<7>" not in clean
    assert clean.startswith("login ‹HF_TOKEN›, ‹my_password›, ") and clean.endswith("in /home/someone, parallel, short")


def test_a_variable_of_any_name_can_be_named():
    assert redact.secrets({"JUDGE": "1234-abcd-5678"}) == {}
    assert redact.secrets({"JUDGE": "1234-abcd-5678"}, ["JUDGE"]) == {"1234-abcd-5678": "JUDGE"}


def test_a_file_that_holds_a_secret_is_none(tmp_path):
    assert redact.secrets({"SSH_KEY": str(tmp_path), "BIG_KEY": "123456789012"}) == {}
    assert redact.secrets({"SSH_KEY": str(tmp_path / "gone")}) != {}


@pytest.mark.parametrize(
    "secret", [TOKEN, "sk-" + "x1" * 12, "sk-proj-" + "a_B" * 9, "ghp_" + "a1" * 18, "AKIA" + "Q7" * 8]
)
def test_well_known_forms_go_without_a_variable(secret):
    assert redact.redacted(f"key={secret}&x", {}) == "key=‹secret›&x"
    assert redact.redacted(f'"{secret}"', {}) == '"‹secret›"'


@pytest.mark.parametrize(
    "plain",
    [
        "a task-specific risk-averse-and-long-word",
        "hf_hub",
        "sk-learn",
        "desk-" + "x" * 30,
        "ask-" + "y" * 30,
    ],
)
def test_plain_words_stay(plain):
    assert redact.redacted(plain, {}) == plain


@given(st.text(min_size=redact.SHORTEST), st.text(), st.text())
def test_no_known_secret_survives(secret, before, after):
    known = redact.secrets({"X_TOKEN": secret})
    clean = redact.redacted(f"{before}{secret}{after}", known)
    assert not known or secret not in clean.replace("‹X_TOKEN›", "\0")


@given(st.dictionaries(st.text(), st.text() | st.lists(st.integers() | st.none() | st.booleans())))
def test_values_without_secrets_come_back_as_they_were(value):
    assert redact.values(value, {}) == value or redact.redacted(json.dumps(value), {}) != json.dumps(value)


def test_a_notebook_stays_one(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", ODD)
    cell = nbformat.v4.new_code_cell("x", outputs=[nbformat.v4.new_output("stream", text=f"a {ODD} b {TOKEN}\n")])
    file, other = tmp_path / "n" / "a.ipynb", tmp_path / "n" / "b.parquet"
    file.parent.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), file)
    other.write_bytes(TOKEN.encode())
    assert redact.files([tmp_path]) == [file] and redact.files([tmp_path]) == []
    assert nbformat.read(file, 4).cells[0].outputs[0].text == "a ‹OPENAI_API_KEY› b ‹secret›\n"
    assert other.read_bytes() == TOKEN.encode(), "only text files are rewritten"


def test_bytes_that_are_no_text_come_through(tmp_path):
    (tmp_path / "a.log").write_bytes(b"\xff\xfe " + TOKEN.encode() + b"\r\n\x1b[0m")
    redact.files([tmp_path / "a.log", tmp_path / "gone.log"])
    assert (tmp_path / "a.log").read_bytes() == b"\xff\xfe " + "‹secret›".encode() + b"\r\n\x1b[0m"


def test_the_provenance_holds_no_secret(tree, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(provenance, "collect", lambda *_: {"overrides": {"x": TOKEN}, "n": 3, "files": [f"a/{TOKEN}"]})
    held = provenance.write("smoke").read_text()
    assert TOKEN not in held and json.loads(held)["n"] == 3


def test_it_starts_at_once():
    """It runs after every job: no heavy import."""
    code = (
        "import sys, s2utils.workflow.redact; sys.exit(bool({'torch', 'pandas', 'nbformat', 'numpy', 'yaml'} & "
        "set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode == 0
    started = time.process_time()
    redact.redacted("plain text " * 100_000)
    assert time.process_time() - started < 0.3


CELLS = """profile: str = "cpu"
overrides: dict = {{}}
---
import os, sys, warnings
print(os.environ["HF_TOKEN"]); print(os.environ["OPENAI_API_KEY"], file=sys.stderr)
answer = {{"text": "Ice floats.", "server": {{"authorization": "Bearer {other}"}}}}
os.write(2, os.environ["HF_TOKEN"].encode())
answer
---
{last}"""


@pytest.mark.slow
@pytest.mark.parametrize("last", ["", 'raise ValueError(os.environ["OPENAI_API_KEY"])'], ids=["finished", "failed"])
def test_no_output_of_a_job_holds_a_secret(tmp_path, last):
    """A job of the real graph whose notebook shows every secret it can.

    The log, the notebook and what Snakemake said.
    """
    root = copy_of_repository(tmp_path / "repository")
    made = {"HF_TOKEN": TOKEN, "OPENAI_API_KEY": "sk-" + "Zz9" * 10}
    other = "ghp_" + "Qq5" * 12
    cells = [nbformat.v4.new_code_cell(c) for c in CELLS.format(other=other, last=last).split("---\n")]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    eda = root / "notebooks/01_eda.ipynb"
    kernel |= {"s2": nbformat.read(eda, 4).metadata["s2"]}  # what it declares stays
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), eda)
    environment = ours(root) | made
    command = "snakemake --cores 1 --nolock --config profile=smoke preflight=0 -- artefacts/smoke/eda/.done".split()
    ran = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert (ran.returncode == 0) == (not last), ran.stderr[-3000:]
    executed = root / "artefacts/smoke/notebooks/01_eda.ipynb"
    nbformat.validate(nbformat.read(executed, 4))
    assert "‹HF_TOKEN›" in executed.read_text() and "Ice floats." in executed.read_text()
    if last:
        assert "‹OPENAI_API_KEY›" in executed.with_suffix(".log").read_text()
    written = [f for f in root.rglob("*") if f.is_file() and not f.is_relative_to(root / "s2utils")]
    for secret in (*made.values(), other):
        assert secret not in ran.stdout + ran.stderr
        held = [str(f.relative_to(root)) for f in written if secret.encode() in f.read_bytes()]
        assert not [f for f in held if f != "notebooks/01_eda.ipynb"], held
