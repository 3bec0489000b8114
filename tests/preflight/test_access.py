"""What a run reaches for: every refusal of the hub and of a server, local files, archives; no secret is shown."""

import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import httpx
import huggingface_hub
import lm_eval
import pytest
from huggingface_hub import constants, errors

from s2utils.models.parameters import Endpoint
from s2utils.preflight import access
from s2utils.preflight.finding import Check, Row, examined
from s2utils.workflow import params

SECRET = "sk-" + "secret" * 4


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    """No key and no token of the person who runs the tests."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)


def info(*files, gated=False):
    return SimpleNamespace(gated=gated, siblings=[SimpleNamespace(rfilename=f) for f in files])


def refused(kind, status=403):
    return kind("no", response=httpx.Response(status, request=httpx.Request("GET", f"https://x/{SECRET}")))


@pytest.fixture
def repository(monkeypatch):
    """Set what the hub says of any repository, and of what the token may: an answer or an exception."""

    def answer(found, allowed=None):
        def say(value):
            def method(*_, **__):
                if isinstance(value, Exception):
                    raise value
                return value

            return method

        for name, value in (("model_info", found), ("dataset_info", found), ("auth_check", allowed)):
            monkeypatch.setattr(huggingface_hub.HfApi, name, say(value))

    return answer


WEIGHTS, GATED = info("a.safetensors"), info("a.safetensors", gated="manual")
PAGE = "https://huggingface.co/a/b"


@pytest.mark.parametrize(
    ("kind", "answers", "token", "state", "said"),
    [
        ("model", [WEIGHTS], None, "pass", "open"),
        ("model", [info("pytorch_model.bin")], None, "fail", "no safetensors"),
        ("dataset", [info("data.parquet")], None, "pass", "open"),
        ("model", [GATED, refused(errors.GatedRepoError)], None, "fail", "gated, and no token is set"),
        ("model", [refused(errors.GatedRepoError)], None, "fail", f"HF_TOKEN to a token that may read it|{PAGE} "),
        ("dataset", [refused(errors.GatedRepoError)], SECRET, "fail", "no access|huggingface.co/datasets/a/b "),
        ("model", [GATED], SECRET, "pass", "gated, access granted"),
        ("model", [refused(errors.HfHubHTTPError)], None, "fail", "status 403|check HF_TOKEN"),
        ("model", [refused(errors.HfHubHTTPError, 500)], None, "fail", "status 500|check the connection"),
        ("model", [refused(errors.RevisionNotFoundError)], None, "fail", f"no revision 'v1'|{PAGE}/commits/main"),
        ("model", [refused(errors.RepositoryNotFoundError)], None, "fail", f"does not exist|({PAGE})"),
        ("model", [errors.HFValidationError(SECRET)], None, "fail", "neither a folder"),
        ("model", [httpx.ConnectError(SECRET)], None, "fail", "hub not reached (ConnectError)"),
        ("model", [errors.OfflineModeIsEnabled(SECRET)], None, "fail", "hub not reached"),
    ],
)
def test_the_hub(repository, monkeypatch, tmp_path, kind, answers, token, state, said):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: token)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository(*answers)
    check = examined(Row("", partial(access.hub, kind, "a/b", "v1"), access.HUB))
    text = f"{check.found} → {check.remedy}"
    assert check.state == state and bool(check.remedy) == (state == "fail") and SECRET not in text
    assert all(word in text for word in said.split("|")), text


def test_what_an_encoder_lacks_is_no_failure_and_what_the_cache_holds_will_do(repository, monkeypatch, tmp_path):
    repository(info("pytorch_model.bin"))
    assert examined(Row("", partial(access.hub, "model", "a/b", must=False))).state == "warn"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    (tmp_path / "models--a--b" / "snapshots" / "1").mkdir(parents=True)
    (tmp_path / "models--a--b" / "snapshots" / "1" / "model.safetensors").touch()
    repository(httpx.ConnectError(SECRET))
    states = [examined(Row("", partial(access.hub, "model", name))).state for name in ("a/b", "a/c")]
    assert states == ["warn", "fail"]


def asked(end: Endpoint) -> Check:
    return examined(Row("judge", partial(access.server, end)))


def judge(**changes) -> Endpoint:
    """The judge of the a100 profiles."""
    return params.load("a100-7b").mtbench.judge.model_copy(update=changes)


@pytest.mark.parametrize(
    ("status", "body", "state", "said"),
    [(200, b'{"data": [{"id": "gpt-4"}]}', "pass", "gpt-4 at 127.0.0.1"), (401, b"no", "fail", "OPENAI_API_KEY"),
     (403, b"no", "fail", "refuses the key"), (404, b"<html>", "warn", "list"), (200, b"\xff", "warn", "list"),
     (200, b"[]", "warn", "list"), (200, b'{"data": [{"id": "gpt-4o"}]}', "fail", "did you mean 'gpt-4o'")],
)  # fmt: skip
def test_servers(monkeypatch, status, body, state, said):
    def get(url, headers, **_):
        assert url.path == "/v1/models" and headers == {"Authorization": f"Bearer {SECRET}"}
        return httpx.Response(status, content=body)

    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setattr(httpx, "get", get)
    check = asked(judge(base_url=f"http://user:{SECRET}@127.0.0.1:1/v1/"))
    assert check.state == state and said in f"{check.found} {check.remedy}" and SECRET not in str(check)


@pytest.mark.parametrize(
    ("url", "key", "said"),
    [("", "", "set OPENAI_API_KEY"), ("http://127.0.0.1:9/v1", "", "no answer (ConnectError)"),
     ("http://127.0.0.1:9/v1", f"{SECRET}\n", "holds a line break")],
)  # fmt: skip
def test_a_server_that_cannot_be_asked(monkeypatch, url, key, said):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    started = time.monotonic()
    check = asked(judge(base_url=url))
    assert check.state == "fail" and said in f"{check.found} {check.remedy}" and SECRET not in str(check)
    assert time.monotonic() - started < 5


def test_all_that_a_run_loads_is_asked_for_once_and_of_decoders_alone_safetensors_are_wanted(
    tree, monkeypatch, tmp_path
):
    """The toxicity model's `id@revision` is one text in the parameters and two on the hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(access, "hub", lambda *asked: asked)
    asks, files, downloads = access.reach(params.load("a100-7b", "s2.toxicity_model=someone/toxic@abc123"))
    llama = ["meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-7b-chat-hf"]
    loaded = params.load("a100-7b")
    beside = {**loaded.fit.models, **loaded.expert_routing.models, **loaded.long_context.models}
    llama += [weights.path for weights in beside.values()]
    encoders = ["sentence-transformers/all-mpnet-base-v2", "FacebookAI/roberta-large", "someone/toxic"]
    sets = ["wikimedia/wikipedia", "monology/pile-uncopyrighted", "NeelNanda/pile-10k", "allenai/paloma"]
    sets.append("vblagoje/lfqa")
    models = [("model", name, name in llama) for name in [*llama, *encoders]]
    asked = [row.check() for row in asks if row.what.startswith(("model", "dataset"))]
    assert [(a[0], a[1], a[3]) for a in asked if a[0] == "model"] == models and asked[11][2] == "abc123"
    assert [a[1] for a in asked if a[0] == "dataset"] == [*access.BOARD, *sets] and not files
    assert [row.what for row in asks[-2:]] == ["question writer", "judge"]
    alone = [row.what.removeprefix("configuration ") for row in asks if row.what.startswith("configuration")]
    assert "tiiuae/falcon-7b" in alone and not set(alone) & set(llama), "what is loaded is asked for once"
    assert len(downloads) == len(dict(downloads))
    assert dict(downloads) == dict.fromkeys(llama, True) | dict.fromkeys([*encoders, *sets], False)


