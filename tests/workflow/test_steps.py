import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from conftest import REPOSITORY, declare, forget_digests

from s2utils.workflow import code, steps
from s2utils.workflow.params import ParameterError, load, profiles

NOTEBOOK = "made = 1"
MADE = [
    name for name, step in steps.STEPS.items() if step.part == "study" and name != "sweep"
]  # that makes tables only
LATER = [name for name, step in steps.STEPS.items() if step.part != "study"]
EXPERTS = {"experts", "mixtures", "long_context"}
RATED = {"mtbench", "judged"}
ASKED = {"answers", "text_metrics", *RATED}
TUNED = {"merged", "divergence", "leaderboard", *ASKED}  # all that stands on an adapter
TRAINED = {"data", "membership", "sft", *TUNED}  # all that stands on the data


def write_notebook(path, artefact: str, other: str = "look = 1") -> None:
    """A notebook of two cells: one that makes the artefact, one that only looks."""
    tags = [f"makes-{step}" for step in steps.STEPS]
    cells = [
        {"cell_type": "code", "metadata": {"tags": tagged}, "source": source.splitlines(True), "outputs": []}
        for tagged, source in ((tags, artefact), ([], other))
    ]
    metadata = json.loads(path.read_text())["metadata"]  # what it declares
    path.write_text(json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))


MODULES = {  # the code that the keys are made of, small enough to see through
    "workflow.artefacts": "def ready():\n    return True\n",
    "data.sources": "from s2utils.workflow import artefacts\n",
    "data.filters": "from s2utils.text.readability import flesch\n",
    "text.readability": "def flesch():\n    return 1\n",
    "data.question_writer": "from s2utils.models import llm\n",
    "models.llm": "X = 1\n",
    "data.splits": "from s2utils.workflow import artefacts\n",
    "training.sft": "from s2utils.models import loading\n",
    "models.loading": "X = 1\n",
    "training.merging": "from s2utils.models import loading\n",
    "models.generation": "from s2utils.workflow import artefacts\n",
    "evaluation.text_metrics": "from s2utils.text.readability import flesch\n",
}


def file_of(tree: Path, name: str) -> Path:
    """Where a module of ours lies, by its dotted name."""
    return tree.joinpath("s2utils", *name.split(".")).with_suffix(".py")


@pytest.fixture
def study(tree):
    """The repository with small helper modules and notebooks, so that what changes is known."""
    shutil.rmtree(tree / "s2utils")
    (tree / "s2utils").mkdir()
    named = {name: "X = 1\n" for step in steps.STEPS.values() for name in step.code}
    for name, source in (named | MODULES).items():
        file = file_of(tree, name)
        for room in [file.parent, *file.parent.parents]:
            if room.name == "s2utils":
                break
            room.mkdir(parents=True, exist_ok=True)
            (room / "__init__.py").touch()
        file.write_text(source)
    for step in steps.STEPS.values():
        write_notebook(tree / "notebooks" / f"{step.notebook}.ipynb", NOTEBOOK)
    return tree


def keys(profile: str = "smoke", overrides=None, made: list[str] = MADE) -> dict[tuple[str, str], str]:
    """The key of every artefact of a profile that is the study's, or of the steps `made`; the code read anew."""
    forget_digests()
    params = load(profile, overrides)
    return {(step, name): steps.key(step, params, name) for step in made for name in steps.names(step, params)}


def moved(before: dict, after: dict) -> set[str]:
    """Steps with at least one artefact that has another key."""
    return {step for (step, name) in before if before[step, name] != after[step, name]}


