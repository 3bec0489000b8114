"""What a run reaches for: hub models and data sets, files, embedded archives, servers. Is each there, and may we?

Nothing is downloaded and nothing is spent: repositories are listed, a server is asked for its models.
Trap: error texts of clients may hold keys, so only their kinds are shown, and of an address only the host.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import huggingface_hub
from huggingface_hub import constants, errors

from s2utils.data import readers
from s2utils.models.parameters import Endpoint
from s2utils.workflow import packaged, paths
from s2utils.workflow.params import Params, nearest

BOARD = ("allenai/ai2_arc", "Rowan/hellaswag", "cais/mmlu", "truthfulqa/truthful_qa")  # what the harness loads
HUB = "check the connection, or give a local path"
READER = "accept its licence at {page} and set HF_TOKEN to a token that may read it"
REFUSALS = {  # error of the hub → what it means, remedy; the first that fits: a gated repository is also "not found"
    errors.GatedRepoError: ("gated, and {token}", READER),
    errors.HFValidationError: (
        "is neither a folder here nor a name on the hub",
        "correct it (paths start at the root)",
    ),
    errors.RevisionNotFoundError: ("has no revision '{revision}'", "see {page}/commits/main"),
    errors.RepositoryNotFoundError: ("does not exist, or is private", "correct its name, or set HF_TOKEN ({page})"),
}


@dataclass(frozen=True)
class Check:
    """One line of the table."""

    state: str  # "pass" | "warn" | "fail"
    what: str
    found: str
    remedy: str = ""


def cached(model: str) -> bool:
    """Whether the hub's cache holds safetensors of a model."""
    folder = Path(constants.HF_HUB_CACHE) / f"models--{model.replace('/', '--')}"
    return any(folder.glob("snapshots/*/*.safetensors"))


def hub(kind: str, path: str, revision: str = "", must: bool = True) -> Check:
    """Whether we may read a hub model (`kind` "model") or data set; `must`: a model without safetensors fails."""
    api, fail = huggingface_hub.HfApi(), functools.partial(Check, "fail", f"{kind} {path}")
    try:
        info = getattr(api, f"{kind}_info")(path, revision=revision or None, timeout=5)
        if info.gated:
            api.auth_check(path, repo_type=kind)
    except tuple(REFUSALS) as error:
        found, remedy = next(texts for refusal, texts in REFUSALS.items() if isinstance(error, refusal))
        token = "the token has no access" if huggingface_hub.get_token() else "no token is set"
        page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{path}"
        return fail(found.format(token=token, revision=revision), remedy.format(page=page))
    except Exception as error:  # offline in any of its forms, or a hub that answers otherwise
        status = getattr(getattr(error, "response", None), "status_code", None)
        found = f"the hub answers with status {status}" if status else f"hub not reached ({type(error).__name__})"
        if kind == "model" and cached(path):
            return Check("warn", f"{kind} {path}", f"{found}; the cache holds it")
        return fail(found, "check HF_TOKEN" if status in (401, 403) else HUB)
    if kind == "model" and not any(s.rfilename.endswith(".safetensors") for s in info.siblings or []):
        remedy = "other formats are refused: name a revision or a local folder that has them"
        return Check("fail" if must else "warn", f"{kind} {path}", "its repository lists no safetensors", remedy)
    return Check("pass", f"{kind} {path}", "gated, access granted" if info.gated else "open")


def server(who: str, endpoint: Endpoint) -> Check:
    """Whether a question writer's or judge's server answers and knows its model; asks for the list of models only."""
    variable, fail = endpoint.key_env, functools.partial(Check, "fail", who)
    key = os.environ.get(variable, "")
    if not key and not endpoint.base_url:
        remedy = f"set {variable} in the environment, or name another server in base_url"
        return fail(f"{endpoint.model} needs a key", remedy)
    base = endpoint.base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
    try:
        url = httpx.URL(f"{base.rstrip('/')}/models")
        reply = httpx.get(url, headers={"Authorization": f"Bearer {key or 'none'}"}, timeout=5)
    except Exception as error:  # its text may hold the key
        remedy = f"start the server, or correct base_url, or {variable} if it holds a line break"
        return fail(f"no answer ({type(error).__name__})", remedy)
    status = f"(status {reply.status_code})"
    if reply.status_code in (401, 403):
        return fail(f"{url.host} refuses the key {status}", f"set {variable} to a valid key")
    try:
        known = [str(row["id"]) for row in reply.json()["data"]]
    except (ValueError, KeyError, TypeError):
        return Check("warn", who, f"{url.host} answers, but does not list its models {status}")
    if endpoint.model not in known:
        remedy = f"correct its name{nearest(endpoint.model, known[:20])}"
        return fail(f"{url.host} has no model '{endpoint.model}'", remedy)
    return Check("pass", who, f"{endpoint.model} at {url.host}")


