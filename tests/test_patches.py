"""What is changed in other libraries: it is still there to be changed, and still has to be.

A test called `…_still_…` fails once the library does it itself: then the patch and its row in CONTRIBUTING go.
"""

import importlib.metadata
import inspect
import os
import pkgutil
import re
import subprocess
import sys

import lm_eval.utils
import pytest
from conftest import REPOSITORY
from peft import LoraConfig, get_peft_model
from peft.tuners import tuners_utils
from torch import nn

from s2utils.evaluation import patches as evaluation
from s2utils.training import patches as training

TABLE = (
    (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Other libraries")[2].partition("## ")[0]
)
ROWS = re.findall(r"^\| (\S+) ([\d.]+) \| `([\w.]+)` \| `(s2utils/[\w/]+\.py)` \| .* \| (?:`(\w+)`|–) \|$", TABLE, re.M)


def test_every_row_of_the_table_is_read():
    assert len(ROWS) == TABLE.count("\n| ") - 1 >= 6


@pytest.mark.parametrize(("library", "version", "name", "file", "test"), ROWS, ids=[row[2] for row in ROWS])
def test_a_patched_name_is_there_in_the_locked_version(library, version, name, file, test):
    assert importlib.metadata.version(library) == version, "look at the patch again, then name this version"
    assert pkgutil.resolve_name(name) is not None
    assert name.rpartition(".")[2] in (REPOSITORY / file).read_text(encoding="utf-8")
    assert not test or test in globals()


class Wrapped(nn.Module):
    """As FSDP wraps a layer."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self._fsdp_wrapped_module = inner


def test_peft_still_leaves_prefixes_of_fsdp_and_ours_takes_them_off(monkeypatch):
    name = "_get_tuner_state_dict_key_prefixes"
    monkeypatch.setattr(tuners_utils, name, getattr(tuners_utils, name))  # undone at the end
    model = get_peft_model(nn.Sequential(nn.Linear(2, 2)), LoraConfig(target_modules=["0"]))
    whole = getattr(tuners_utils, name)(model, "default")
    model.base_model.model[0] = Wrapped(model.base_model.model[0])
    assert any("_fsdp_wrapped_module" in prefix for prefix in getattr(tuners_utils, name)(model, "default"))
    training.name_layers_plainly()
    assert getattr(tuners_utils, name)(model, "default") == whole


def test_lm_eval_still_compiles_a_template_for_every_shot_and_ours_once(monkeypatch):
    env, compiled = lm_eval.utils.env, []
    compile_one = type(env).from_string
    monkeypatch.setattr(env, "from_string", lambda text: compiled.append(text) or compile_one(env, text))
    shots = ["Q: {{q}}"] * 3
    assert [lm_eval.utils.apply_template(shot, {"q": i}) for i, shot in enumerate(shots)] == ["Q: 0", "Q: 1", "Q: 2"]
    assert len(compiled) == 3
    evaluation.compile_templates_once()
    assert [lm_eval.utils.apply_template(shot, {"q": i}) for i, shot in enumerate(shots)] == ["Q: 0", "Q: 1", "Q: 2"]
    assert len(compiled) == 4


def ran(code: str, **environment) -> str:
    """What a new interpreter printed."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("TQDM_")} | environment
    done = subprocess.run([sys.executable, "-c", code], env=own, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_jsonschema_still_loads_a_grammar_and_ours_none():
    code = "{}import sys, jsonschema; print(bool(sys.modules.get('rfc3987_syntax')))"
    assert ran(code.format("")) == "True"
    assert ran(code.format("from s2utils.workflow import patches; patches.without_grammar(); ")) == "False"


def test_tqdm_still_takes_no_file_from_the_environment(tmp_path):
    code = "from tqdm import tqdm\ntry: list(tqdm([1]))\nexcept AttributeError as error: print(error)"
    assert "'str' object has no attribute" in ran(code, TQDM_FILE=str(tmp_path / "log"), TQDM_MININTERVAL="0")


def test_what_is_overridden_is_called_as_before():
    """A method of ours that its library no longer calls would be passed over in silence."""
    from lm_eval.models.huggingface import HFLM
    from transformers import Trainer

    assert list(inspect.signature(Trainer._get_train_sampler).parameters) == ["self", "train_dataset"]
    wanted = ["self", "requests", "disable_tqdm", "override_bs"]
    assert list(inspect.signature(HFLM._loglikelihood_tokens).parameters) == wanted
