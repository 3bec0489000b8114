"""What a run reaches for: hub models and data sets, files, embedded archives, servers. Is each there, and may we?

Nothing is downloaded and nothing is spent: repositories are listed, a server is asked for its models.
Trap: error texts of clients may hold keys, so only their kinds are shown, and of an address only the host.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import huggingface_hub
from huggingface_hub import constants, errors

from s2utils.data import readers
from s2utils.models.parameters import Endpoint, Weights
from s2utils.workflow import artefacts, packaged, paths
from s2utils.workflow.params import Params, nearest

BOARD = ("allenai/ai2_arc", "Rowan/hellaswag", "cais/mmlu", "truthfulqa/truthful_qa")  # what the harness loads
HUB = "check the connection, or give a local path"


@dataclass(frozen=True)
class Check:
    """One line of the table."""

    state: str  # "pass" | "warn" | "fail"
    what: str
    found: str
    remedy: str = ""


def cached(weights: Weights) -> bool:
    """Whether the hub's cache holds safetensors of a repository."""
    folder = Path(constants.HF_HUB_CACHE) / f"models--{weights.path.replace('/', '--')}"
    return any(folder.glob("snapshots/*/*.safetensors"))


def hub(kind: str, path: str, revision: str = "", must: bool = True) -> Check:
    """A hub model (`kind` "model": access, safetensors) or data set; `must`: without safetensors it fails, else warns."""
    api, what = huggingface_hub.HfApi(), f"{kind} {path}"
    page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{path}"
    access = f"accept its licence at {page} and set HF_TOKEN to a token that may read it"
    try:
        info = getattr(api, f"{kind}_info")(path, revision=revision or None, timeout=5)
        if info.gated:
            if not huggingface_hub.get_token():
                return Check("fail", what, "gated, and no token is set", access)
            api.auth_check(path, repo_type=kind)
    except errors.GatedRepoError:
        return Check(
            "fail",
            what,
            "gated, and the token has no access" if huggingface_hub.get_token() else "gated, and no token is set",
            access,
        )
    except errors.HFValidationError:
        return Check(
            "fail", what, "is neither a folder here nor a name on the hub", "correct it (paths start at the root)"
        )
    except errors.RevisionNotFoundError:
        return Check("fail", what, f"has no revision '{revision}'", f"see {page}/commits/main")
    except errors.RepositoryNotFoundError:
        return Check("fail", what, "does not exist, or is private", f"correct its name, or set HF_TOKEN ({page})")
    except Exception as error:  # offline in any of its forms, or a hub that answers otherwise
        status = getattr(getattr(error, "response", None), "status_code", None)
        found = f"the hub answers with status {status}" if status else f"hub not reached ({type(error).__name__})"
        if kind == "model" and cached(Weights(path=path, revision=revision)):
            return Check("warn", what, f"{found}; the cache holds it")
        return Check("fail", what, found, "check HF_TOKEN" if status in (401, 403) else HUB)
    files = [s.rfilename for s in info.siblings or []]
    if kind == "model" and not any(f.endswith(".safetensors") for f in files):
        return Check(
            "fail" if must else "warn",
            what,
            "its repository lists no safetensors",
            "other formats are refused: name a revision or a local folder that has them",
        )
    return Check("pass", what, "gated, access granted" if info.gated else "open")


