"""Cleaning settles in time and leaves prose alone; each rule has its limit and its reason; steps in any order."""

import gzip
import json
import time
import typing

import pytest
from conftest import OTHER
from hypothesis import example, given
from hypothesis import strategies as st
from source_files import ROWS, SIMPLE, changed

from s2utils.data import filters
from s2utils.data.parameters import RecordStep
from s2utils.workflow import params

RULES = params.load("cpu").s2
HARD = "Notwithstanding methodological heterogeneity, epidemiological investigations demonstrate associations. " * 3
GRADE = (
    "So we go to the sea and then to the hill and then to the town and then to the wood and then back to the sea and "
    * 2
)
GERMAN = "Die Sonne ist heiß und groß. Sie gibt uns am Tag Licht, und in der Nacht sehen wir den Mond."


def record(**changes) -> dict:
    """A record that passes."""
    facts = {"dataset": "d", "id": "1", "post": "1", "question": "Why is it hot?", "body": "", "answer": SIMPLE}
    return facts | {"score": 5, "group": ""} | changes


def with_steps(kind: str, *names: str, **changes):
    return changed(RULES, steps=RULES.steps | {kind: list(names)}, **changes)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("**Bold** and *slanted* and ***both***, ~~gone~~ and `code`.", "Bold and slanted and both, gone and code."),
        ("# Title\n\nText.", "Title\n\nText."),
        ("* one\n* two", "one two"),
        ("See [the page](https://a.b/c) now.", "See the page now."),
        ("See _url_0_ and https://a.b/c?d=e and www.x.org now.", "See and and now."),
        ("See [the reflex]( URL_0 ) and URL_1, _URL_2_ or _url_3_.", "See the reflex and , or ."),
        ("See [Foo](https://en.wikipedia.org/wiki/Foo_(bar)).", "See Foo."),
        ("&gt; quoted\n\nMine.", "Mine."),
        ("> quoted\nMine &amp; yours &lt;3", "Mine & yours <3"),
        ("&amp;gt; quoted twice over\n\nMine.", "Mine."),
        ("a\r\nb\r\n\r\n\r\nc", "a b\n\nc"),
        ("  a \t b\u00a0c\u200b\x00\ufeff ", "a b c"),
        ("2 * 3 * 4 and x > y and a_b_c", "2 * 3 * 4 and x > y and a_b_c"),
        ("- - # x", "x"),
        (">!The sun is a star.!< It is hot.", "The sun is a star. It is hot."),
        ("It was &gt;!the butler!&lt;.\n\n>!Nobody\nknew.!<", "It was the butler.\n\nNobody knew."),
        (">!The end was never written.", "The end was never written."),
        ("  >!one >!two!< three!<\n> quoted", "one two three"),
        ("Read it at https://example.com/page. The sun is hot.", "Read it at . The sun is hot."),
        ("Have you seen www.example.com/a? I have (https://a.b/c_(d)), twice!", "Have you seen ? I have (), twice!"),
        ("See https://en.wikipedia.org/wiki/Foo_(bar).", "See ."),
        ('It says "http://a.b/c.d".', 'It says "".'),
        ("W\\*A\\*L\\*T saw 2\\*3 and snake\\_case, 1\\. first", "W*A*L*T saw 2*3 and snake_case, 1. first"),
        ("\\> 5 people came, so 6 > 5 and 7 \\> 6", "5 people came, so 6 > 5 and 7 > 6"),
        ("A *slanted\nword*, *a*social; a footnote\\* (5%\\*5%).", "A slanted word, asocial; a footnote* (5%*5%)."),
        ("f(x)*a*b, *See below.", "f(x)*a*b, *See below."),
        ("C:\\Users and \\alpha", "C:\\Users and \\alpha"),
        ('[the page](https://a.b/c "A title")', "the page"),
        ("[the page](https://a.b/c_(d) 'A (good) title') and [it]( URL_0 \"so\" )", "the page and it"),
        ("[Foo](https://en.wikipedia.org/wiki/Foo_\\(bar\\))", "Foo"),
        ("", ""),
        (" \n \n", ""),
    ],
)
def test_clean(text, wanted):
    assert filters.clean(text) == wanted


MARKS = (
    r"""* ** _ __ ~~ ` # > &gt; &amp; &#38; &lt amp; [ ]( ) http:// www. _url_1_ >! !< \ \* \> \_ " 'a' www.a. """
    "http://a.b). ? a word . ü"
).split()
marks = st.sampled_from([*MARKS, "- ", "+ ", " 'a'", *"\n \t\r\x00\u200b\u2028\xa0\ud800", "\n\n"])
texts = st.one_of(st.text(), st.lists(marks, max_size=20).map("".join))


