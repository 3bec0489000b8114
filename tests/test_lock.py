"""The lock, the conda environment, pyproject and the hooks tell the same story."""

import importlib.metadata
import re
import shlex
import subprocess
import sys
import tomllib

import pytest
import yaml
from conftest import REPOSITORY
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from s2utils.workflow.notebook import PACKAGES

FIXED = (
    "jupyterlab", "papermill", "torch", "transformers", "peft", "bitsandbytes", "datasets", "trl", "matplotlib",
    "seaborn", "pandas", "textstat", "bert-score",
)  # fmt: skip
CUDA = ("nvidia-", "cuda-", "triton")  # what torch's CUDA build brings along


def pins(lines: list[str]) -> dict[str, str]:
    """Name → version of the exact pins; every other line is refused."""
    found = {}
    for line in lines:
        name, version = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][A-Za-z0-9.]*)", line).groups()
        assert canonicalize_name(name) not in found, f"{name} twice"
        found[canonicalize_name(name)] = version
    return found


@pytest.fixture(scope="module")
def lock() -> dict[str, str]:
    lines = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return pins([line for line in lines if line and not line.startswith("#")])


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def conda() -> dict:
    return yaml.safe_load((REPOSITORY / "environment.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def declared(project) -> list[Requirement]:
    facts, build = project["project"], project["build-system"]["requires"]
    extras = sum(facts["optional-dependencies"].values(), [])
    return [Requirement(text) for text in (*facts["dependencies"], *extras, *build)]


def test_every_dependency_is_locked_within_its_range(lock, declared):
    for requirement in declared:
        version = lock.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not in the lock"
        assert requirement.specifier.contains(version), f"{requirement} and the lock's {version}"


@pytest.mark.skipif(
    sys.platform != "linux" or sys.version_info[:2] != (3, 11), reason="the lock was made for Python 3.11 on Linux"
)
def test_the_lock_is_closed_and_holds_nothing_else(lock, declared):
    """Every locked package finds its own dependencies in the lock, and every one is there for a reason."""
    seen, todo = set(), list(declared)
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if (name.startswith(CUDA) and name not in lock) or (name, *sorted(requirement.extras)) in seen:
            continue
        seen.add((name, *sorted(requirement.extras)))
        assert name in lock and requirement.specifier.contains(lock[name], prereleases=True), requirement
        for inner in map(Requirement, importlib.metadata.requires(name) or []):
            if inner.marker is None or any(inner.marker.evaluate({"extra": e}) for e in ("", *requirement.extras)):
                todo.append(inner)
    assert {name for name, *_ in seen} | {"setuptools", "wheel"} == set(lock)


def test_torch_is_the_version_of_the_study_without_a_local_build(lock):
    assert lock["torch"] == "2.13.0"


def test_conda_has_the_locked_versions(lock, conda):
    assert conda["name"] == "s2" and "python=3.11" in conda["dependencies"]
    listed = next(part["pip"] for part in conda["dependencies"] if isinstance(part, dict))
    assert listed[-2:] == ["-r requirements.lock", "-e ."]
    found = pins(listed[:-2])
    assert found == {name: lock[name] for name in found}
    assert set(found) == set(FIXED)


def test_the_packages_of_the_study_are_dependencies(project):
    assert set(FIXED) <= {Requirement(text).name for text in project["project"]["dependencies"]}


@pytest.mark.parametrize("name", PACKAGES)
def test_what_can_move_a_number_is_installed_as_locked(name, lock):
    assert importlib.metadata.version(name).split("+")[0] == lock[canonicalize_name(name)]


def test_the_licence_is_the_one_that_is_declared(project):
    text = (REPOSITORY / "LICENSE").read_text(encoding="utf-8")
    assert project["project"]["license"] == "Apache-2.0"
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["license"], citation["version"]) == ("Apache-2.0", project["project"]["version"])
    assert citation["cff-version"] == "1.2.0" and citation["title"] and citation["authors"] and citation["message"]


@pytest.fixture(scope="module")
def hooks() -> dict[str, dict]:
    config = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    return {hook["id"]: hook for hook in config["repos"][0]["hooks"]}


@pytest.mark.parametrize(
    ("text", "found"),
    [("-----BEGIN RSA " + "PRIVATE KEY-----", True), ("-----BEGIN " + "PRIVATE KEY-----", True),
     ("key = sk-" + "a1" * 12, True), ("token: hf_" + "Ab" * 17, True), ("risk-assessment of a private key", False),
     ("OPENAI_API_KEY", False)],
)  # fmt: skip
def test_the_key_hook_finds_keys(hooks, text, found):
    assert bool(re.search(hooks["detect-private-key"]["entry"], text)) == found


def test_the_hooks_keep_tags_and_ids_and_refuse_large_files(hooks, tmp_path):
    assert "--keep-id" in hooks["nbstripout"]["entry"]
    python, *rest = shlex.split(hooks["check-added-large-files"]["entry"])
    assert python == "python"
    for size, code in ((500_000, 0), (500_001, 1)):
        (tmp_path / "file").write_bytes(b"x" * size)
        assert subprocess.run([sys.executable, *rest, tmp_path / "file"], capture_output=True).returncode == code