def test_every_artefact_has_its_own_key(study):
    found, params = keys(), load("smoke")
    assert keys() == found
    train_sets, models = len(params.sft.train_sets), len(steps.models(params))
    assert models == 2 + train_sets * len(params.merge.modes)
    assert len(found) == len(set(found.values())) == 6 + params.data.shards + 2 * train_sets + (models - 2) + 3 * models


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("data.train_max=7", TRAINED),
        ("s2.score_min=5", {"eda"} | TRAINED),
        ("s2.fre_min=50", set(MADE) - {"protocols"}),  # of the base model
        ("sft.r=4", {"sft"} | TUNED),
        ("generate.top_p=0.5", ASKED),
        ("sft.eval_rows=3", {"sft"} | TUNED),
        ("text_metrics.resamples=5", {"text_metrics", "judged"}),
        ("mtbench.judge.temperature=0.3", RATED),
        ("mtbench.validation=3", {"judged"}),
        ("leaderboard.shots.arc=9", {"leaderboard", "protocols"}),
        ("leaderboard.backend_args=tokens=99", {"leaderboard", "protocols"}),
        ("leaderboard.compared.limit.arc=9", {"protocols"}),
        ("text_metrics.protocol=study", {"text_metrics"}),
        ("membership.shuffles=3", {"membership"}),
        ("seed=1", set(MADE)),
        ("study=another", set()),
    ],
)
def test_a_parameter_moves_its_steps_and_what_stands_on_them(study, override, wanted):
    assert moved(keys(), keys(overrides=override)) == wanted


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("corpus.held_out=0.4", {"corpus", "fit", "ladder", "ablation", "attention", "arms", "windows", *EXPERTS}),
        ("corpus.topics=5", set()),  # a table's
        ("fit.documents=3", {"fit"}),
        ("ladder.learning_rate=0.01", {"ladder", "ablation", "arms", "attention", "mixtures", "experts"}),
        ("ladder.ablation.bytes=30000", {"ablation"}),
        ("architecture.bytes=5000", {"arms", "attention"}),
        ("architecture.held_out_bytes=5000", {"attention"}),
        ("attention_windows.steps=1", {"windows", "attention"}),
        ("attention_heads.steps=3", {"attention"}),
        ("mixtures.bytes=5000", {"mixtures", "experts"}),
        ("expert_routing.tokens=5", {"experts"}),
        ("passkey.n=3", {"long_context"}),
        ("routers.steps=3", set()),  # a table's
        ("sft.r=4", {"fit"}),
    ],
)
def test_what_later_notebooks_read_moves_their_steps(study, override, wanted):
    before, after = keys(made=MADE + LATER), keys(overrides=override, made=MADE + LATER)
    assert moved(before, after) & set(LATER) == wanted
    assert override.startswith("sft") or moved(before, after) <= set(LATER), "the study waits for no later notebook"


def test_which_sets_are_trained_and_who_watches_leaves_an_adapter_as_it_is(study):
    before, after = keys(), keys(overrides="sft.train_sets=[sciq] sft.report_to=[tensorboard]")
    assert before["sft", "sciq"] == after["sft", "sciq"]


BASE, CHAT, MERGED = "SmolLM2-135M", "SmolLM2-135M-chat", "SmolLM2-135M-sciq.bf16"


@pytest.mark.parametrize(
    ("changes", "kept", "made"),  # changes of a point, the changes whose folder an artefact lies in, artefacts
    [
        ("", "", [("sft", "sciq")]),
        ("sft.seed=7", "", [("data", ""), ("eda", ""), ("filtered", "0"), ("answers", BASE), ("leaderboard", CHAT)]),
        ("sft.seed=7", "sft.seed=7", [("sft", "sciq"), ("merged", MERGED), ("mtbench", MERGED), ("leaderboard", ""),
                                      ("text_metrics", "")]),
        ("sft.seed=7,generate.temperature=0.9", "sft.seed=7",
         [("sft", "sciq"), ("merged", MERGED), ("leaderboard", "")]),
        ("sft.seed=7,generate.temperature=0.9", "generate.temperature=0.9", [("answers", BASE)]),
        ("sft.seed=7,generate.temperature=0.9", "sft.seed=7,generate.temperature=0.9",
         [("answers", MERGED), ("text_metrics", "")]),
        # the intervals of a table are its own
        ("text_metrics.confidence=0.9", "", [("leaderboard", BASE), ("data", "")]),
        ("text_metrics.confidence=0.9", "text_metrics.confidence=0.9", [("leaderboard", "")]),
    ],
)  # fmt: skip
def test_a_point_of_a_sweep_shares_what_its_changes_do_not_reach(study, changes, kept, made):
    point, home = (f"smoke@{text}" if text else "smoke" for text in (changes, kept))
    assert {pair: steps.home(pair[0], point, {}, pair[1]) for pair in made} == dict.fromkeys(made, home)


def test_a_training_parameter_leaves_base_and_chat_alone(study):
    before, after = keys(), keys(overrides="sft.r=4")
    for row in steps.models(load("smoke")):
        same = before["answers", row.id] == after["answers", row.id]
        assert same == (row.variant != "sft"), row.id


def test_one_train_set_does_not_depend_on_another(study):
    params = load("smoke")
    upstream = steps.upstream("answers", params, MERGED)
    assert upstream == [("data", ""), ("merged", MERGED)]
    assert steps.upstream("merged", params, MERGED) == [("sft", "sciq")]
    assert steps.upstream("divergence", params, "sciq") == [
        ("data", ""), ("sft", "sciq"), ("merged", MERGED),
        ("merged", "SmolLM2-135M-sciq.dequantized"),
    ]  # fmt: skip


