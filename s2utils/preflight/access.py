"""What a run reaches for: hub models and data sets, files, embedded archives, servers. Is each there, and may we?

Nothing is downloaded and nothing is spent: repositories are listed, a server is asked for its models.
Trap: error texts of clients may hold keys, so only their kinds are shown, and of an address only the host.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx
import huggingface_hub
from huggingface_hub import constants, errors

from s2utils.data import readers
from s2utils.models.parameters import Endpoint
from s2utils.preflight.finding import Finding, Row
from s2utils.workflow import packaged, paths
from s2utils.workflow.params import Params, nearest

BOARD = ("allenai/ai2_arc", "Rowan/hellaswag", "cais/mmlu", "truthfulqa/truthful_qa")  # what the harness loads
HUB = "check the connection, or give a local path"
SOURCES = "paths start at the repository's root; correct data.sources"
REFUSALS = {  # error of the hub → what it means, remedy; the first that fits: a gated repository is also "not found"
    errors.GatedRepoError: (
        "gated, and {token}", "accept its licence at {page} and set HF_TOKEN to a token that may read it",
    ),
    errors.HFValidationError: (
        "is neither a folder here nor a name on the hub", "correct it (paths start at the root)",
    ),
    errors.RevisionNotFoundError: ("has no revision '{revision}'", "see {page}/commits/main"),
    errors.RepositoryNotFoundError: ("does not exist, or is private", "correct its name, or set HF_TOKEN ({page})"),
}  # fmt: skip


class Reach(NamedTuple):
    """What a run reaches for."""

    asks: list[Row]  # on the network
    files: list[Row]  # here
    downloads: list[tuple[str, bool]]  # what, and whether it is a decoder


def cached(model: str) -> bool:
    """Whether the hub's cache holds safetensors of a model."""
    folder = Path(constants.HF_HUB_CACHE) / f"models--{model.replace('/', '--')}"
    return any(folder.glob("snapshots/*/*.safetensors"))


def hub(kind: str, path: str, revision: str = "", must: bool = True) -> str:
    """Whether we may read a hub model (`kind` "model") or data set; `must`: a model without safetensors fails."""
    api = huggingface_hub.HfApi()
    try:
        info = getattr(api, f"{kind}_info")(path, revision=revision or None, timeout=5)
        if info.gated:
            api.auth_check(path, repo_type=kind)
    except tuple(REFUSALS) as error:
        found, remedy = next(texts for refusal, texts in REFUSALS.items() if isinstance(error, refusal))
        token = "the token has no access" if huggingface_hub.get_token() else "no token is set"
        page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{path}"
        raise Finding(found.format(token=token, revision=revision), remedy.format(page=page)) from None
    except Exception as error:  # offline in any of its forms, or a hub that answers otherwise
        status = getattr(getattr(error, "response", None), "status_code", None)
        found = f"the hub answers with status {status}" if status else f"hub not reached ({type(error).__name__})"
        if kind == "model" and cached(path):
            raise Finding(f"{found}; the cache holds it", "", "warn") from None
        raise Finding(found, "check HF_TOKEN" if status in (401, 403) else None) from None
    if kind == "model" and not any(s.rfilename.endswith(".safetensors") for s in info.siblings or []):
        remedy = "other formats are refused: name a revision or a local folder that has them"
        raise Finding("its repository lists no safetensors", remedy, "fail" if must else "warn")
    return "gated, access granted" if info.gated else "open"


def server(endpoint: Endpoint) -> str:
    """Whether a question writer's or judge's server answers and knows its model; asks for the list of models only."""
    model, variable = endpoint.model, endpoint.key_env
    key = os.environ.get(variable, "")
    if not key and not endpoint.base_url:
        raise Finding(f"{model} needs a key", f"set {variable} in the environment, or name another server in base_url")
    base = endpoint.base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
    try:
        url = httpx.URL(f"{base.rstrip('/')}/models")
        reply = httpx.get(url, headers={"Authorization": f"Bearer {key or 'none'}"}, timeout=5)
    except Exception as error:  # its text may hold the key
        remedy = f"start the server, or correct base_url, or {variable} if it holds a line break"
        raise Finding(f"no answer ({type(error).__name__})", remedy) from None
    status = f"(status {reply.status_code})"
    if reply.status_code in (401, 403):
        raise Finding(f"{url.host} refuses the key {status}", f"set {variable} to a valid key")
    try:
        known = [str(row["id"]) for row in reply.json()["data"]]
    except (ValueError, KeyError, TypeError):
        raise Finding(f"{url.host} answers, but does not list its models {status}", state="warn") from None
    if model not in known:
        raise Finding(f"{url.host} has no model '{model}'", f"correct its name{nearest(model, known[:20])}")
    return f"{model} at {url.host}"


