"""What goes out with a model: its card, the record of its run, and the push to the hub, which asks first.

    make publish WHAT=artefacts/cpu/sft/sciq TO=me/name            lists what would be pushed, without network
    make publish WHAT=artefacts/cpu/sft/sciq TO=me/name YES=1      pushes it, into a private repository
    make publish … YES=1 NAMED=sciq      also where the card says that sciq's licence restricts what may be made of it

Only finished artefacts leave, with the files their manifest names, unchanged, and only kinds of file that
cannot run code. Trap: the hub's client takes its token from HF_TOKEN or `hf auth login`; it is never shown here,
and a file that holds something like one is refused. Cards and records are no part of an artefact's identity.
"""

from __future__ import annotations

import json
import os
import platform
import re
from pathlib import Path

import pandas as pd

from s2utils.data import cards
from s2utils.workflow import artefacts, notebook, packaged, paths, provenance
from s2utils.workflow.errors import UserError
from s2utils.workflow.params import Params, flat

ALLOWED = (".safetensors", ".json", ".jsonl", ".md", ".txt", ".jinja", "tokenizer.model")
REFUSED = re.compile(
    r"(^|/)(optimizer|scheduler|scaler|rng_state|training_args|checkpoint-\d+|token$|\.)"
    r"|\.(bin|pt|pth|pkl|pickle|ckpt)$"
)
SECRET = re.compile(r"\b(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,})")
RESTRICTED = re.compile(r"\b(NC|non-?commercial|[AL]?GPL\S*|gemma)\b", re.IGNORECASE)
PART = re.compile(r"^- (\S+): `[^`]*`; licence: (.+)$|^(license): (.+)$", re.MULTILINE)  # of a card: data, and the base
LICENCES = {  # of base weights, by the beginning of their path: identifier of the hub
    "embedded:smollm2": "apache-2.0",
    "HuggingFaceTB/SmolLM2": "apache-2.0",
    "meta-llama/Llama-2": "llama2",
    "NousResearch/Llama-2": "llama2",
}


class PublishError(UserError, ValueError):
    """A folder that must not leave, or that the hub does not take; the message says why."""


def base_of(params: Params) -> str:
    """Hub id of the base model, also where its weights come in a package."""
    path = params.model.base.path
    return packaged.hub_id(path) if path.startswith("embedded:") else path


USE = """```python
{peft}from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{base}")
model = AutoModelForCausalLM.from_pretrained("{base}", dtype="bfloat16")
{adapter}inputs = tokenizer({prompt}, return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=256)[0]))
```"""
HERE = "<this repository or folder>"


def use(params: Params, merge_mode: str) -> str:
    """Code that loads the model and asks it something."""
    question = "Why is the sky blue?"
    prompt = json.dumps(params.model.prompt.format(question=question))
    if params.model.template == "chat":
        chat = json.dumps([{"role": "user", "content": question}])
        prompt = f"tokenizer.apply_chat_template({chat}, tokenize=False, add_generation_prompt=True)"
    if merge_mode:
        return USE.format(peft="", base=HERE, adapter="", prompt=prompt)
    adapter = f'model = PeftModel.from_pretrained(model, "{HERE}")\n'
    return USE.format(peft="from peft import PeftModel\n", base=base_of(params), adapter=adapter, prompt=prompt)


