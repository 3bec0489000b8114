"""The shell every page of the report shares: templates, one style, scripts, a strict policy, embedded data.

Pages work offline from a file: style and scripts are inside, pictures are data URIs, nothing is loaded. The browser is
told to run only scripts with the hashes of ours. Traps: model text is on every page and may look like markup, so
templates escape by themselves; it may hold terminal codes and marks that turn the direction of a line, so `visible`
shows those as signs.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from s2utils.text import safe
from s2utils.workflow import artefacts, timings

SOURCES = Path(__file__).parent / "static"


@dataclass(frozen=True)
class Site:
    """Where the pages lie, how the report is called, and the pages named on each: (label, path in `folder`)."""

    folder: Path
    title: str
    embedded: bool = False  # numbers of the embedded models prove the pipeline only
    links: list[tuple[str, str]] = field(default_factory=list)
    home: str = "index.html"


def write_page(site: Site, path: str, template: str, values: dict, scripts: tuple[str, ...] = ()) -> Path:
    """Render static/<template>.html into `path` of the site.

    `scripts` name files of static/, put in with their hashes.
    """
    code = [_script(name) for name in ("theme", *scripts)]
    css = (SOURCES / "style.css").read_text(encoding="utf-8")
    # what a notebook shows may carry widths and alignments (`pages.STYLES`); nothing else may bring a style along
    styles = "'unsafe-inline'" if template == "notebook" else _hash(css)
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_hash, code))}; style-src {styles}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    shared = {
        "site": site,
        "path": path,
        "up": "../" * path.count("/"),
        "policy": policy,
        "css": Markup(css),
        "scripts": [Markup(text) for text in code],
    }
    with artefacts.replacing(site.folder / path) as file:
        file.write(environment().get_template(f"{template}.html").render(shared | values))
    return site.folder / path


@functools.cache
def environment() -> jinja2.Environment:
    """Templates of static/, escaping by themselves; a name that is missing is an error."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(SOURCES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"url": quote, "duration": timings.shown, "visible": safe.visible, "embedded": embedded}
    made.globals["slug"] = slug
    return made


@functools.cache
def _script(name: str) -> str:
    return (SOURCES / f"{name}.js").read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def embedded(value: object) -> Markup:
    """JSON that can stand in a <script> element whatever it holds; numbers that are none become null."""
    text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"))
    text = text.encode("utf-8", "replace").decode()  # half a surrogate pair is no text
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value


def slug(text: str) -> str:
    """An anchor: letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
