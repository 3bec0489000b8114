"""Wikimedia dumps: articles and the other pages by reason; wikitext becomes prose, in time, whatever it is."""

import bz2
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_files import packed, source

from s2utils.data import sources, wikipedia
from s2utils.data.streams import SourceError, Unreadable

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="en">
  <siteinfo>
    <sitename>Wikipedia</sitename><dbname>simplewiki</dbname>
    <base>https://simple.wikipedia.org/wiki/Main_Page</base><generator>MediaWiki 1.44</generator>
    <case>first-letter</case>
    <namespaces><namespace key="0" case="first-letter" /><namespace key="1">Talk</namespace></namespaces>
  </siteinfo>
"""
PAGES = [
    (1, "April", 0, "", "'''April''' is the 4th [[month]] of the year.\n\n== References ==\n{{reflist}}"),
    (2, "Talk:April", 1, "", "I like April."),
    (3, "Apr", 0, '<redirect title="April" />', "#REDIRECT [[April]]"),
    (4, "April (disambiguation)", 0, "", "'''April''' can mean:\n* [[April]]"),
    (5, "Mercury", 0, "", "'''Mercury''' can mean:\n* a planet\n{{Disambig}}"),
    (6, "John Smith", 0, "", "Men called John Smith.\n{{hndis|Smith, John}}"),
    (7, "Nothing", 0, "", ""),
    (8, "Æ & <b>", 0, "", "A letter &amp; more."),
]


def dump(pages=PAGES, tail="</mediawiki>\n") -> bytes:
    """A dump as Wikimedia writes it."""
    written = [HEAD]
    for number, title, space, redirect, text in pages:
        title, text = (t.replace("&", "&amp;").replace("<", "&lt;") for t in (title, text))
        written.append(
            f"<page><title>{title}</title><ns>{space}</ns><id>{number}</id>{redirect}<revision><id>9{number}</id>"
            f"<parentid>8</parentid><timestamp>2023-11-01T10:00:00Z</timestamp><contributor><username>A</username>"
            f"<id>5</id></contributor><comment>c</comment><origin>9</origin><model>wikitext</model>"
            f'<format>text/x-wiki</format><text bytes="{len(text)}" sha1="abc" xml:space="preserve">{text}</text>'
            "<sha1>abc</sha1></revision></page>\n"
        )
    return "".join([*written, tail]).encode()


@pytest.mark.parametrize("name", ["a.xml", "a.xml.bz2", "a.xml.gz"])
def test_articles_come_with_their_wikitext_and_other_pages_with_a_reason(root, name):
    (root / name).write_bytes(packed(name, dump()))
    first, talk, redirect, *three, empty, odd = wikipedia.pages(root / name)
    assert first == {"id": "1", "title": "April", "url": "https://simple.wikipedia.org/wiki/April",
                     "text": PAGES[0][4], "wikitext": True}  # fmt: skip
    assert [talk, redirect] == [Unreadable("not an article"), Unreadable("redirect")]
    assert three == [Unreadable("disambiguation page")] * 3 and empty == Unreadable("empty page")
    assert (odd["title"], odd["text"]) == ("Æ & <b>", "A letter &amp; more.")
    assert odd["url"] == "https://simple.wikipedia.org/wiki/%C3%86_%26_%3Cb%3E"


def test_records_of_a_dump_hold_prose(root):
    (root / "a.xml.bz2").write_bytes(bz2.compress(dump()))
    records, unreadable = sources.read("wiki", source("a.xml.bz2", "articles"), 0)
    assert [(r["id"], r["answer"]) for r in records] == [
        ("1", "April is the 4th month of the year."),
        ("8", "A letter & more."),
    ]
    assert sum(unreadable.values()) == 6


def test_a_cut_dump_names_the_file_and_the_last_page(root):
    draw = random.Random(0)
    many = [(i, f"Page {i}", 0, "", "".join(draw.choices("abcdefgh ", k=500))) for i in range(1, 4001)]
    whole = bz2.compress(dump(many))
    for share in (0.5, 0.8, 0.999):
        (root / "a.xml.bz2").write_bytes(whole[: int(len(whole) * share)])
        found = []
        message = r"^a.xml.bz2: the file is cut .*line \d+; fetch it again; last page: Page \d+ "
        with pytest.raises(SourceError, match=message) as error:
            found.extend(wikipedia.pages(root / "a.xml.bz2"))
        assert f"last page: {found[-1]['title']} ({len(found)})" in str(error.value)


@pytest.mark.parametrize(
    "data", [b"", b"no xml", b"<html></html>", dump(tail=""), dump()[:-30], dump().replace(b"<ns>0", b"<ns>x")]
)
def test_what_is_not_a_whole_dump_is_named(root, data):
    (root / "a.xml").write_bytes(data)
    with pytest.raises(SourceError, match=r"^a.xml: not a whole Wikimedia dump .* last page: .*fetch it again"):
        list(wikipedia.pages(root / "a.xml"))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("'''Bob''' is ''very'' '''''old'''''.", "Bob is very old."),
        ("A [[cat]] and [[dog|big dogs]] in [[:Category:Pets|homes]].", "A cat and big dogs in homes."),
        ("[[CSI: Miami]] and [[wikt:cat|cat]].\n[[zh-min-nan:X]]", "CSI: Miami and cat."),
        ("See [https://x.org the page] https://y.org now.", "See the page now."),
        ("[[File:a.jpg|thumb|A [[cat]] {{x|[[y]]}}]]Text.[[Category:Pets]][[de:Katze]][[zh-min-nan:X]]", "Text."),
        ("Text<ref>a {{cite|x}} [[b]]</ref> and<ref name=\"a\" /> more<!-- no -->.", "Text and more."),
        ("It is {{convert|5|km|mi}} or {{cvt|5|to|10|kg}} far.", "It is 5 km or 5 to 10 kg far."),
        ("{{nowrap|Two words}}, {{lang|fr|le mot}}, {{Lang-de|Wort}}, {{langx|es|palabra}}.",
         "Two words, le mot, Wort, palabra."),
        ("{{nihongo|Tokyo|東京|Tōkyō}} is a city{{snd}}big.", "Tokyo is a city – big."),
        ("Bob ({{IPA|x}}; {{audio|x}}) ran ({{x}}, 1950 ; ) ((;)) far ( see ).", "Bob ran (1950) far (see)."),
        ("It is cold (-5 °C), ({{x}} – 1950), f() and (a, b).", "It is cold (-5 °C), (1950), f and (a, b)."),
        ("One\nline.\n\nTwo.\n\n\n\nThree.", "One line.\n\nTwo.\n\nThree."),
        ("Text.\n* item\n# item\n:dd\n;dt\n----\nMore.", "Text.\n\nMore."),
        ("Text.\n{| class=x\n! a !! b\n|-\n| c || {{d}}\n|}\nMore.", "Text.\n\nMore."),
        ("Text.\n== Life ==\nMore.\n=== Early ===\nYoung.", "Text.\n\nMore.\n\nYoung."),
        ("Text.\n== References ==\nNo.\n=== Deep ===\nNo.\n== Death ==\nMore.", "Text.\n\nMore."),
        ("Text.\n== ''See also'' ==\n* x\nNo.", "Text."),
        ("H<sub>2</sub>O &amp; <b>x</b>&nbsp;<br />2 < 3 <math>x</math>.", "H2O & x 2 < 3."),
        ("__NOTOC__\nText {{Infobox|a=[[b]]\n|c={{d}}}} here.", "Text here."),
        ("<gallery>\na.jpg|b\n</gallery>\n<poem>Roses.</poem>", "Roses."),
        ("{{unclosed and [[open", "unclosed and open"),
        ("<ref>open and '''bold", "open and bold"),
        ("", ""),
    ],
)  # fmt: skip
def test_wikitext_becomes_prose(written, read):
    assert wikipedia.plain(written) == read


@given(st.text() | st.text(st.sampled_from("{}[]|=<>/'*#:; \n\ud83dé!&refab-_()"), max_size=200))
def test_any_wikitext_gives_text_that_a_file_can_hold(written):
    for wikitext in (written, f"&#{written}; &#xD800; &#99999999999; {{{{lang|{written}}}}}"):
        read = wikipedia.plain(wikitext)
        read.encode("utf-8")
        assert read == read.strip() and "\n\n\n" not in read


@pytest.mark.parametrize("mark", ["{{a|", "<ref name=", "{|\n", "[[a|", "<b>", "((;", "\n*", "'''", ";,"])
def test_hostile_text_does_not_take_minutes(mark):
    start = time.process_time()
    wikipedia.plain(mark * (5_000_000 // len(mark)))
    assert time.process_time() - start < 10