def card(params: Params, train_set: str, result: dict, merge_mode: str = "") -> str:
    """Model card in hub format for an adapter, or for the model it became under `merge_mode`.

    `result` is the adapter's result.json. Mode `adapter` merges nothing: its card is the adapter's.
    """
    merge_mode = "" if merge_mode == "adapter" else merge_mode
    base, sft = base_of(params), params.sft
    licence = next((v for k, v in LICENCES.items() if params.model.base.path.startswith(k)), "other")
    head = {
        "base_model": base,
        "library_name": "transformers" if merge_mode else "peft",
        "pipeline_tag": "text-generation",
        "language": "en",
        "license": licence,
        "tags": ["lora", "qlora", "sft", "readability"],
    }
    lines = "\n".join(f"{k}: {json.dumps(v)}" for k, v in head.items())
    facts = "\n".join(f"| {k} | {round(v, 6) if isinstance(v, float) else v} |" for k, v in result.items())
    kind = f"{base} merged ({merge_mode}) with a QLoRA adapter" if merge_mode else f"QLoRA adapter of {base}"
    dataset = params.dataset_of(train_set)
    data = "\n".join(
        f"- {name}: `{source.path}`; licence: {cards.LICENCES.get(source.path, 'see the source')}"
        for name, source in params.data.sources.items()
        if dataset in (name, params.data.union)
    )
    n_eval, n_train, n_long = (result.get(k, "?") for k in ("eval_rows", "train_rows", "rows_too_long"))
    prompt = f"`{params.model.prompt!r}`" if params.model.template != "chat" else "the tokenizer's chat template"
    losses = " → ".join(f"{result[k]:.3f}" for k in ("eval_loss_before", "eval_loss_after") if k in result)
    energy = (
        f"{result['kwh']:.3g} kWh, {result['co2_kg']:.3g} kg CO2 by the mix of power plants of {sft.country}, "
        "estimated where the processor has no meter"
        if "kwh" in result
        else "not measured"
    )
    return f"""---
{lines}
---
# {params.model.name}-{train_set}

{kind} (NF4 base, LoRA r {sft.r}, α {sft.lora_alpha}), trained to answer in simple words on the {train_set} set.

## Use

{use(params, merge_mode)}

Prompt: {prompt}; the answer follows and ends with the end-of-sequence token. Training saw the base in 4
bits (NF4, double quantisation).

## Data

{n_train} question-answer pairs ({n_long} over {sft.max_length} tokens left out), simple by Flesch reading
ease ≥ {params.s2.fre_min:g} and grade < {params.s2.fkg_max:g}.

{data}

## Training

Validation loss {losses or "?"} nats an answer token (n = {n_eval} unseen answers). \
Learning rate {sft.learning_rate:g}, effective batch
{sft.per_device_train_batch_size * sft.gradient_accumulation_steps}, LoRA dropout {sft.lora_dropout:g}, \
seed {sft.seed}; loss on the answer and its end only. Energy: {energy}. The
adapter's `s2_run.json` holds every parameter and version.

| fact | value |
|---|---|
{facts}

## Limits

It imitates simple text; it was not made safe by preference training, and its facts are not checked. Not for advice on
health, law or money, nor for children without supervision. The licences of the base model ({licence}) and of the \
data hold.
"""


def describe(
    folder: Path, params: Params, profile: str, overrides: dict, train_set: str, keys: dict, result: dict, layout: dict
) -> None:
    """Write result.json, s2_run.json and README.md beside an adapter.

    s2_run.json holds all that training it again needs: parameters, data, base, code, versions, machine; and what came
    out. `keys` are identities of artefacts: the adapter's own and that of the data it was trained on.
    """
    values, base = flat(params), params.model.base
    record = {
        "profile": profile,
        "overrides": overrides,
        "keys": keys,
        "seeds": {k: v for k, v in values.items() if k.endswith("seed")},
        "base": {"path": base.path, "revision": base.revision} | provenance.sources(values)[base.path],
        "commit": provenance.commit(),
        "parameters": values,
        "versions": {"python": platform.python_version(), "platform": platform.platform(), **notebook.versions()},
        "hardware": provenance.hardware(),
        "train_set": train_set,
        "batching": layout,
        "result": result,
    }
    artefacts.write_json(folder / "result.json", result)
    artefacts.write_json(folder / "s2_run.json", record)
    with artefacts.replacing(folder / "README.md") as file:
        file.write(card(params, train_set, result))


