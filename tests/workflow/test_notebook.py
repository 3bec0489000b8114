import builtins
import dataclasses
import shlex
from types import SimpleNamespace

import pytest
import torch
from test_steps import NOTEBOOK, write_notebook

from s2utils.workflow import artefacts, notebook, params, steps
from s2utils.workflow.errors import UserError
from s2utils.workflow.params import ParameterError


@pytest.fixture
def tree(tree):
    """The repository's inputs, with a notebook for every step."""
    for step in steps.STEPS.values():
        write_notebook(tree / "notebooks" / f"{step.notebook}.ipynb", NOTEBOOK)
    return tree


@pytest.fixture
def shown(monkeypatch) -> list[str]:
    """Everything that a notebook displays."""
    import IPython.display

    held: list[str] = []
    monkeypatch.setattr(IPython.display, "display", lambda item: held.append(item.data))
    monkeypatch.setattr(torch, "set_num_threads", lambda n: held.append(n))
    return held


def test_a_run_starts_by_saying_what_runs_where(tree, shown):
    run = notebook.start("sft", "smoke", train_set="sciq")
    assert (run.step, run.profile, run.params) == ("sft", "smoke", notebook.load("smoke"))
    threads, text = shown
    assert threads == run.params.runtime.threads
    assert "**Profile smoke · train_set sciq**" in text and f"torch {torch.__version__}" in text
    assert "| `sft.learning_rate` | `0.0002` |" in text and "leaderboard" not in text
    table = text.partition("|---|---|\n")[2].partition("\n\n")[0].split("\n")
    assert len(table) == len(steps.settings("sft", run.params)), "every parameter is one row"
    assert all(row.startswith("| `") and row.endswith("` |") for row in table)
    assert "| `model.prompt` | `### Human: {question}\\n ### Assistant:` |" in table


def test_overrides_reach_the_run(tree, shown):
    assert notebook.start("sft", "smoke", {"sft": {"max_steps": 7}}).params.sft.max_steps == 7


def kernel(monkeypatch, *cells: str) -> None:
    """Pretend that a kernel has run these cells."""
    monkeypatch.setattr(builtins, "get_ipython", lambda: SimpleNamespace(user_ns={"In": ["", *cells]}), raising=False)


def test_a_parameter_that_the_notebook_does_not_have_is_refused(tree, shown, monkeypatch):
    kernel(monkeypatch, 'profile: str = "cpu"', '# Parameters\nprofile = "smoke"\ntrain_sett = "sciq"\n')
    with pytest.raises(ParameterError, match="unknown parameter 'train_sett'; did you mean 'train_set'?"):
        notebook.start("sft", "smoke", train_set="sciq")


def test_parameters_that_the_notebook_has_are_taken(tree, shown, monkeypatch):
    kernel(monkeypatch, '# Parameters\nprofile = "smoke"\ntrain_set = "sciq"\noverrides = {"seed": 1}\n', "other = 1")
    assert notebook.start("sft", "smoke", {"seed": 1}, train_set="sciq").params.seed == 1


def test_an_artefact_lies_in_its_profile_and_is_ready_when_made(tree, shown):
    run = notebook.start("sft", "smoke")
    wanted = run.artefact("sciq")
    assert wanted.folder == tree / "artefacts" / "smoke" / "sft" / "sciq" and not wanted.ready and wanted.manifest == {}
    with wanted.making(rows=3):
        (wanted.folder / "adapter.bin").write_bytes(b"x")
    assert wanted.ready and wanted.manifest["rows"] == 3
    assert run.require("sft", "sciq") == wanted
    assert not notebook.start("sft", "smoke", {"sft": {"r": 3}}).artefact("sciq").ready


