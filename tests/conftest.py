"""What the tests share: no network, one thread, a copy of the repository's inputs, tiny models."""

from __future__ import annotations

import contextlib
import json
import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["DO_NOT_TRACK"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import shutil
import socketserver
import threading
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

from s2utils.models.parameters import Endpoint
from s2utils.workflow import code, declared, steps

OTHER = {  # scripts other than Latin
    "Thai": "ดวงอาทิตย์เป็นดาวฤกษ์ และให้แสงแก่เรา",
    "Chinese": "太阳是一颗恒星。它给我们光和热。",
    "Russian": "Солнце — это звезда. Оно даёт нам свет и тепло.",
    "Korean": "태양은 별입니다. 태양은 우리에게 빛을 줍니다.",
    "Greek": "Ο ήλιος είναι ένα αστέρι.",
    "Arabic": "الشمس نجم يعطينا الضوء.",
    "Hindi": "सूरज एक तारा है। वह हमें दिन में रोशनी देता है।",
}
REPOSITORY = Path(__file__).resolve().parents[1]
SAMPLES = REPOSITORY.parent / "shared"  # real samples for development; never part of the repository

settings.register_profile(  # under CI the same examples each time: what fails there fails here
    "s2",
    max_examples=60,
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("s2")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For several workers, each of which takes whole files.

    What takes longest first, then files that do not wait for it.
    """
    waits = {
        item.path
        for item in items
        if any(d.scope == "session" for d in item._fixtureinfo.name2fixturedefs.get("study", ()))
    }
    items.sort(key=lambda item: (item.path.name != "test_study.py", item.path in waits))


def forget_digests() -> None:
    """What notebooks declare and the hashes of code are remembered; a test may change both."""
    for function in [*vars(steps).values(), *vars(code).values(), *vars(declared).values()]:
        if hasattr(function, "cache_clear"):
            function.cache_clear()


@pytest.fixture(autouse=True)
def fresh_digests():
    forget_digests()
    yield
    forget_digests()


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """An empty folder, and S2_ROOT pointing at it: enough for what only reads files from the root."""
    monkeypatch.setenv("S2_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """A copy of what a run reads (params/, notebooks/, s2utils/, reports/published/), and S2_ROOT pointing at it."""
    root = tmp_path / "repository"
    for folder in ("params", "notebooks", "s2utils", "reports/published"):
        ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        shutil.copytree(REPOSITORY / folder, root / folder, copy_function=shutil.copyfile, ignore=ignored)
    for path in (root, *root.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    monkeypatch.setenv("S2_ROOT", str(root))
    return root


def declare(tree: Path, name: str, *made: dict, **changes) -> None:
    """Add a notebook of no cells that declares these steps."""
    facts = {"part": "later", "question": "Why?", "result": "an answer", "steps": list(made)} | changes
    content = {"cells": [], "metadata": {"s2": facts}, "nbformat": 4, "nbformat_minor": 5}
    (tree / "notebooks" / f"{name}.ipynb").write_text(json.dumps(content))
    forget_digests()


@pytest.fixture
def sample():
    """Path of a real sample, or the test is skipped where it is not at hand."""

    def find(name: str) -> Path:
        path = SAMPLES / name
        if not path.is_file():
            pytest.skip(f"the sample {name} is not at hand")
        return path

    return find


CHAT_TEMPLATE = (  # Llama-2's, as published with its chat models (the checks of the roles left out)
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set system = messages[0]['content'] "
    "%}{% else %}{% set rest = messages %}{% set system = false %}{% endif %}{% for message in rest %}{% if "
    "loop.index0 == 0 and system %}{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + message['content'] "
    "%}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + "
    "'[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + "
    "' ' + eos_token }}{% endif %}{% endfor %}"
)
CORPUS = [
    "### Human: Why is the sky blue?\n ### Assistant: Light from the sun is made of many colours.",
    "[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nWhat is rain? [/INST] Water that falls from clouds.",
    "The cat sat on the mat because it was warm and the dog was not there to chase it away.",
]


@pytest.fixture(scope="session")
def llama2_folder(tmp_path_factory) -> Path:
    """A tokenizer built like Llama-2's (BPE over ▁, byte fallback, <s> in front, no padding token), saved."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import LlamaTokenizerFast

    bpe = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(split=True)
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    bpe.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False))
    state = json.loads(bpe.to_str())["model"]
    published = {"add_bos_token": True, "add_eos_token": False, "legacy": False}
    tok = LlamaTokenizerFast(vocab=state["vocab"], merges=[tuple(m) for m in state["merges"]], **published)
    tok.chat_template = CHAT_TEMPLATE
    folder = tmp_path_factory.mktemp("llama2-tokenizer")
    tok.save_pretrained(folder)
    return folder