def files(folder: Path) -> pd.DataFrame:
    """One row per file of a finished artefact: file, bytes, sha256. PublishError where anything must not leave."""
    manifest = artefacts.read_json(folder / "manifest.json")
    if not manifest or not manifest.get("files"):
        raise PublishError(f"{folder} is not a finished artefact (no manifest.json): run its notebook to the end first")
    there = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {"manifest.json", ".done"}
    refuse = [f"{n}: not part of the finished artefact" for n in sorted(there - set(manifest["files"]))]
    for name, facts in manifest["files"].items():
        if REFUSED.search(name) or not name.endswith(ALLOWED):
            refuse.append(f"{name}: only safetensors, JSON, text and tokenizer files are pushed")
        elif name not in there or artefacts.sha256(folder / name) != facts["sha256"]:
            refuse.append(f"{name}: changed since it was made")
        elif (why := _content(folder / name)) is not None:
            refuse.append(f"{name}: {why}")
    if not any(n.endswith(".safetensors") for n in manifest["files"]):
        refuse.append("no weights in safetensors")
    if "README.md" not in manifest["files"]:
        refuse.append("README.md: there is no model card")
    if refuse:
        raise PublishError(f"{folder} is not pushed:\n  " + "\n  ".join(refuse))
    rows = [{"file": n, "bytes": f["bytes"], "sha256": f["sha256"]} for n, f in sorted(manifest["files"].items())]
    return pd.DataFrame(rows)


def _content(path: Path) -> str | None:
    """Why the content of a file must not leave, None where it may."""
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                return None if list(file.keys()) else "no tensors in it"
        except SafetensorError:
            return "not safetensors, whatever its name says"
    text = path.read_bytes().decode("utf-8", errors="ignore")
    own = os.environ.get("HF_TOKEN", "")
    return "holds what looks like an access token" if SECRET.search(text) or (own and own in text) else None


def push(folder: Path, to: str, listing: pd.DataFrame) -> str:
    """Push exactly the listed files into the repository `to`, made private if it is new; returns its address."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    try:
        api.create_repo(to, private=True, exist_ok=True)
        api.upload_folder(repo_id=to, folder_path=folder, allow_patterns=listing["file"].tolist())
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "?")
        raise PublishError(
            f"the hub refused {to} (HTTP {status}): set HF_TOKEN to a token that may write there "
            "(https://huggingface.co/settings/tokens)"
        ) from error
    return f"https://huggingface.co/{to}"


def restricted(card: str) -> dict[str, str]:
    """{part: licence} of what a card names under a licence that is non-commercial, of the GPL's kind or Gemma's.

    A part is a data set by its name, or "base".
    """
    parts = ((name or "base", licence or of_base) for name, licence, _, of_base in PART.findall(card))
    return {name: licence.strip('"') for name, licence in parts if RESTRICTED.search(licence)}


def publish(what: Path, to: str, yes: bool, named: str = "") -> None:
    """List what would be pushed of the artefact folder `what`, or push it where `yes`.

    PublishError where it must not leave, and where a part is `restricted` that `named`, names and commas, leaves out.
    """
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", to):
        raise PublishError(f"'{to}' is no repository: write TO=owner/name")
    folder = what if what.is_absolute() else paths.root() / what
    listing = files(folder)
    text = (folder / "README.md").read_text(encoding="utf-8")
    if left := {part: licence for part, licence in restricted(text).items() if part not in named.split(",")}:
        parts = "; ".join(f"{part} ({licence})" for part, licence in left.items())
        raise PublishError(
            f"{folder} is not pushed: it was made of {parts}. Where what you do is allowed by that, name them: "
            f"NAMED={','.join(left)} (python -m s2utils publish … --named {','.join(left)})"
        )
    print(text)
    print(listing.to_string(index=False), f"\n\n{len(listing)} files, {listing['bytes'].sum() / 1e6:.1f} MB → {to}")
    print(push(folder, to, listing) if yes else "Nothing was pushed. Push with YES=1.")