def source(path: Path) -> str:
    """A source that lies on this machine: a readable file, or a folder that holds something."""
    try:
        if path.is_dir():
            something = any(path.iterdir())
        else:
            with path.open("rb") as file:
                something = file.read(1)
    except OSError as error:
        raise Finding(f"{path} cannot be read ({type(error).__name__})") from None
    if not something:
        raise Finding(f"{path} is empty")
    return str(path)


def weights(place: Path) -> str:
    """A model that lies on this machine."""
    if place.is_dir() and not any(place.glob("*.safetensors")):
        raise Finding("holds no safetensors")
    return "on this machine"


def archives(values: dict) -> tuple[list[Row], list[str]]:
    """(rows of the embedded models and data that flat parameters name, archives that are still to be fetched)."""
    names = {str(v).removeprefix("embedded:") for v in values.values() if str(v).startswith("embedded:")}
    names |= {"arc", "hellaswag", "mmlu", "truthfulqa"} if values["leaderboard.source"] == "embedded" else set()
    wanted = {packaged.CONTENTS[name][0] for name in names & set(packaged.CONTENTS)}
    missing = sorted(name for name in wanted if not packaged.ready(name))

    def named(name: str) -> str:
        raise Finding("is not known", f"correct its name{nearest(name, packaged.known())}")

    def fetched() -> str:
        if missing:
            raise Finding(f"{len(missing)} of {len(wanted)} not in the cache: {', '.join(missing)}", state="warn")
        return f"{len(wanted)} in {paths.cache()}"

    rows = [Row(f"embedded:{name}", partial(named, name)) for name in sorted(names - set(packaged.known()))]
    rows += [Row("embedded archives", fetched, "make setup, while there is a connection")] if wanted else []
    return rows, missing


def reach(params: Params) -> Reach:
    """Everything that is neither a package nor an embedded archive."""
    toxic, found = params.s2.toxicity_model, Reach([], [], [])
    ends = {"question writer": params.questions.writer, "judge": params.mtbench.judge}
    ends |= {f"other judge {i}": end for i, end in enumerate(params.mtbench.other_judges, start=1)}
    models = [params.model.base, params.model.chat, *params.fit.models.values()]
    models += [params.attention_heads.model, params.attention_windows.model]
    models += [*params.expert_routing.models.values(), *params.long_context.models.values()]
    decoders = [(w.path, w.revision) for w in models]
    judges = [(end.model, end.revision) for end in ends.values() if end.backend == "local"]
    encoders = [(w.path, w.revision) for w in (params.data.embedder, params.text_metrics.bertscore)]
    encoders += [] if toxic == "profanity-check" else [toxic.partition("@")[::2]]
    for path, revision in dict.fromkeys([*decoders, *encoders[:2], *judges, *encoders[2:]]):
        if path.startswith("embedded:"):
            continue
        if (place := paths.root() / path).exists():
            found.files.append(Row(f"model {path}", partial(weights, place), "other formats are refused: convert it"))
            continue
        decoder = (path, revision) in [*decoders, *judges]
        found.asks.append(Row(f"model {path}", partial(hub, "model", path, revision, decoder), HUB))
        found.downloads.extend([] if cached(path) else [(path, decoder)])
    for path, revision in [(w.path, w.revision) for w in params.configurations.models.values()]:
        if (path, revision) not in decoders and not (paths.root() / path).exists():
            what = f"configuration {path}"  # alone: no weights are read
            found.asks.append(Row(what, partial(hub, "model", path, revision, False), HUB))
    sets = list(BOARD) if params.leaderboard.source == "hub" else []  # too small to count as downloads
    for name, given in {**params.corpus.components, **params.data.sources}.items():
        path = paths.root() / given.path
        if given.path.startswith("embedded:"):
            continue
        if path.exists() or given.path.startswith((".", "/")) or set(path.suffixes[-2:]) & set(readers.SUFFIXES):
            found.files.append(Row(f"source {name}", partial(source, path), SOURCES))
        else:
            found.downloads.extend([] if given.path in sets else [(given.path, False)])
            sets.append(given.path)
    found.asks.extend(Row(f"dataset {path}", partial(hub, "dataset", path), HUB) for path in dict.fromkeys(sets))
    found.asks.extend(Row(who, partial(server, end)) for who, end in ends.items() if end.backend == "openai")
    return found