@pytest.fixture
def llama2(llama2_folder):
    """That tokenizer, as published: no padding token, nothing prepared."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(llama2_folder)


@pytest.fixture
def tok(llama2):
    """That tokenizer as the study prepares it: a padding token, padding on the left."""
    from s2utils.models import loading

    return loading.prepared(llama2)


@pytest.fixture(scope="session")
def tiny_llama():
    """Make a random two-layer Llama in float32; keyword arguments go into its configuration."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    def make(seed: int = 0, **changes):
        torch.manual_seed(seed)
        facts = {
            "vocab_size": 400, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
            "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
        }  # fmt: skip
        model = LlamaForCausalLM(LlamaConfig(**(facts | changes))).eval()
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(weight.data)
        return model

    return make


@pytest.fixture(scope="session")
def tiny_base(tiny_llama, llama2_folder, tmp_path_factory) -> Path:
    """A folder with that model in bf16 and that tokenizer, for `model.base.path`."""
    import torch

    folder = tmp_path_factory.mktemp("base") / "tiny"
    shutil.copytree(llama2_folder, folder)
    tiny_llama().to(torch.bfloat16).save_pretrained(folder)
    return folder


def make_endpoint(**changes) -> Endpoint:
    """A model that is asked: a server's, at no price and with no limit, unless `changes` say otherwise."""
    given = {
        "backend": "openai", "model": "gpt-test", "revision": "", "base_url": "", "key_env": "NO_KEY",
        "concurrency": 1, "batch_size": 1, "max_new_tokens": 17, "temperature": 0.0,
        "requests_per_minute": 0, "price_in": 0.0, "price_out": 0.0, "budget": 0.0,
    }  # fmt: skip
    return Endpoint(**given | changes)


@contextlib.contextmanager
def serving(server: socketserver.BaseServer):
    """`server` in a thread of its own, closed at the end."""
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


JUDGEMENT = {  # one rating in FastChat's form
    "question_id": 81, "model": "m", "judge": ["gpt-4", "single-v1"], "judgment": "Rating: [[8]]", "score": 8,
    "turn": 1,
}  # fmt: skip


def write_jsonl(path: Path, *rows: dict | str) -> Path:
    """A JSONL file of rows; texts are written as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + "\n", encoding="utf-8")
    return path


def write_rows(folder: Path, train: int, validation: int) -> Path:
    """Questions and answers of the set sciq as 02 leaves them, answers of 1 to 5 sentences; returns `folder`."""
    import pandas as pd

    from s2utils.data import splits

    words = ("rain", "the cat", "the sun", "light", "a dog", "a cloud", "the mat", "water")
    rows = [
        {"dataset": "sciq", "id": f"{i:03d}", "question": f"Why is {words[i % 8]} here?",
            "answer": f"It was {words[i % 7]}. " * (1 + i % 5)}
        for i in range(train + validation)
    ]  # fmt: skip
    frame = pd.DataFrame(rows).reindex(columns=splits.COLUMNS)
    splits.write(frame.assign(split=["train"] * train + ["validation"] * validation), folder)
    return folder


PAYLOADS = (  # texts that a model may write, and that must stay text wherever they are shown
    "<script>window.ran = 1; alert(1)</script> and then </script></style></textarea>",
    '<img src=x onerror="window.ran=2"><svg onload="window.ran=3"></svg><a href="javascript:window.ran=4">x</a>',
    "</p></div></main></body></html><b>bold</b> <!-- --> ]]> &lt; &amp;lt; \x1b[31mred\x1b[0m \x07 \x00",
    "\\input{/etc/passwd} \\write18{id} $x^2$ \\frac{1}{2} % & # _ { } ~ ^ \\end{document}",
    "| a | b |\n|---|---|\n| 1 | `2` |\n\n# heading\n\n[x](javascript:window.ran=5) ![p](https://example.org/p.png)",
    "right \u202eto left\u202c and \u2066isolated\u2069, a line\u2028separator",
    "{{ 7 * 7 }} {% raw %} ${7*7} <%= 7 %> \ud7ff \U0001f600",
    "x" * 100_000,
)
BROWSER = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def chromium():
    """One browser for all tests of a file: Playwright's loop must not outlive it, papermill runs one of its own."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    if not path:
        assert not os.environ.get("CI"), "CI must have Chromium"
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(BROWSER))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> Path:
    """A finished smoke run in a copy of the repository, one for all workers: none of them may change it."""
    from test_study import copy_of_repository, run, snakemake

    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    root, told = shared / "study" / "repository", shared / "study" / "told.txt"
    with FileLock(shared / "study.lock"):
        if not told.exists():
            copy_of_repository(root)
            done = run(root, snakemake(root))
            told.write_text("" if done.returncode == 0 else done.stderr[-4000:] or "it failed")
    assert not told.read_text(), told.read_text()
    return root


def write_table(frame, name: str, folder: Path, caption: str = "A caption.") -> None:
    """A table of results as `Run.save_table` leaves it, the published values beside ours."""
    from s2utils.evaluation import metrics
    from s2utils.results import tables

    about = {"title": metrics.TABLES[name].title, "caption": caption}
    tables.write(tables.beside(frame, name).round(6), name, folder, about)