@given(texts)
@example("&amp;amp;gt; deep")
@example("[[a](b)](c)")
@example("_url__url_1_1_ left")
@example("*&#42;a")
@example("\\\\\\*a\\\\*")
@example(">!a >!b!<\n>!c!< d!<")
@example("\\&gt; a")
@example("(http://http://a.).)")
def test_cleaning_twice_is_cleaning_once(text):
    once = filters.clean(text)
    assert filters.clean(once) == once
    assert once == once.strip() and "\r" not in once and "\x00" not in once and "  " not in once
    once.encode("utf-8")


@given(texts, st.permutations([*filters.TEXT_STEPS]))
def test_cleaning_in_any_order_settles(text, names):
    once = filters.clean(text, tuple(names))
    assert filters.clean(once, tuple(names)) == once


PROSE = (
    "The sun|rain,|is|a star.|Why?|“So it is,”|she said:|(or not)|2 * 3 = 6|5 > 3 < 4|W*A*L*T|f*ck|don't|e.g.|50%;|"
    "and/or|a_b|x-y|naïve|[sic]|C:\\Temp|#1|…|~5|Wow!<3|\n\n"
).split("|")


@given(st.lists(st.sampled_from(PROSE), max_size=20))
def test_plain_prose_is_left_as_it_is(pieces):
    text = " ".join(pieces).lstrip("# ").replace(" \n\n ", "\n\n").strip()
    wanted = filters.squeeze(text)
    assert filters.clean(text) == wanted and wanted.split() == text.split()


UNITS = [
    "A word, and more. ", "*", "&amp;amp;amp;", "[a](", "[", "> ", "\n", " \n", "- ", "_url_1_", "http://", ">!", "!<",
    ">!a!<", "\\", "\\*", "https://a.", "https://a)", "http://(a", '[a](b "', "[a](b 'c' ", "www.",
]  # fmt: skip
ENDLESS = [("http://", "."), ("http://", ")"), ("http://", "("), (">!", "a"), ('[a](b "', "a")]