@pytest.mark.parametrize("changes", [{}, {"sft": {"max_steps": 7}}, {"study": "it's ours"}], ids=str)
def test_a_missing_earlier_step_names_its_notebook_and_a_command_that_can_be_pasted(tree, shown, changes):
    with pytest.raises(artefacts.MissingArtefact, match="run notebooks/03_sft.ipynb first") as caught:
        notebook.start("answers", "smoke", changes).require("sft", "sciq")
    text = str(caught.value)
    assert "artefacts/smoke/sft/sciq is not there" in text and str(tree) not in text
    (line,) = (line for line in text.splitlines() if "make 03_sft" in line)
    command, *given = shlex.split(line)[1:]
    assert [command, given[0]] == ["03_sft", "PROFILE=smoke"]
    assert params.parse_set("".join(given[1:]).removeprefix("SET=")) == changes


def cell(code: str, capsys) -> str:
    """What a cell shows that ends in an error of the reader's."""
    from IPython.core.interactiveshell import InteractiveShell

    ran = InteractiveShell().run_cell(f"from s2utils.workflow import notebook\n{code}")
    text = capsys.readouterr().out
    assert isinstance(ran.error_in_exec, UserError) and "Traceback" not in text
    return text


def test_a_notebook_shows_what_is_missing_and_no_stack(tree, shown, capsys):
    text = cell('run = notebook.start("sft", "smoke")\nrun.require("data")', capsys)
    assert "make 02_datasets PROFILE=smoke" in text and "notebook.run_upstream()" in text
    assert "line 3" not in text and len(text.splitlines()) < 8


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("profile=1", "there is no profile 1"),
        ("profile=None", "there is no profile None"),
        ("profile='smoke', overrides=[1]", "overrides must be a section of keys, such as {'sft': {'max_steps': 5}}"),
        ("profile='smoke', overrides='sft.r=0'", "'sft.r' must be int from 1"),
        ("profile='smoke', overrides={'sft': {'rr': 3}}", "unknown parameter 'sft.rr'; did you mean"),
        ("profile='smoke', overrides={1: 2}", "unknown parameter 1"),
        ("profile='smoke', train_set='scq'", "train_set 'scq' is not in profile smoke; did you mean 'sciq'?"),
        ("profile='smoke', train_set=[1]", "train_set [1] is not in profile smoke; known: sciq, sciq-wikilead"),
        ("profile='smoke', model='a\\nb'", "model 'a\\nb' is not in profile smoke"),
        ("profile='smoke', model='protocols'", "model 'protocols' is not in profile smoke"),
    ],
)
def test_parameters_of_a_cell_that_cannot_be_used_give_one_line(tree, shown, capsys, parameters, said):
    text = cell(f"notebook.start('sft', {parameters})", capsys)
    assert said in text and len(text.splitlines()) == 1


def test_the_leaderboard_has_one_model_more(tree, shown):
    assert notebook.start("leaderboard", "smoke", model="protocols").choices == {"model": "protocols"}


def test_run_upstream_makes_what_is_missing_and_nothing_else(tree, shown, monkeypatch, capsys):
    from s2utils.workflow import graph

    asked = []
    monkeypatch.setattr(graph, "run", lambda profile, overrides, targets: asked.append((profile, overrides, targets)))
    run = notebook.start("sft", "smoke", {"seed": 1}, train_set="sciq")
    notebook.run_upstream()
    ((profile, overrides, targets),) = asked
    assert (profile, overrides) == ("smoke", {"seed": 1}) and targets[0] == tree / "artefacts/smoke/data/.done"
    for step, name in (("data", ""), ("filtered", "0"), ("filtered", "1")):
        with run.artefact(name, step).making():
            pass
    notebook.run_upstream()
    assert len(asked) == 1 and "is there" in capsys.readouterr().out
    monkeypatch.setattr(notebook, "_runs", [])
    with pytest.raises(ParameterError, match="first cells"):
        notebook.run_upstream()