def server(who: str, endpoint: Endpoint) -> Check:
    """Whether a question writer's or judge's server answers and knows its model; asks for the list of models only."""
    key = os.environ.get(endpoint.key_env, "")
    if not key and not endpoint.base_url:
        return Check(
            "fail",
            who,
            f"{endpoint.model} needs a key",
            f"set {endpoint.key_env} in the environment, or name another server in base_url",
        )
    try:
        url = httpx.URL(
            (endpoint.base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1").rstrip("/")
            + "/models"
        )
        reply = httpx.get(url, headers={"Authorization": f"Bearer {key or 'none'}"}, timeout=5)
    except Exception as error:  # its text may hold the key
        return Check(
            "fail",
            who,
            f"no answer ({type(error).__name__})",
            f"start the server, or correct base_url, or {endpoint.key_env} if it holds a line break",
        )
    if reply.status_code in (401, 403):
        return Check(
            "fail",
            who,
            f"{url.host} refuses the key (status {reply.status_code})",
            f"set {endpoint.key_env} to a valid key",
        )
    try:
        known = [str(row["id"]) for row in reply.json()["data"]]
    except (ValueError, KeyError, TypeError):
        return Check("warn", who, f"{url.host} answers, but does not list its models (status {reply.status_code})", "")
    if endpoint.model not in known:
        return Check(
            "fail",
            who,
            f"{url.host} has no model '{endpoint.model}'",
            f"correct its name{nearest(endpoint.model, known[:20])}",
        )
    return Check("pass", who, f"{endpoint.model} at {url.host}")


def local(name: str, path: Path) -> Check:
    """A source that lies on this machine: a readable file, or a folder that holds something."""
    try:
        if path.is_dir():
            something = any(path.iterdir())
        else:
            with open(path, "rb") as file:
                something = bool(file.read(1))
    except OSError as error:
        text, remedy = f"{path} cannot be read ({type(error).__name__})", "paths start at the repository's root"
        return Check("fail", f"source {name}", text, f"{remedy}; correct data.sources")
    if not something:
        return Check("fail", f"source {name}", f"{path} is empty", "correct data.sources")
    return Check("pass", f"source {name}", str(path))


def archives(values: dict) -> tuple[list[Check], int]:
    """(checks of the embedded models and data that flat parameters name, how many archives are still to be fetched)."""
    names = {str(v).removeprefix("embedded:") for v in values.values() if str(v).startswith("embedded:")}
    names |= {"arc", "hellaswag", "mmlu", "truthfulqa"} if values["leaderboard.source"] == "embedded" else set()
    checks = []
    for name in sorted(names - set(packaged.CONTENTS)):
        remedy = f"correct its name{nearest(name, packaged.CONTENTS)}"
        checks.append(Check("fail", f"embedded:{name}", "is not known", remedy))
    held = {packaged.CONTENTS[n][0] for n in names & set(packaged.CONTENTS)}
    missing = sorted(archive for archive in held if not in_cache(archive))
    if missing:
        text = f"{len(missing)} of {len(held)} not in the cache: {', '.join(missing)}"
        checks.append(Check("warn", "embedded archives", text, "make setup, while there is a connection"))
    elif held:
        checks.append(Check("pass", "embedded archives", f"{len(held)} in {paths.cache()}"))
    return checks, len(missing)


def in_cache(archive: str) -> bool:
    """Whether an archive was fetched whole."""
    a = packaged.ARCHIVES[archive]
    return artefacts.ready(paths.cache() / "embedded" / f"{archive}-{a.sha256[:12]}", a.sha256)


def remote(params: Params) -> tuple[list[tuple[str, Callable]], list[Check], list[tuple[str, bool]]]:
    """(what and check of each thing on the network, checks of files, what will be downloaded and whether it is a decoder)."""
    asks, found, wanted = [], [], {}
    toxic = params.s2.toxicity_model
    ends = [("question writer", params.questions.writer), ("judge", params.mtbench.judge)]
    ends += [(f"other judge {i}", e) for i, e in enumerate(params.mtbench.other_judges, start=1)]
    models = [
        (params.model.base, True),
        (params.model.chat, True),
        (params.data.embedder, False),
        (params.text_metrics.bertscore, False),
    ]
    models += [(Weights(path=e.model, revision=e.revision), True) for _, e in ends if e.backend == "local"]
    if toxic != "profanity-check":
        name, _, revision = toxic.partition("@")
        models.append((Weights(path=name, revision=revision), False))
    for weights, decoder in models:
        path = paths.root() / weights.path
        if weights.path.startswith("embedded:") or (weights.path, weights.revision) in wanted:
            continue
        wanted[weights.path, weights.revision] = decoder
        if path.is_file() or path.is_dir():
            ok = path.is_file() or any(path.glob("*.safetensors"))
            found.append(
                Check(
                    "pass" if ok else "fail",
                    f"model {weights.path}",
                    "on this machine" if ok else "holds no safetensors",
                    "" if ok else "other formats are refused: convert it",
                )
            )
            wanted.pop((weights.path, weights.revision))
        else:
            asks.append((f"model {weights.path}", lambda w=weights, d=decoder: hub("model", w.path, w.revision, d)))
    sets = list(BOARD) if params.leaderboard.source == "hub" else []
    for name, source in params.data.sources.items():
        path, kind = paths.root() / source.path, Path(source.path.removesuffix(Path(source.path).suffix)).suffix
        if source.path.startswith("embedded:"):
            continue
        if (
            path.exists()
            or {Path(source.path).suffix, kind} & set(readers.SUFFIXES)
            or source.path.startswith((".", "/"))
        ):
            found.append(local(name, path))
        else:
            sets.append(source.path)
    asks += [(f"dataset {s}", lambda s=s: hub("dataset", s)) for s in sets]
    asks += [(who, lambda w=who, e=e: server(w, e)) for who, e in ends if e.backend == "openai"]
    download = [(p, d) for (p, r), d in wanted.items() if not cached(Weights(path=p, revision=r))]
    return asks, found, download + [(s, False) for s in sets if s not in BOARD]  # the benchmarks are small
