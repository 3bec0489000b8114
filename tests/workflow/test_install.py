"""Set-up: what it says while wheels come, and what is left when something fails.

It runs whole where the tests begin.
"""

import io
import sys

import pytest

from s2utils.workflow import install, paths

PIP = """WARNING: Location 'file:///somewhere/simple/torch/' is ignored: it is neither a file nor a directory.
Looking in indexes: https://index.example/simple
Collecting torch==2.13.0 (from -r requirements.lock (line 2))
  Downloading torch-2.13.0.whl (1 MB)
Collecting Alt_Profanity.check==1.9 (from -r requirements.lock (line 1))
Processing /opt/wheels/alt_profanity_check-1.9-py3-none-any.whl
Processing /opt/wheels/llm-extra-1.0.tar.gz (from -r requirements.lock (line 3))
Collecting nvidia-cublas (from torch)
"""


def followed(names: list[str], monkeypatch, terminal: bool) -> str:
    seen = io.StringIO()
    seen.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stdout", seen)
    follow = install.counting(names)
    for line in PIP.splitlines():
        follow(line)
    return seen.getvalue()


def test_packages_of_the_lock_are_counted_once_as_they_come(monkeypatch):
    names = ["alt-profanity-check==1.9", "torch==2.13.0", "llm_extra==1.0"]
    plain = followed(names, monkeypatch, terminal=False)
    assert plain == "  1 of 3\n  2 of 3\n  3 of 3\n"
    moving = followed(names, monkeypatch, terminal=True)
    assert moving.count("\r") == 3 and "1 of 3: torch" in moving and moving.endswith("\n")
    assert max(map(len, moving.replace("\n", "").split("\r"))) < 80


def test_of_many_packages_only_quarters_are_said_without_a_terminal(capsys):
    follow = install.counting([f"p{i}==1" for i in range(200)])
    for i in range(200):
        follow(f"Collecting p{i}==1")
    assert capsys.readouterr().out == "".join(f"  {n} of 200\n" for n in (50, 100, 150, 200))


def test_what_a_tool_said_is_shown_only_where_it_fails_and_without_ignored_places(tmp_path, capsys):
    log = tmp_path / "log.txt"
    install.run([sys.executable, "-c", "print('noise')"], log)
    assert log.read_text() == "noise\n" and capsys.readouterr().out == ""
    code = f"import sys; print({PIP!r}); print('ERROR: no matching distribution'); sys.exit(1)"
    with pytest.raises(SystemExit) as stopped:
        install.run([sys.executable, "-c", code], log)
    told = str(stopped.value)
    assert "ERROR: no matching distribution" in told and "is ignored" not in told and str(log) in told


def test_a_phase_says_what_it_does_and_how_long_it_took(capsys):
    with install.phase("collecting"):
        pass
    assert capsys.readouterr().out == "collecting …\n  0 s\n"


def test_wheels_that_are_there_are_not_collected_again_and_half_a_collection_is(tmp_path, monkeypatch):
    monkeypatch.setenv("S2_CACHE", str(tmp_path))
    monkeypatch.delenv("TORCH_INDEX", raising=False)
    assert install.cache() == paths.cache()
    calls = []
    monkeypatch.setattr(install, "run", lambda command, log, follow=None: calls.append(list(map(str, command))))
    folder = install.wheels()
    assert (folder / "complete").is_file() and len(calls) == 1 and "wheel" in calls[0]
    assert install.wheels() == folder and len(calls) == 1
    (folder / "complete").unlink()
    install.wheels()
    assert len(calls) == 2 and not list(folder.parent.glob("*.part"))
    monkeypatch.setenv("TORCH_INDEX", "https://wheels.example/cpu")
    assert install.wheels() != folder and calls[-1][-2:] == ["--extra-index-url", "https://wheels.example/cpu"]


def test_every_line_of_the_lock_is_a_pin():
    assert len(install.pins()) > 200 and all("==" in pin for pin in install.pins())
