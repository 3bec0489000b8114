"""Pages of the report: the shell they share, and executed notebooks as HTML.

Pages work offline from a file: styles are inside, pictures are data URIs, nothing is loaded. Trap: model
text is on every page and may look like markup; templates escape by themselves, and what a notebook shows
as HTML or Markdown goes through `clean`.
"""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import bleach
import jinja2
import nbformat
from bleach.css_sanitizer import CSSSanitizer
from markupsafe import Markup
from nbconvert.exporters import HTMLExporter
from nbconvert.filters import strip_ansi
from pygments.formatters import HtmlFormatter

from s2utils import artefacts, paths


def notebook_pages(profile: str) -> dict[str, str]:
    """Write a page per executed notebook and remove pages whose notebook is gone; returns their titles."""
    folder, read = paths.reports(profile) / "html", {}
    for file in sorted((paths.artefacts(profile) / "notebooks").glob("*.ipynb")):
        try:
            read[file.stem] = nbformat.read(file, as_version=4)
        except ValueError:  # a killed run leaves half a file
            continue
    titles = {stem: _title(notebook, stem) for stem, notebook in read.items()}
    for old in folder.glob("*.html"):
        if old.stem not in read:
            old.unlink()
    for stem, notebook in read.items():
        head, _, name = stem.partition(".")
        values = {
            "title": f"{titles[stem]}{f' · {name}' if name else ''} · {profile}",
            "profile": profile,
            "stem": stem,
            "parent": {"href": quote(f"{head}.html"), "title": titles[head]} if name and head in read else None,
            "fragment": Markup(_relinked(fragment(notebook), set(read))),
        }
        write_page(folder / f"{stem}.html", values)
    return titles


def _title(notebook: nbformat.NotebookNode, stem: str) -> str:
    """First heading of a notebook, else its file name."""
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    found = re.search(r"^# +(.+)$", text, re.MULTILINE)
    return found[1].replace("`", "").strip() if found else stem


FOLDED = """{%- extends 'basic/index.html.j2' -%}
{% block input %}<details class="code"><summary><code>{{ cell.source.strip().split('\n')[0] | escape_html }}</code></summary>
{{ super() }}</details>{% endblock %}"""


def fragment(notebook: nbformat.NotebookNode) -> str:
    """A notebook as HTML without head or body: code folded, outputs quiet and clean."""
    exporter = HTMLExporter(
        template_name="basic", raw_template=FOLDED, sanitize_html=True, filters={"clean_html": clean},
        exclude_input_prompt=True, exclude_output_prompt=True,
    )  # fmt: skip
    notebook = nbformat.from_dict(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = quiet(cell.outputs)
    return exporter.from_notebook_node(notebook)[0]


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
img ins kbd li ol p pre q s samp small span strong sub summary sup table tbody td tfoot th thead tr u ul
"""
STYLES = CSSSanitizer(allowed_css_properties=["text-align", "vertical-align", "width", "max-width"])


def clean(html: str) -> str:
    """HTML that runs and loads nothing; tags we do not know are shown as text."""
    html = re.sub(r"<style\b.*?</style\s*>", "", html, flags=re.DOTALL | re.IGNORECASE)  # of pandas, not for reading
    schemes = {"http", "https", "mailto", "data"}
    return bleach.clean(html, tags=set(TAGS.split()), attributes=_allowed, protocols=schemes, css_sanitizer=STYLES)


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


def write_page(path: Path, values: dict) -> Path:
    """Render report.html with `values` into `path`."""
    here = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(here), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"url": quote, "duration": duration}
    css = [(here / "report.css").read_text(encoding="utf-8")]
    if "fragment" in values:
        light, dark = (HtmlFormatter(style=s).get_style_defs(".highlight") for s in ("default", "github-dark"))
        css += [light, f"@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}"]
    values = {"text_columns": ("dataset", "model", "merge mode", "statement"), "css": Markup("\n".join(css)), **values}
    with artefacts.replacing(path) as file:
        file.write(environment.get_template("report.html").render(values))
    return path


def duration(seconds: float) -> str:
    """12 s, 3 min or 2 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
