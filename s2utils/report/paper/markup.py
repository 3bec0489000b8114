"""Prose written once, in a light Markdown, and set as HTML and as LaTeX.

What it knows: headings, paragraphs, emphasis, `code`, lists, links, tables, pictures. A paragraph "Table 1: …" before a
table, or "Figure 1: …" before a picture, is its caption. Whatever is put into the prose passes `escape` unless it is
`Text` already, so a model's name never becomes markup, in none of the three formats.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable
from pathlib import Path

import mistune
import pandas as pd

from s2utils.results.latex import latex_text

CAPTION = re.compile(r"(Table|Figure) (\d+): ")
SPECIAL = re.compile(r"([\\`*_\[\]<>|#!~$&])")
FIRST = re.compile(r"^(\d+(?=[.)](?:\s|$))|(?=[-+=](?:[-+=\s]|$)))")  # would begin a list or underline a heading
UNSEEN = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")


class Text(str):
    """Markdown, which is not escaped again."""


def plain(value: object) -> str:
    """A value in one line; controls, and marks that turn a line's direction, become signs a reader sees."""
    return re.sub(r"\s+", " ", UNSEEN.sub(lambda m: f"[U+{ord(m[0]):04X}]", str(value)))


def escape(value: object) -> Text:
    """Any value as Markdown that shows it as it is."""
    return value if isinstance(value, Text) else Text(FIRST.sub(r"\1\\", SPECIAL.sub(r"\\\1", plain(value))))


def code(value: object) -> Text:
    """A value as `code`, whatever backticks it holds."""
    text = plain(value)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return Text(f"{fence} {text} {fence}" if "`" in text else f"{fence}{text or ' '}{fence}")


def grid(view: pd.DataFrame) -> Text:
    """A frame as a Markdown table, numbers to the right."""
    right = [all(re.match(r"\*{0,2}[+−-]?\d|–?$", str(cell)) for cell in view[c]) for c in view]
    rows = [[escape(c) for c in view.columns], ["---:" if r else "---" for r in right]]
    rows += [[escape(cell).strip() for cell in row] for row in view.astype(object).itertuples(index=False)]
    return Text("\n".join(f"| {' | '.join(row)} |" for row in rows))


def tokens(text: str) -> list[dict]:
    """Markdown as a tree, captions joined to their table or picture."""
    parsed = mistune.create_markdown(renderer=None, plugins=["table"])(text)
    found = []
    for token in (t for t in parsed if t["type"] != "blank_line"):
        first = token["children"][0] if token.get("children") else {}
        if token["type"] == "paragraph" and first.get("type") == "image" and len(token["children"]) == 1:
            token = {**first, "type": "picture"}
        if token["type"] in ("table", "picture") and found and (match := _caption(found[-1])):
            said = found.pop()["children"]
            said = [{**said[0], "raw": said[0]["raw"][match.end() :]}, *said[1:]]
            token = {"type": "float", "kind": match[1], "number": match[2], "caption": said, "children": [token]}
        found.append(token)
    return found


def _caption(token: dict) -> re.Match | None:
    return CAPTION.match(token["children"][0].get("raw", "")) if token["type"] == "paragraph" else None


Rules = dict[str, Callable[[dict, str], str]]


def _render(found: list[dict], rules: Rules) -> str:
    parts = []
    for token in found:
        inner = _render(token["children"], rules) if "children" in token else token.get("raw", "")
        if "caption" in token:
            token = {**token, "caption": _render(token["caption"], rules)}
        parts.append(rules[token["type"]](token, inner))
    return "".join(parts)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", html.unescape(text).lower()).strip("-")


