"""Articles of a Wikimedia dump (pages-articles.xml.bz2), and the prose of their wikitext.

`pages` streams the dump and leaves the text as it is; `plain` turns wikitext into paragraphs and is the
slow part (mwparserfromhell), so it runs with the records, in as many processes as there are. Trap:
templates are not expanded, and what they would print is lost, but for a few that hold words of the
sentence they stand in (PROSE). Source: mediawiki.org/wiki/Help:Export#Export_format, Help:Formatting.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from xml.etree.ElementTree import ParseError

import mwparserfromhell
from mwparserfromhell import nodes

from s2utils.data.streams import SourceError, Unreadable, shown, unpacked, writable

LONGEST = 2**19  # characters; what comes later in the few longer articles is lists
MARKS = re.compile(r"\{\{|\{\||<|\[\w+:|\n[*#:;=]")
PAIRS = (("{{", "}}"), ("{|", "|}"), ("[[", "]]"), ("<", ">"))
MOST_MARKS, MOST_OPEN = 10_000, 500  # the parser's time grows with the square of both
REDIRECT = re.compile(r"\s*#redirect", re.IGNORECASE)
DISAMBIGUATION = re.compile(
    r"\{\{\s*(disambig\w*|disamb|dab|geodis|hndis|roadis|schooldis|numberdis|mathdab|hospitaldis"
    r"|(human name|geographical|place name|airport|number) disambiguation)\s*[|}]",
    re.IGNORECASE,
)
END_OF_PROSE = {
    "references", "reference", "see also", "external links", "external link", "other websites", "other website",
    "related pages", "notes", "notes and references", "references and notes", "sources", "footnotes", "citations",
    "bibliography", "further reading", "more reading", "gallery", "works cited", "general references",
}  # fmt: skip
NO_PROSE = {
    "ref", "references", "table", "gallery", "math", "chem", "ce", "score", "timeline", "imagemap", "syntaxhighlight",
    "source", "templatestyles", "style", "hiero", "graph", "mapframe", "maplink", "noinclude", "pre", "inputbox",
}  # fmt: skip
LISTED = {"li": "*", "dd": ":", "dt": ";", "hr": "----"}  # as they stand at the start of a line
NO_LINK = re.compile(r"(file|image|category)\s*:", re.IGNORECASE)  # pictures and categories, whatever their text
OTHER_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z-]+)?:")  # small letters only: CSI: Miami and Re:Zero are articles
# templates whose words belong to the sentence: name → the arguments that are printed
PROSE = {
    **dict.fromkeys(("nowrap", "nobr", "nobold", "small", "smaller", "big", "em", "strong", "abbr", "ill"), (1,)),
    **dict.fromkeys(("sic", "interlanguage link", "nihongo", "korean", "zh", "gaps", "val", "formatnum", "ship"), (1,)),
    **dict.fromkeys(("lang", "langx", "transl", "transliteration", "tooltip"), (2,)),
    **dict.fromkeys(("convert", "cvt"), (1, 2)),
}
SIGNS = {"ndash": "–", "mdash": "—", "snd": " – ", "spaced ndash": " – ", "nbsp": " ", "'": "'", "!": "|", "=": "="}
BETWEEN = ("to", "-", "–", "and", "or", "by", "x", "to(-)")  # {{convert|5|to|10|km}}


def pages(path: Path) -> Iterator[dict | Unreadable]:
    """Articles of a dump (plain or packed) as {id, title, url, text, wikitext: True}; the other pages by reason.

    Raises SourceError, naming the last page read, where the dump is cut or not a dump.
    """
    from mwxml import Dump
    from mwxml.element_iterator import ElementIterator
    from mwxml.errors import MalformedXML

    last = "there is none"
    with unpacked(path) as file:
        try:
            tree = ElementIterator.from_file(file)
            if tree.tag != "mediawiki":
                raise MalformedXML(f"<{tree.tag}> is not <mediawiki>")
            dump = Dump.from_element(tree)
            base = (dump.site_info.base or "").rpartition("/")[0]
            for page in dump.pages:
                yield _article(page, base)
                last = f"{page.title} ({page.id})"
                tree.element.clear()  # else the root keeps an empty element a page
        except SourceError as error:
            raise SourceError(f"{error}; last page: {last}") from error
        except (ParseError, MalformedXML, ValueError, TypeError, AttributeError) as error:
            raise SourceError(
                f"{shown(path)}: not a whole Wikimedia dump ({error}); last page: {last}; fetch it again"
            ) from error


def _article(page, base: str) -> dict | Unreadable:
    """The last revision of a page, or why it is no article."""
    if page.namespace != 0:
        return Unreadable("not an article")
    text, model = None, "wikitext"
    for revision in page:
        main = (revision.slots.contents or {}).get("main") if revision.slots else None
        text, model = (main.text, main.model) if main else (None, "wikitext")
    if page.redirect is not None or (text and REDIRECT.match(text)):
        return Unreadable("redirect")
    if model not in (None, "wikitext"):
        return Unreadable("not an article")
    if not text:
        return Unreadable("empty page")
    if page.title.endswith("(disambiguation)") or DISAMBIGUATION.search(text):
        return Unreadable("disambiguation page")
    url = f"{base}/{quote(page.title.replace(' ', '_'))}"
    return {"id": str(page.id), "title": page.title, "url": url, "text": text, "wikitext": True}


def plain(wikitext: str) -> str:
    """The prose of an article: paragraphs with a blank line between.

    "" where the parser fails, and where it would take minutes (no prose either: thousands of tags or open brackets).
    """
    text = writable(wikitext[:LONGEST])
    unclosed = max(text.count(start) - text.count(end) for start, end in PAIRS)
    if unclosed > MOST_OPEN or len(MARKS.findall(text)) > MOST_MARKS:
        return ""
    try:
        # style tags off: quotes of bold and italics are easier taken from the text than matched
        return _tidy(_prose(mwparserfromhell.parse(text, skip_style_tags=True)))
    except (mwparserfromhell.parser.ParserError, RecursionError, ValueError, OverflowError):
        return ""


def _prose(code) -> str:
    """Text of the nodes, without headings and without the sections that hold no prose."""
    pieces, skipped = [], 0  # level of the heading whose section is skipped, 0 for none
    for node in code.nodes:
        if isinstance(node, nodes.Heading):
            if not skipped or node.level <= skipped:
                title = _words(node.title).strip().strip("'").casefold()
                skipped = node.level if title in END_OF_PROSE else 0
            pieces.append("\n\n")
        elif not skipped:
            pieces.append(_text(node))
    return "".join(pieces)


def _words(code) -> str:
    """Text of a piece of wikitext inside another one."""
    return "".join(map(_text, code.nodes)) if code is not None else ""


def _text(node) -> str:
    """What a reader of the page sees of one node, as far as it is prose."""
    if isinstance(node, nodes.Text):
        return node.value
    if isinstance(node, nodes.HTMLEntity):
        return writable(node.normalize())
    if isinstance(node, nodes.Wikilink):
        return _link(node)
    if isinstance(node, nodes.ExternalLink):
        return _words(node.title)
    if isinstance(node, nodes.Template):
        return _template(node)
    if isinstance(node, nodes.Tag):
        tag = str(node.tag).strip().casefold()
        if tag in LISTED and node.wiki_markup:
            return LISTED[tag]
        return " " if tag == "br" else "" if tag in NO_PROSE else _words(node.contents)
    return ""  # comments, arguments, stray headings


def _link(node) -> str:
    title = str(node.title).strip()
    if NO_LINK.match(title) or (OTHER_LANGUAGE.match(title) and node.text is None):
        return ""
    return _words(node.text) if node.text is not None else title.lstrip(":")


def _template(node) -> str:
    name = _words(node.name).strip().replace("_", " ").casefold()
    if name.startswith("formatnum:"):
        return name.removeprefix("formatnum:")
    if name in SIGNS:
        return SIGNS[name]
    places = (1,) if name.startswith("lang-") else PROSE.get(name, ())
    words = [_words(argument.value).strip() for argument in node.params if places and not argument.showkey]
    if name in ("convert", "cvt") and len(words) > 3 and words[1] in BETWEEN:
        places = (1, 2, 3, 4)
    return " ".join(words[place - 1] for place in places if place <= len(words))


def _tidy(text: str) -> str:
    """Paragraphs of prose without the remains of what was taken out."""
    text = re.sub(r"'{2,}|__[A-Z]{3,20}__|</?[a-zA-Z][^<>]{0,200}>", "", text.replace("\xa0", " "))
    text = re.sub(r"^[ \t]*([*#:;|!]|\{\||-{4}).*$", "", text, flags=re.MULTILINE)  # lists, remains of tables
    text = re.sub(r"\[\[|\]\]|\{\{|\}\}|\{\||\|\}", "", text)
    paragraphs = []
    for paragraph in re.split(r"\n[ \t]*\n\s*", text):
        line = " ".join(paragraph.split())
        for _ in range(4):  # parentheses in parentheses empty one after another
            line = re.sub(r"([;,:])( ?[;,:])+", r"\1", line)
            line = re.sub(r"\( ?([;,:]|[–-](?= )) ?", "(", line)
            line = re.sub(r" ?[;,:] ?\)", ")", line)
            line = re.sub(r" ?\( ?\)", "", line)
        line = re.sub(r" ([,.;:!?])(?= |$)", r"\1", line.replace("( ", "(").replace(" )", ")"))
        if any(c.isalnum() for c in line):
            paragraphs.append(" ".join(line.split()))
    return "\n\n".join(paragraphs)