@pytest.mark.parametrize(("start", "unit"), [*(("", unit) for unit in UNITS), *ENDLESS])
def test_a_million_characters_are_cleaned_in_seconds(start, unit):
    started = time.process_time()
    filters.clean(start + unit * (1_000_000 // len(unit)))
    assert time.process_time() - started < 10


@pytest.mark.parametrize("bomb", ["&" + "amp;" * 5000 + "gt; a", "[" * 5000 + "a" + "](b)" * 5000])
def test_marks_nested_without_end_come_back_empty_and_fast(bomb):
    started = time.process_time()
    assert filters.clean(bomb) == ""
    assert time.process_time() - started < 5


def test_leading_paragraphs_are_whole_and_enough():
    text = "one two three\n\nfour five\n\nsix"
    assert filters.leading_paragraphs(text, 1) == filters.leading_paragraphs(text, 3) == "one two three"
    assert filters.leading_paragraphs(text, 4) == "one two three\n\nfour five"
    assert filters.leading_paragraphs(text, 99) == text


@pytest.mark.parametrize(
    ("title", "body", "asks"),
    [
        ("Why is it so?", "", True),
        ("ELI5: the moon", "", True),
        ("explain rain", "", True),
        ("Monthly payments: how do they work?", "", True),
        ("[ELI5] What is rain", "", True),
        ("Can dogs see", "", True),
        ("The moon", "Where does it go by day?", True),
        ("The moon", "I like it.", False),
        ("META: is this allowed?", "", False),
        ("Open thread: ask here", "", False),
        ("[Mod post] why we closed", "", False),
        ("Weekly question?", "", False),
        ("Thanks all", "", False),
    ],
)
def test_a_question_asks_and_meta_posts_do_not(title, body, asks):
    assert filters.is_question(title, body) == asks


REASONS = [
    ("qa", {"answer": " ** "}, "empty answer"),
    ("qa", {"answer": "Too short."}, "under 20 words"),
    ("articles", {"answer": SIMPLE * 25}, "over 500 words"),
    ("articles", {"answer": SIMPLE + " {| a table |}"}, "markup left"),
    ("articles", {"answer": SIMPLE + " [[a link]]"}, "markup left"),
    ("qa", {"question": " "}, "empty question"),
    ("posts", {"question": "META: the rules?"}, "no question"),
    ("posts", {"question": "Good day", "body": "I like rain."}, "no question"),
    ("qa", {"answer": HARD}, "reading ease under 60"),
    ("qa", {"answer": GRADE}, "grade 9 or above"),
    ("posts", {"score": 3}, ""),  # votes count for fine-tuning only, later
    ("qa", {"score": None}, ""),
    ("articles", {"question": "", "score": None}, ""),
    *[(kind, {"answer": f"{text} " * 9}, "not in language en") for kind in ("qa", "posts") for text in OTHER.values()],
    ("articles", {"answer": OTHER["Russian"] * 9}, "not in language en"),
    ("qa", {"answer": GERMAN * 2}, "not in language en"),
]


@pytest.mark.parametrize(("kind", "changes", "reason"), REASONS)
def test_each_reason_is_reached_and_nothing_else_is(kind, changes, reason):
    frame = filters.measure([record(**changes)], kind, RULES)
    assert frame["dropped"].tolist() == [reason]


def test_the_limits_are_the_studys():
    """Reading ease 60 stays, grade 9 goes."""
    assert filters.reading_ease({"fre": 60.0}, "qa", RULES) == filters.grade({"fkg": 8.9}, "qa", RULES) == ""
    assert filters.reading_ease({"fre": 59.99}, "qa", RULES) == "reading ease under 60"
    assert filters.grade({"fkg": 9.0}, "qa", RULES) == "grade 9 or above"
    for profile in params.profiles():
        rules = params.load(profile).s2
        assert (rules.fre_min, rules.fkg_max, rules.score_min, rules.toxicity_max) == (60, 9, 4, 0.1)


@pytest.mark.parametrize("text", [OTHER["Korean"], OTHER["Russian"]])
def test_without_a_check_of_the_language_other_letters_are_not_measured(text):
    for names, reason in ((["reading_ease", "grade"], "reading ease"), (["grade"], "grade")):
        row = filters.apply(record(answer=text), "qa", with_steps("qa", *names))
        assert row["dropped"] == f"{reason} not defined (not in Latin letters)" and row["n_words"] > 3


@pytest.mark.parametrize("profile", params.profiles())
def test_the_language_is_checked_wherever_the_limits_are_english(profile):
    s2 = params.load(profile).s2
    assert s2.language == "en" and all("language" in names for names in s2.steps.values())


def test_the_parameters_know_every_step():
    assert typing.get_args(RecordStep) == filters.STEPS


def test_the_order_decides_the_reason_and_a_step_left_out_is_off():
    short = record(answer="Notwithstanding heterogeneity.")
    first = filters.apply(short, "qa", with_steps("qa", "min_words", "reading_ease"))
    second = filters.apply(short, "qa", with_steps("qa", "reading_ease", "min_words"))
    neither = filters.apply(record(answer="*Short* &amp; hot."), "qa", with_steps("qa"))
    assert (first["dropped"], second["dropped"]) == ("under 20 words", "reading ease under 60")
    assert (neither["dropped"], neither["answer"], neither["n_words"]) == ("", "*Short* &amp; hot.", 3)


def test_a_text_step_after_a_rule_is_measured_again():
    row = filters.apply(
        record(answer=SIMPLE + " https://a.b/c"), "qa", with_steps("qa", "min_words", "drop_urls", "squeeze")
    )
    assert row["n_words"] == len(SIMPLE.split())


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Mail me at a.b+c@mail.example.org now", "Mail me at [e-mail] now"),
        ("Call +49 30 1234567 or (555) 123-4567 or 555-123-4567.", "Call [phone] or [phone] or [phone]."),
        ("As u/some_body and /u/other-1 and @handle said", "As [user] and [user] and [user] said"),
        (
            "In 2019 we saw 10 000 000 birds, 3.14159265 and 1990-2000.",
            "In 2019 we saw 10 000 000 birds, 3.14159265 and 1990-2000.",
        ),
        ("and/or menu/ordering", "and/or menu/ordering"),
    ],
)
def test_personal_details_are_masked(text, wanted):
    assert filters.mask_personal(text) == wanted
    assert filters.mask_personal(wanted) == wanted


def test_an_article_is_cut_at_a_paragraph_before_it_is_measured():
    rules = changed(RULES, paragraph_words=20)
    row = filters.measure([record(answer=f"{SIMPLE}\n\n{HARD}", score=None)], "articles", rules).iloc[0]
    assert (row["answer"], row["dropped"]) == (SIMPLE, "")


answers = st.one_of(
    st.text(max_size=40), texts, st.sampled_from([SIMPLE, SIMPLE + " Yes.", HARD, "Short.", "> all quoted"])
)
orders = st.lists(st.sampled_from([s for s in filters.STEPS if s != "language"]), max_size=8)


@given(answer=answers, question=texts, kind=st.sampled_from([*ROWS]), names=orders)
def test_any_order_of_steps_on_any_text_gives_a_record(answer, question, kind, names):
    row = filters.apply(record(answer=answer, question=question), kind, with_steps(kind, *names))
    assert set(row) == {*record(), "n_words", "fre", "fkg", "dropped"} - {"body"}
    assert (row["n_words"] == 0) == (row["dropped"] == "empty answer")


def test_most_real_answers_of_the_sample_are_simple(tree, sample):
    """59 % of the answers with 20 words or more pass both limits."""
    posts = json.loads(gzip.decompress(sample("samples/eli5_category_validation.json.gz").read_bytes()))
    rows = [
        record(question=p["title"], body=p["selftext"], answer=a) for p in posts[:300] for a in p["answers"]["text"]
    ]
    frame = filters.measure(rows, "posts", RULES)
    long = frame[~frame["dropped"].isin(["empty answer", "under 20 words", "no question"])]
    assert (long["dropped"] == "").mean() == pytest.approx(0.59, abs=0.04)
