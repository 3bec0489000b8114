"""Executed notebooks as pages: prose and figures, code folded, the contents at the side, the notebook itself beside.

Trap: model text is on every page and may look like markup; what a notebook shows as HTML or Markdown goes through
`clean`.
"""

from __future__ import annotations

import functools
import hashlib
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import bleach
import nbformat
from bleach.css_sanitizer import CSSSanitizer
from markupsafe import Markup
from nbconvert.exporters import HTMLExporter
from nbconvert.filters import strip_ansi

from s2utils.report import web
from s2utils.text import safe
from s2utils.workflow import artefacts, code, paths


def notebook_pages(profile: str, site: web.Site) -> dict[str, str]:
    """Write a page per executed notebook, with a copy of it, and remove those whose notebook is gone.

    Returns titles.
    """
    folder, read = site.folder / "html", {}
    for file in sorted((paths.artefacts(profile) / "notebooks").glob("*.ipynb")):
        try:
            read[file.stem] = nbformat.read(file, as_version=4)
        except ValueError:  # a killed run leaves half a file
            continue
    titles = {stem: _title(notebook, stem) for stem, notebook in read.items()}
    for old in [*folder.glob("*.html"), *folder.glob("*.ipynb")]:
        if old.stem not in read:
            old.unlink()
    chapters = [{"href": quote(f"{s}.html"), "title": titles[s], "stem": s} for s in read if "." not in s]
    for stem, notebook in read.items():
        source = (paths.artefacts(profile) / "notebooks" / f"{stem}.ipynb").read_bytes()
        made_from = _identity(source, site.title, site.embedded, site.links, chapters, sorted(read))
        if made_from in _head(folder / f"{stem}.html"):
            continue
        head, _, name = stem.partition(".")
        html = _relinked(fragment(notebook), set(read))
        values = {
            "title": f"{titles[stem]}{f' · {name}' if name else ''}",
            "stem": stem,
            "head": head,
            "chapters": chapters,
            "sections": sections(html),
            "fragment": Markup(html),
            "file": quote(f"{stem}.ipynb"),
            "made_from": made_from,
        }
        with artefacts.replacing(folder / f"{stem}.ipynb", "wb") as copy:
            copy.write(source)
        web.write_page(site, f"html/{stem}.html", "notebook", values, scripts=("notebook",))
    return titles


def _identity(*facts: object) -> str:
    """Hash of what a page is made from, the code that makes it among it: a page of the same is not made again."""
    maker = (code.module_digest(("report.notebook_pages",)), code.files_digest("s2utils/report/static/*"))
    return hashlib.sha256(repr((maker, facts)).encode()).hexdigest()


def _head(page: Path) -> str:
    """The beginning of a page, where it says what it was made from; "" where there is none."""
    if not page.is_file() or not page.with_suffix(".ipynb").is_file():
        return ""
    with open(page, encoding="utf-8") as file:
        return file.read(4096)