def to_html(found: list[dict], folder: Path) -> str:
    """HTML of a tree; pictures of `folder` stand inside, so that the page loads nothing."""

    def picture(token: dict, inner: str) -> str:
        data = base64.b64encode((folder / token["attrs"]["url"]).read_bytes()).decode()
        return f'<img src="data:image/png;base64,{data}" alt="{inner}">\n'

    def cell(token: dict, inner: str) -> str:
        name, style = "th" if token["attrs"]["head"] else "td", " class=number" if token["attrs"]["align"] else ""
        return f"<{name}{style}>{inner}</{name}>"

    def heading(token: dict, inner: str) -> str:
        level = token["attrs"]["level"]
        return f'<h{level} id="{_slug(inner)}">{inner}</h{level}>\n'

    def both(name: str) -> Callable[[dict, str], str]:
        return lambda token, inner: f"<{name}>{inner}</{name}>"

    return _render(
        found,
        {
            "text": lambda t, raw: html.escape(raw),
            "codespan": lambda t, raw: f"<code>{html.escape(raw)}</code>",
            "inline_html": lambda t, raw: html.escape(raw),
            "block_html": lambda t, raw: html.escape(raw),
            "softbreak": lambda t, _: "\n",
            "linebreak": lambda t, _: "<br>\n",
            "emphasis": both("em"),
            "strong": both("strong"),
            "paragraph": lambda t, inner: f"<p>{inner}</p>\n",
            "block_text": lambda t, inner: inner,
            "heading": heading,
            "list": lambda t, inner: f"<{(n := 'ol' if t['attrs']['ordered'] else 'ul')}>\n{inner}</{n}>\n",
            "list_item": lambda t, inner: f"<li>{inner}</li>\n",
            "picture": picture,
            "image": picture,
            "link": lambda t, inner: f'<a href="{html.escape(t["attrs"]["url"])}">{inner}</a>',
            "table": lambda t, inner: (
                f'<div class="scroll" role="region" tabindex="0" aria-label="Table"><table>{inner}</table></div>\n'
            ),
            "table_head": lambda t, inner: f"<thead><tr>{inner}</tr></thead>\n<tbody>",
            "table_body": lambda t, inner: f"{inner}</tbody>",
            "table_row": lambda t, inner: f"<tr>{inner}</tr>\n",
            "table_cell": cell,
            "float": lambda t, inner: (
                f"<figure><figcaption><strong>{t['kind']} {t['number']}.</strong> "
                f"{t['caption']}</figcaption>\n{inner}</figure>\n"
            ),
        },
    )


def to_latex(found: list[dict]) -> str:
    """The body of a LaTeX document; pictures are the PDF files beside the PNG ones. Links become their text."""

    def table(token: dict, inner: str) -> str:
        head = token["children"][0]["children"]
        columns = "".join("r" if c["attrs"]["align"] == "right" else "l" for c in head)
        return f"\\fitted{{\\begin{{tabular}}{{{columns}}}\n\\toprule\n{inner}\\bottomrule\n\\end{{tabular}}}}\n"

    def guarded(inner: str) -> str:
        return "{}" * inner.startswith(("[", "*")) + inner  # bare, it would be an argument of the row or item before

    def row(token: dict, inner: str) -> str:
        return f"{guarded(inner.removesuffix(' & '))} \\\\\n"

    def floated(token: dict, inner: str) -> str:
        name = token["kind"].lower()
        return f"\\begin{{{name}}}[H]\n\\centering\n\\caption{{{token['caption']}}}\n{inner}\\end{{{name}}}\n\n"

    def heading(token: dict, inner: str) -> str:
        level = token["attrs"]["level"]
        made = {1: rf"\title{{{inner}}}\date{{}}\maketitle", 2: rf"\section{{{inner}}}", 3: rf"\subsection{{{inner}}}"}
        return made.get(level, rf"\subsubsection*{{{inner}}}") + "\n\n"

    def listed(token: dict, inner: str) -> str:
        name = "enumerate" if token["attrs"]["ordered"] else "itemize"
        return f"\\begin{{{name}}}\n{inner}\\end{{{name}}}\n\n"

    def picture(token: dict, inner: str) -> str:
        return f"\\includegraphics[width=\\linewidth]{{{Path(token['attrs']['url']).with_suffix('.pdf').as_posix()}}}\n"

    def text(token: dict, raw: str) -> str:
        return latex_text(raw)

    def typed(token: dict, raw: str) -> str:
        broken = re.sub(r"/|\\_", lambda m: rf"{m[0]}\allowbreak{{}}", latex_text(raw))  # long paths may break
        return rf"\texttt{{{broken}}}"

    return _render(
        found,
        {
            "text": text,
            "inline_html": text,
            "block_html": text,
            "codespan": typed,
            "softbreak": lambda t, _: "\n",
            "linebreak": lambda t, _: "\\newline\n",
            "emphasis": lambda t, inner: rf"\emph{{{inner}}}",
            "strong": lambda t, inner: rf"\textbf{{{inner}}}",
            "paragraph": lambda t, inner: f"{inner}\n\n",
            "block_text": lambda t, inner: inner,
            "heading": heading,
            "list": listed,
            "list_item": lambda t, inner: f"\\item {guarded(inner)}\n",
            "link": lambda t, inner: inner,
            "picture": picture,
            "image": picture,
            "table": table,
            "table_head": lambda t, inner: f"{inner.removesuffix(' & ')} \\\\\n\\midrule\n",
            "table_body": lambda t, inner: inner,
            "table_row": row,
            "table_cell": lambda t, inner: f"{inner} & ",
            "float": floated,
        },
    )