def test_another_merge_moves_the_comparison_of_merges_and_no_model(study):
    assert moved(keys(overrides="merge.modes=[bf16]"), keys()) == {"divergence", "text_metrics", "judged"}


def test_comments_docstrings_and_layout_do_not_move_a_key(study):
    before = keys()
    file_of(study, "text.readability").write_text(
        '"""What."""\n\n\ndef flesch():  # why\n    """How."""\n    return (1)\n'
    )
    assert keys() == before


def test_code_moves_the_steps_that_use_it_even_at_second_hand(study):
    before = keys()
    file_of(study, "text.readability").write_text("def flesch():\n    return 2\n")
    assert moved(before, keys()) == set(MADE) - {"protocols"}
    before = keys()
    file_of(study, "training.merging").write_text("X = 2\n")
    after = keys()
    assert before["data", ""] == after["data", ""] and before["sft", "sciq"] == after["sft", "sciq"]
    assert moved(before, after) == TUNED


GONE = ("from s2utils.gone import x", "from s2utils import gone", "import s2utils.gone", "from .gone import x",
        "import s2utils.text.gone as gone", "from s2utils.text.gone import x")  # fmt: skip
THERE = (
    "from s2utils.text.ease import flesch", "from s2utils.text import ease", "import s2utils.text.ease",
    "import s2utils.text.ease as e", "from ..text import ease", "from ..text.ease import flesch as f",
    "from s2utils.text import opened",  # its __init__ takes it from ease
)  # fmt: skip


@pytest.mark.parametrize("line", GONE)
def test_an_import_of_ours_that_is_not_there_is_an_error_and_not_left_out(study, line):
    file_of(study, "data.filters").write_text(f"def late():\n    {line}\n")
    said = r"s2utils/data/filters.py imports s2utils\.(text\.|data\.)?gone.*no such module"
    with pytest.raises(ImportError, match=said):
        keys()


@pytest.mark.parametrize("line", THERE)
def test_a_module_in_a_room_of_its_own_is_followed_however_it_is_imported(study, line):
    room = study / "s2utils" / "text"
    (room / "__init__.py").write_text("from .ease import flesch as opened\n")
    (room / "ease.py").write_text("from ..data import splits\nflesch = 1\n")
    file_of(study, "data.filters").write_text(f"{line}\n")
    before = keys()
    (room / "ease.py").write_text("from ..data import splits\nflesch = 2\n")
    assert "eda" in moved(before, keys())
    before = keys()
    file_of(study, "data.splits").write_text("X = 2\n")
    assert "eda" in moved(before, keys()), "what the room imports is followed as well"


LOOKING_ON = {  # samplers of progress, clients of servers, looks: none of them makes an artefact
    "__main__", "job", "training.callbacks", "models.client", "results.figures", "results.widgets", "results.claims",
    *map("workflow.{}".format, "patches progress timings papermill graph provenance rules terminal install".split()),
    *(f"{room}.{file.stem}" for room in ("preflight", "report", "report.paper")
      for file in (REPOSITORY / "s2utils").joinpath(*room.split(".")).glob("[a-z]*.py")),
}  # fmt: skip


@pytest.mark.parametrize("step", steps.STEPS)
def test_what_only_looks_on_is_in_no_identity(step):
    found = set(code.modules(steps.STEPS[step].code))
    assert found and not found & LOOKING_ON
    if step != "sweep":  # its artefact is tables
        assert not found & {"results.tables", "results.latex", "results.best_rows"}


@pytest.mark.slow
def test_editing_what_only_looks_on_moves_no_artefact_of_the_repository(tree):
    """Today's code.

    Every adapter stayed behind when the sampler of answers changed, and 01 ran again for a server's client.
    """
    before, shown = keys(), {step.name: code.notebook_digest(step.notebook) for step in steps.STEPS.values()}
    for name in LOOKING_ON:
        with open(file_of(tree, name), "a") as file:
            file.write("\nEDITED = 1\n")
    assert keys() == before
    after = {step.name: code.notebook_digest(step.notebook) for step in steps.STEPS.values()}
    assert after["sft"] != shown["sft"], "03 shows what the sampler kept"
    for name in ("results.figures", "results.widgets"):  # 01 shows figures
        shutil.copy(file_of(REPOSITORY, name), file_of(tree, name))
    forget_digests()
    assert code.notebook_digest("01_eda") == shown["eda"]