class _Headings(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.open = [], None

    def handle_starttag(self, tag, attrs):
        if tag == "h2" and (anchor := dict(attrs).get("id")):
            self.open = [anchor, ""]
        elif tag == "a":
            self.open = self.open and self.open + ["link"]

    def handle_endtag(self, tag):
        if tag == "h2" and self.open:
            self.found.append((self.open[0], self.open[1].strip()))
            self.open = None

    def handle_data(self, data):
        if self.open and len(self.open) == 2:  # text behind an <a> is the heading's own anchor sign
            self.open[1] += data


def sections(html: str) -> list[tuple[str, str]]:
    """(anchor, text) of the second-level headings of a page."""
    parser = _Headings()
    parser.feed(html)
    return parser.found


def _title(notebook: nbformat.NotebookNode, stem: str) -> str:
    """First heading of a notebook, else its file name."""
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    found = re.search(r"^# +(.+)$", text, re.MULTILINE)
    return found[1].replace("`", "").strip() if found else stem


FOLDED = """{%- extends 'basic/index.html.j2' -%}
{% block input %}<details class="code">
<summary><code>{{ cell.source.strip().split('\n')[0] | escape_html }}</code></summary>
{{ super() }}</details>{% endblock %}"""


@functools.cache
def _exporter() -> HTMLExporter:
    return HTMLExporter(
        template_name="basic",
        raw_template=FOLDED,
        sanitize_html=True,
        filters={"clean_html": clean},
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )


def fragment(notebook: nbformat.NotebookNode) -> str:
    """A notebook as HTML without head or body: code folded, outputs quiet and clean."""
    notebook = nbformat.from_dict(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = quiet(cell.outputs)
    html = _exporter().from_notebook_node(notebook)[0]
    return safe.visible(
        ENTITY.sub(lambda m: safe.visible(unescape(m[0])) if safe.UNSEEN.match(unescape(m[0])) else m[0], html)
    )


ENTITY = re.compile(r"&#(?:\d+|[xX][0-9a-fA-F]+);")  # marks that turn a line may be written so


def quiet(outputs: list) -> list:
    """Outputs without widgets, scripts, terminal codes and the past of progress bars."""
    kept: list = []
    for output in outputs:
        if output.output_type == "stream" and kept and kept[-1].get("name") == output.name:
            kept[-1].text += output.text
        elif not {"application/vnd.jupyter.widget-view+json", "application/javascript"} & set(output.get("data", {})):
            kept.append(nbformat.from_dict(output))
    for output in kept:
        if output.output_type == "stream":
            output.text = last_states(output.text)
        elif output.output_type == "error":
            output.traceback = [CONTROL.sub("", strip_ansi(line)) for line in output.traceback]
        elif "text/plain" in output.data:
            output.data["text/plain"] = CONTROL.sub("", strip_ansi(output.data["text/plain"]))
    return [o for o in kept if o.output_type != "stream" or o.text.strip()]


CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
BAR = re.compile(r"(.*?):?\s*\d+%\|.*\| *\S+/\S+ \[.*")  # tqdm's: label, share, bar, count, times


def last_states(text: str) -> str:
    """A stream as a terminal shows it in the end: a line that was written over, or a bar that moved, once."""
    lines: list[str] = []
    for written in strip_ansi(text).replace("\r\n", "\n").split("\n"):
        line = CONTROL.sub("", written.rstrip("\r").rsplit("\r", 1)[-1])
        if "\r" in written and not line.strip():
            continue
        bar, before = BAR.match(line[:500]), BAR.match(lines[-1][:500]) if lines else None
        if bar and before and bar[1] == before[1]:
            lines[-1] = line
        else:
            lines.append(line)
    return "\n".join(lines)


TAGS = """
a abbr b blockquote br caption code col colgroup dd del details div dl dt em figcaption figure h1 h2 h3 h4 h5 h6 hr i
img ins kbd li ol p pre q rt ruby s samp small span strong sub summary sup table tbody td tfoot th thead tr u ul
"""
STYLES = CSSSanitizer(
    allowed_css_properties=[
        "text-align", "vertical-align", "width", "max-width", "background-color", "line-height", "ruby-position",
    ]
)  # fmt: skip


def clean(html: str) -> str:
    """HTML that runs and loads nothing; tags we do not know are shown as text."""
    html = re.sub(r"<style\b.*?</style\s*>", "", html, flags=re.DOTALL | re.IGNORECASE)  # of pandas, not for reading
    schemes = {"http", "https", "mailto", "data"}
    cleaned = bleach.clean(html, tags=set(TAGS.split()), attributes=_allowed, protocols=schemes, css_sanitizer=STYLES)
    return re.sub(r"<img(?![^<>]* src=)[^<>]*>", "[a picture from elsewhere, left out]", cleaned)


def _allowed(tag: str, attribute: str, value: str) -> bool:
    if (tag, attribute) == ("img", "src"):
        return value.startswith("data:image/")
    if (tag, attribute) == ("a", "href"):
        return re.match(r"(https?:|mailto:|[^:]*$)", unescape(value).strip(), re.IGNORECASE) is not None
    plain = ("class", "id", "title", "style", "colspan", "rowspan", "scope", "start", "open")
    return attribute in plain or (tag == "img" and attribute in ("alt", "width", "height"))


def _relinked(html: str, stems: set[str]) -> str:
    """Links between notebooks as links between their pages; other relative links, made for notebooks/, become text."""

    def right(found: re.Match) -> str:
        parts = urlsplit(found[2])
        if parts.scheme or parts.netloc or not parts.path:
            return found[0]
        stem = unquote(parts.path).removeprefix("./").removesuffix(".ipynb")
        tail = f"#{parts.fragment}" if parts.fragment else ""
        return f'{found[1]} href="{quote(stem)}.html{tail}"' if stem in stems else found[1]

    return re.sub(r'(<a\b[^<>]*?) href="([^"]*)"', right, html)