def test_profiles_never_mix(tree, shown):
    smoke, cpu = notebook.start("sft", "smoke"), notebook.start("sft", "cpu")
    assert smoke.artefact("sciq").folder != cpu.artefact("sciq").folder
    assert smoke.artefact("sciq").key != cpu.artefact("sciq").key
    assert (smoke.tables, smoke.figures) == (tree / "reports/smoke/tables", tree / "reports/smoke/figures")


@pytest.mark.parametrize("asks", ["sft", "answers", "report"])  # a report is no step
def test_a_run_asks_the_models_of_its_part(tree, monkeypatch, asks):
    rows = steps.models(params.load("smoke"))
    later = dataclasses.replace(rows[-1], id="later", part="later")
    of = lambda _, parts=("study",), **__: [row for row in [*rows, later] if parts is None or row.part in parts]  # noqa: E731
    monkeypatch.setattr(steps, "models", of)
    assert notebook.Run(asks, "smoke", params.load("smoke")).models == rows


@pytest.mark.parametrize("name", ["SmolLM2-135M", "SmolLM2-135M-chat", "SmolLM2-135M-sciq.bf16"])
def test_the_weights_of_a_model_are_published_or_made(tree, name):
    loaded = params.load("smoke", "model.chat.revision=main")
    run, row = notebook.Run("answers", "smoke", loaded), steps.model(loaded, name)
    if not row.made_by:
        assert run.weights(row) == (loaded.model.chat if row.variant == "chat" else loaded.model.base)
        return
    with pytest.raises(artefacts.MissingArtefact, match="make 04_generate PROFILE=smoke"):
        run.weights(row)
    made = run.artefact(name, "merged")
    with made.making():
        pass
    assert run.weights(row).path == str(made.folder)


@pytest.fixture
def no_gpu(monkeypatch):
    """A machine without one; asking for its name is an error, as it is there."""

    def refuse():
        raise RuntimeError("no GPU")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", refuse)


@pytest.mark.parametrize(
    ("step", "choices"),
    [("sft", {"train_set": "all"}), ("answers", {"model": "all", "train_set": "all"}),
     ("leaderboard", {"model": "all"}), ("mtbench", {"model": "all"})],
)  # fmt: skip
def test_a_run_that_only_collects_needs_no_gpu(tree, shown, no_gpu, step, choices):
    run = notebook.start(step, "a100-7b", **choices)
    assert run.params.runtime.device == "cuda" and "no GPU, so this run only collects" in shown[1]
    assert notebook.device() == notebook.processor()


@pytest.mark.parametrize(
    ("step", "choices"),
    [("sft", {"train_set": "wiki"}), ("answers", {"model": "all", "train_set": "wiki"}), ("eda", {}), ("data", {}),
     ("answers", {"model": "Llama-2-7b", "train_set": "all"}), ("leaderboard", {"model": "Llama-2-7b"})],
)  # fmt: skip
def test_a_run_that_makes_something_needs_the_gpu_of_its_profile(tree, shown, no_gpu, step, choices):
    with pytest.raises(ParameterError, match="params/a100-7b.yaml: runtime.device is cuda and no GPU is visible"):
        notebook.start(step, "a100-7b", **choices)


def test_scores_of_texts_need_a_gpu_only_until_they_are_made(tree, shown, no_gpu):
    with pytest.raises(ParameterError, match="no GPU is visible"):
        notebook.start("text_metrics", "a100-7b")
    with notebook.Run("text_metrics", "a100-7b", notebook.load("a100-7b")).artefact().making():
        pass
    assert notebook.start("text_metrics", "a100-7b").artefact().ready


def test_a_gpu_is_named_where_the_profile_uses_it(tree, shown, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A100")
    notebook.start("leaderboard", "a100-7b", model="all")
    assert "· A100 ·" in shown[1] and "only collects" not in shown[1]
    notebook.start("leaderboard", "smoke", model="all")
    assert "A100" not in shown[3]


def test_the_versions_hold_what_measures_energy_and_places_weights():
    found = notebook.versions()
    assert found["codecarbon"] and found["accelerate"] and found["torch"] == torch.__version__