def test_a_notebook_is_asked_for_by_its_name():
    collecting = {name: step for name, step in steps.STEPS.items() if step.collects}
    assert [steps.shown(step.notebook) for step in collecting.values()] == list(collecting)
    assert {s.notebook for s in steps.STEPS.values()} == {p.stem for p in (REPOSITORY / "notebooks").glob("*.ipynb")}
    with pytest.raises(KeyError, match="no step runs notebooks/10_name.ipynb; steps run 01_eda, 02_datasets"):
        steps.shown("10_name")


def test_only_the_cells_that_make_the_artefact_are_part_of_its_key(study):
    path = study / "notebooks" / "03_sft.ipynb"
    before = keys()
    write_notebook(path, NOTEBOOK + "  # said otherwise", "look = 2")
    assert keys() == before
    write_notebook(path, "made = 2")
    assert moved(before, keys()) == {"sft"} | TUNED


def test_any_cell_is_part_of_what_the_notebook_shows(study):
    path = study / "notebooks" / "03_sft.ipynb"
    before = code.notebook_digest("03_sft")
    forget_digests()
    write_notebook(path, NOTEBOOK, "look = 2")
    assert code.notebook_digest("03_sft") != before


def test_settings_are_the_sections_of_the_step(study):
    found = steps.settings("eda", load("smoke"))
    assert "seed" in found and "s2.fre_min" in found and "data.sources.sciq.path" in found
    assert not any(k.startswith(("data.validation", "sft.r", "model.chat")) for k in found)


def waited_for(step: str, params, name: str) -> set[str]:
    """Steps that an artefact stands on, at any remove."""
    found, todo = set(), [(step, name)]
    while todo:
        for pair in steps.upstream(todo[0][0], params, todo.pop(0)[1]):
            found.add(pair[0])
            todo.append(pair)
    return found


@pytest.mark.parametrize("profile", profiles())
def test_no_step_of_the_study_waits_for_a_later_notebook(profile):
    params = load(profile)
    for step in steps.STEPS.values():
        needed = {s for name in steps.collected(step.name, params) for s in waited_for(step.name, params, name)}
        for other in map(steps.STEPS.get, {*needed, *step.shows, *step.compares}):
            assert other.notebook <= step.notebook, f"{step.name} waits for {other.name}"
            assert step.part != "study" or other.part == "study", f"{step.name} waits for {other.name}"


PREFERRED = {"name": "preferred", "each": "weights", "parameters": "seed model sft", "modules": "training.sft",
             "reads": "sft"}  # fmt: skip
COMPARED = {"name": "compared", "parameters": "seed", "modules": "results.sweep", "reads": "answers", "collects": True,
            "parts": "study preferences"}  # fmt: skip


BESIDE = "fit.models.other.path=someone/other fit.models.other.revision=main"


def test_models_beside_the_study_are_read_by_fit_alone_and_wait_for_nothing(study):
    params, all_steps = load("smoke", BESIDE), MADE + LATER
    row = steps.model(params, "other")
    assert (row.variant, row.part, row.made_by, row.train_set) == ("published", "models", "", "")
    assert steps.published(params, row).path == "someone/other"
    assert steps.published(params, steps.model(params, CHAT)) == params.model.chat
    assert [step for step in all_steps if "other" in steps.collected(step, params)] == ["fit"]
    assert row not in steps.models(params) and not {step.part for step in steps.STEPS.values()} <= {"study"}
    assert all(
        name != "other" for step in MADE for _, name in steps.upstream(step, params, steps.names(step, params)[0])
    )
    assert steps.upstream("fit", params, "other") == [("corpus", ""), ("data", "")]
    before, after = keys(made=all_steps), keys(overrides=BESIDE, made=all_steps)
    assert {pair: after[pair] for pair in before} == before, "what another model takes part in is made again"


def test_a_model_beside_the_study_that_is_its_base_is_scored_once(study):
    base = load("smoke").model
    other = {"fit": {"models": {base.name: base.base.model_dump(), "other": base.chat.model_dump()}}}
    assert steps.models(load("smoke", other), None) == steps.models(load("smoke"))


def test_the_weights_of_a_model_beside_the_study_are_its_identity_and_no_other_s(study):
    third = f"{BESIDE} fit.models.third.revision=main fit.models.third.path="
    before, after = keys(overrides=f"{third}someone/third", made=["fit"]), keys(overrides=f"{third}x/y", made=["fit"])
    assert {name for _, name in before if before["fit", name] != after["fit", name]} == {"third"}
    (study / "mine").mkdir()
    mine = "fit.models.mine.path=mine fit.models.mine.revision=main"
    before = keys(overrides=mine, made=["fit"])
    (study / "mine" / "model.safetensors").write_text("x")
    after = keys(overrides=mine, made=["fit"])
    assert {name for _, name in before if before["fit", name] != after["fit", name]} == {"mine"}