@pytest.mark.parametrize(
    ("key", "path", "state"),
    [("data.sources.sciq.path", "here.jsonl", "pass"), ("data.sources.sciq.path", "gone.jsonl.zst", "fail"),
     ("data.sources.sciq.path", "empty.csv", "fail"), ("data.sources.sciq.path", "/gone", "fail"),
     ("data.sources.sciq.path", "params", "pass"), ("data.sources.sciq.path", "empty", "fail"),
     ("model.base.path", "mine", "pass"), ("model.base.path", "empty", "fail")],
)  # fmt: skip
def test_what_lies_on_this_machine(tree, key, path, state):
    (tree / "here.jsonl").write_text("{}\n")
    (tree / "empty.csv").touch()
    (tree / "empty").mkdir()
    (tree / "mine").mkdir()
    (tree / "mine" / "model.safetensors").touch()
    asks, files, _ = access.reach(params.load("cpu", f"{key}={path}"))
    (check,) = map(examined, files)
    assert not asks and check.state == state and bool(check.remedy) == (state == "fail")


def archives(values: dict) -> tuple[list[Check], list[str]]:
    rows, missing = access.archives(values)
    return list(map(examined, rows)), missing


def test_archives(tree, monkeypatch, tmp_path):
    values = params.flat(params.load("cpu"))
    checks, missing = archives(values)
    assert ([c.state for c in checks], missing) == (["pass"], [])
    wrong, right = archives(values | {"model.base.path": "embedded:smollm"})[0]
    assert [wrong.what, wrong.state, right.state] == ["embedded:smollm", "fail", "pass"] and "sciq" in wrong.remedy
    monkeypatch.setenv("S2_CACHE", str(tmp_path / "empty"))
    (check,), missing = archives(values)
    assert len(missing) == 7 and check.state == "warn" and "make setup" in check.remedy and "7 of 7" in check.found
    study = {key: value for key, value in values.items() if not key.startswith("corpus.")}
    assert len(archives(study)[1]) == 5
    hub = archives(study | {"leaderboard.source": "hub"})
    assert "bigbench" not in hub[1] and len(hub[1]) == 4  # TruthfulQA lies in an archive of its own


def test_the_harness_loads_the_data_sets_that_are_checked():
    folder = Path(lm_eval.__file__).parent / "tasks"
    files = ["arc/arc_easy.yaml", "hellaswag/hellaswag.yaml", "mmlu/default/_default_template_yaml"]
    files.append("truthfulqa/truthfulqa_mc1.yaml")
    lines = [line for f in files for line in (folder / f).read_text().splitlines()]
    assert tuple(line.split()[1] for line in lines if line.startswith("dataset_path:")) == access.BOARD
