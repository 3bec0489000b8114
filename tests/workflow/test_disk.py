import pytest

from s2utils.__main__ import main
from s2utils.workflow import disk, notebook, params


@pytest.fixture
def run(tree):
    """Two adapters, one current and one not; data half made; replies; something we did not make."""
    made = notebook.Run("sft", "smoke", params.load("smoke"))
    other = notebook.Run("sft", "smoke", params.load("smoke", {"sft": {"r": 3}}))
    for one, name, size in ((made, "sciq", 1000), (other, "sciq-wikilead", 3000)):
        with one.artefact(name).making():
            (one.artefact(name).folder / "adapter.bin").write_bytes(b"x" * size)
        (one.artefact(name).folder / ".done").touch()
    with pytest.raises(KeyboardInterrupt), made.artefact("", "data").making():
        raise KeyboardInterrupt
    top = tree / "artefacts/smoke"
    for folder in ("cache", "mine", "sft/strange"):
        (top / folder).mkdir(parents=True)
        (top / folder / "a.txt").write_text("reply")
    (top / "link").symlink_to(tree / "params")
    (top / "sft/link").symlink_to(tree / "params")
    return made


def states(run, loaded=None, **given) -> dict[str, str]:
    return {row.name: row.state for row in disk.held("smoke", loaded or run.params, **given)}


def test_every_folder_has_a_state_and_a_size(run):
    assert states(run) == {
        "sft/sciq-wikilead": "not current", "sft/sciq": "current", "data": "resumable", "cache": "record",
        "mine": "unknown", "sft/strange": "unknown",
    }  # fmt: skip
    rows = disk.held("smoke", run.params)
    assert [r.size for r in rows] == sorted((r.size for r in rows), reverse=True) and rows[0].size > 3000
    assert states(run, step="sft") == {k: v for k, v in states(run).items() if k.startswith("sft/")}


def test_only_what_is_not_current_goes_and_only_when_told(run, capsys):
    assert main(["disk", "smoke"]) == 0
    said = capsys.readouterr().out
    assert "goes   not current  sft/sciq-wikilead" in said and "in 1 folders would be freed" in said and "YES=1" in said
    assert states(run)["sft/sciq-wikilead"] == "not current", "a listing deletes nothing"
    main(["disk", "smoke", "--yes"])
    assert "sft/sciq-wikilead" not in states(run) and len(states(run)) == 5
    assert run.artefact("sciq").ready


def test_all_takes_what_is_current_and_never_records(run, tree):
    main(["disk", "smoke", "--all", "--yes", "--step", "sft"])
    assert "sft/sciq" not in states(run) and "data" in states(run)
    main(["disk", "smoke", "--all", "--yes"])
    assert set(states(run)) == {"cache", "mine", "sft/strange"} and len(list((tree / "params").iterdir())) > 3


def test_what_overrides_made_is_current_under_them(run):
    found = states(run, params.load("smoke", "sft.r=3"))
    assert found["sft/sciq-wikilead"] == "current" and found["sft/sciq"] == "not current"


@pytest.mark.parametrize(
    ("given", "said"),
    [(["smok"], "did you mean 'smoke'"), (["smoke", "--step", "merge"], "did you mean 'merged'"),
     (["../cpu"], "no profile"), (["smoke", "--set", "sft.rr=3"], "unknown parameter")],
)  # fmt: skip
def test_a_wrong_name_deletes_nothing(run, capsys, given, said):
    before = states(run)
    assert main(["disk", *given, "--all", "--yes"]) == 2
    assert said in capsys.readouterr().err and states(run) == before


def test_a_profile_without_artefacts_has_nothing_to_show(tree, capsys):
    assert main(["disk", "cpu"]) == 0 and "0.0 MB in all" in capsys.readouterr().out