@pytest.fixture
def later(tree, monkeypatch):
    """A later notebook that makes a model of its own by preferences, and its row."""
    study = steps.models

    def models(params, parts=("study",), train_sets=None):
        name = f"{params.model.name}-sciq-dpo"
        row = steps.ModelRow(name, name, params.model.name, "preferences", "sciq", made_by="preferred", prompt="sft",
                             part="preferences")  # fmt: skip
        return [row for row in [*study(params, None, train_sets), row] if parts is None or row.part in parts]

    before = keys()
    declare(tree, "17_preferences", PREFERRED, COMPARED, part="preferences")
    monkeypatch.setattr(steps, "models", models)
    return before


def test_a_model_of_a_later_kind_enters_by_its_row_and_the_study_stays_as_it_is(later):
    params, id = load("smoke"), "SmolLM2-135M-sciq-dpo"
    assert steps.names("preferred", params) == [id] and id not in steps.names("merged", params)
    assert steps.upstream("preferred", params, id) == [("sft", "sciq")]
    assert steps.upstream("answers", params, id) == [("data", ""), ("preferred", id)]
    assert steps.upstream("leaderboard", params, id) == [("preferred", id)]
    assert ("answers", id) in steps.upstream("compared", params)
    for step in ("answers", "mtbench", "leaderboard"):
        assert id in steps.names(step, params) and id not in steps.collected(step, params)
    assert ("answers", id) not in steps.upstream("text_metrics", params)
    assert steps.chosen("answers", params, [id]) == [id] and id not in steps.chosen("answers", params, ["sciq"])
    assert {pair: key for pair, key in keys().items() if pair in later} == later


def test_the_study_is_run_without_what_came_later(later):
    shown = [step.name for step in steps.shown_of("study", sweep=False)]
    assert shown == ["eda", "data", "sft", "answers", "text_metrics", "leaderboard", "mtbench"]
    assert [step.name for step in steps.shown_of()] == [
        *shown,
        "sweep",
        "corpus",
        "fit",
        "attention",
        "experts",
        "compared",
    ]
    with pytest.raises(ParameterError, match="there is no part 'studdy'; did you mean 'study'?"):
        steps.shown_of("studdy")


def test_how_a_model_is_got_and_asked_is_part_of_what_is_made_of_it(study, monkeypatch):
    before, rows = keys(), steps.models(load("smoke"))
    chat = dataclasses.replace(rows[1], prompt="base")
    monkeypatch.setattr(steps, "models", lambda *_, **__: [rows[0], chat, *rows[2:]])
    after = keys()
    assert {pair for pair in before if before[pair] != after[pair]} == {
        *((step, chat.id) for step in ("answers", "leaderboard", "mtbench")), ("text_metrics", ""), ("judged", ""),
    }  # fmt: skip


def test_the_models_of_the_study(tree):
    rows = steps.models(load("a100-7b"))
    tuned = [(f"Llama-2-7b-{name}", "sft", name, merge) for name in ("ELI5", "wiki", "ELI5-wiki")
             for merge in ("bf16", "dequantized")]  # fmt: skip
    assert [(r.model, r.variant, r.train_set, r.merge_mode) for r in rows] == [
        ("Llama-2-7b", "base", "", "none"), ("Llama-2-7b-chat", "chat", "", "none"), *tuned,
    ]  # fmt: skip
    assert {r.base for r in rows} == {"Llama-2-7b"} and len({r.id for r in rows}) == len(rows)
    assert [steps.model(load("a100-7b"), row.id) for row in rows] == rows
    with pytest.raises(KeyError, match="no model 'Llama-2-7b-wiki' in this profile; known: .*Llama-2-7b-wiki.bf16"):
        steps.model(load("a100-7b"), "Llama-2-7b-wiki")
    assert steps.same_weights(load("cpu")) and not steps.same_weights(load("a100-7b"))


def test_a_folder_of_dumps_has_an_identity(study, tmp_path):
    folder = study / "dumps"
    folder.mkdir()
    (folder / "RS_1.jsonl").write_text("{}")
    where = "data.sources.sciq.path=dumps"
    before = keys(overrides=where)
    assert keys(overrides=where) == before
    (folder / "RC_1.jsonl").write_text("{}")
    assert {"filtered", "data", "eda"} <= moved(before, keys(overrides=where))


def test_a_prompt_longer_than_a_files_name_is_no_file():
    long = load("smoke", {"model": {"system_prompt": "You are kind. " * 40}})
    assert steps.key("sft", long, "sciq") != steps.key("sft", load("smoke"), "sciq")