def local(name: str, path: Path) -> Check:
    """A source that lies on this machine: a readable file, or a folder that holds something."""
    fail = functools.partial(Check, "fail", f"source {name}")
    try:
        if path.is_dir():
            something = any(path.iterdir())
        else:
            with path.open("rb") as file:
                something = file.read(1)
    except OSError as error:
        remedy = "paths start at the repository's root; correct data.sources"
        return fail(f"{path} cannot be read ({type(error).__name__})", remedy)
    return Check("pass", f"source {name}", str(path)) if something else fail(f"{path} is empty", "correct data.sources")


def archives(values: dict) -> tuple[list[Check], int]:
    """(checks of the embedded models and data that flat parameters name, how many archives are still to be fetched)."""
    names = {str(v).removeprefix("embedded:") for v in values.values() if str(v).startswith("embedded:")}
    names |= {"arc", "hellaswag", "mmlu", "truthfulqa"} if values["leaderboard.source"] == "embedded" else set()
    checks = [
        Check("fail", f"embedded:{name}", "is not known", f"correct its name{nearest(name, packaged.known())}")
        for name in sorted(names - set(packaged.known()))
    ]
    wanted = {packaged.CONTENTS[name][0] for name in names & set(packaged.CONTENTS)}
    if missing := sorted(name for name in wanted if not packaged.ready(name)):
        text = f"{len(missing)} of {len(wanted)} not in the cache: {', '.join(missing)}"
        checks.append(Check("warn", "embedded archives", text, "make setup, while there is a connection"))
    elif wanted:
        checks.append(Check("pass", "embedded archives", f"{len(wanted)} in {paths.cache()}"))
    return checks, len(missing)


def remote(params: Params) -> tuple[list[tuple[str, Callable[[], Check]]], list[Check], list[tuple[str, bool]]]:
    """(what and check of each thing on the network, checks of files, (what is to be downloaded, whether a decoder))."""
    bench, toxic = params.mtbench, params.s2.toxicity_model
    ends = [("question writer", params.questions.writer), ("judge", bench.judge)]
    ends += [(f"other judge {i}", end) for i, end in enumerate(bench.other_judges, start=1)]
    decoders = [(w.path, w.revision) for w in (params.model.base, params.model.chat)]
    judges = [(end.model, end.revision) for _, end in ends if end.backend == "local"]
    encoders = [(w.path, w.revision) for w in (params.data.embedder, params.text_metrics.bertscore)]
    classifiers = [] if toxic == "profanity-check" else [toxic.partition("@")[::2]]
    asks, checks, downloads = [], [], []
    for path, revision in dict.fromkeys([*decoders, *encoders, *judges, *classifiers]):
        what, decoder = f"model {path}", (path, revision) in [*decoders, *judges]
        place = paths.root() / path
        if path.startswith("embedded:"):
            continue
        if not place.exists():
            asks.append((what, functools.partial(hub, "model", path, revision, decoder)))
            downloads += [] if cached(path) else [(path, decoder)]
        elif place.is_file() or any(place.glob("*.safetensors")):
            checks.append(Check("pass", what, "on this machine"))
        else:
            checks.append(Check("fail", what, "holds no safetensors", "other formats are refused: convert it"))
    sets = list(BOARD) if params.leaderboard.source == "hub" else []
    for name, source in params.data.sources.items():
        path = paths.root() / source.path
        if source.path.startswith("embedded:"):
            continue
        if path.exists() or source.path.startswith((".", "/")) or set(path.suffixes[-2:]) & set(readers.SUFFIXES):
            checks.append(local(name, path))
        else:
            sets.append(source.path)
            downloads.append((source.path, False))  # the benchmarks are small
    asks += [(f"dataset {path}", functools.partial(hub, "dataset", path)) for path in sets]
    asks += [(who, functools.partial(server, who, end)) for who, end in ends if end.backend == "openai"]
    return asks, checks, downloads
