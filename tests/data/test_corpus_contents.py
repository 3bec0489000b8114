import gzip
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.data import corpus_contents
from s2utils.data.corpus_contents import ALL
from s2utils.stats import intervals
from s2utils.text import pii
from s2utils.workflow.errors import UserError

INSULT = "You are a stupid idiot and everyone hates you."
NEUTRAL = "The cat sat on the mat because it was warm."
words = st.lists(
    st.sampled_from("she he they I you it cat gay jews african american x@example.org".split()), max_size=9
)


def documents(*domains: str, **columns) -> pd.DataFrame:
    """A frame with one row a text."""
    frame = {"component": domains, "domain": domains, "id": [f"d{i}" for i in range(len(domains))]}
    return pd.DataFrame(frame | columns)


def row(table: pd.DataFrame, *key: str) -> pd.Series:
    """The row whose first columns are `key`."""
    found = table[(table[list(table)[: len(key)]] == list(key)).all(axis=1)]
    assert len(found) == 1
    return found.iloc[0]


def test_a_text_is_measured_in_every_unit(llama2):
    table = corpus_contents.measure(["Käse  ist\ngut.", "", "</s>"], llama2, batch=2)
    assert table[["characters", "bytes", "words"]].to_numpy().tolist() == [[14, 15, 3], [0, 0, 0], [4, 4, 1]]
    assert table["tokens"].tolist()[1] == 0 and table["tokens"].tolist()[2] > 1  # as characters, not as the end
    broken = corpus_contents.measure(["a\ud800", "a?"], llama2)
    assert broken.iloc[0].tolist() == broken.iloc[1].tolist()  # half a surrogate pair is no character of UTF-8
    assert list(corpus_contents.measure(iter(["a"]))) == ["characters", "bytes", "words"]
    assert corpus_contents.measure([]).empty


def test_lengths_by_domain_and_of_all():
    frame = documents("a", "b", "a", characters=[1, 100, 3], words=[1, 20, 1])
    table = corpus_contents.lengths(frame, seed=0)
    assert table[["domain", "unit", "n", "mean", "q50", "max"]].to_numpy().tolist() == [
        ["a", "characters", 2, 2, 2, 3], ["a", "words", 2, 1, 1, 1], ["b", "characters", 1, 100, 100, 100],
        ["b", "words", 1, 20, 20, 20], [ALL, "characters", 3, 104 / 3, 3, 100], [ALL, "words", 3, 22 / 3, 1, 20],
    ]  # fmt: skip
    assert (table["mean_ci_low"].dropna() <= table["mean"].drop(index=[2, 3])).all()


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (documents("a")[:0], "holds no document"),
        (documents("a", ""), "document d1 has no domain"),
        (documents("a", None), "document d1 has no domain"),
        (documents("all"), "a domain is called 'all'"),
    ],
)
def test_a_corpus_without_documents_or_domains_is_refused(frame, message):
    with pytest.raises(UserError, match=message):
        corpus_contents.lengths(frame.assign(words=1), seed=0)


def test_languages_beside_the_published_ones():
    published = pd.DataFrame({"language": ["en", "sv"], "percent": [89.7, 0.15]})
    table = corpus_contents.languages(["en", "de", "en", "unknown"], published)
    assert table["language"].tolist() == ["en", "de", "unknown", "sv"] and (table["n"] == 4).all()
    assert table["n_hits"].tolist() == [2, 1, 1, 0] and table["share"].sum() == 1
    assert (
        table["share_published"].tolist()[::3] == [0.897, 0.0015]
        and table["share_published"].isna().tolist()[1:3] == [True] * 2
    )
    assert row(table, "sv")["share_ci_high"] > 0.3  # four documents cannot say that there is none


def test_pronouns_nest_as_published():
    texts = ["She saw him.", "They went.", "I am here with you.", "Rain fell.", "Der Hund schlief, i.e. nicht."]
    printed = [("gender pronouns", "she", 28.45), ("grammatical person", "1st", 70.71)]
    published = pd.DataFrame(printed, columns=["axis", "entry", "percent"])
    table = corpus_contents.pronouns(texts, published, only=[True] * 4 + [False]).set_index("group")
    gender, person = (table[table["axis"] == axis] for axis in ("gender pronouns", "grammatical person"))
    assert gender[["n", "n_hits"]].to_numpy().tolist() == [[4, 2], [2, 1], [2, 1], [2, 1]]
    assert person[["n", "n_hits"]].to_numpy().tolist() == [[4, 3], [3, 1], [3, 1], [3, 2]]
    assert gender.index.tolist() == ["any", "she", "he", "unspecified"] and (table["n_failed"] == 1).all()
    assert table.loc["she", "share_published"] == 0.2845 and table.loc["1st person", "share_published"] == 0.7071
    assert math.isnan(table.loc["he", "share_published"])


@given(st.lists(words.map(" ".join), max_size=8))
def test_a_part_is_never_more_than_its_whole(texts):
    table = corpus_contents.pronouns(texts).set_index(["axis", "group"])
    for axis, part in table.groupby(level=0):
        whole = part.loc[(axis, "any"), "n_hits"]
        rest = part.drop(index=(axis, "any"))
        assert (rest["n"] == whole).all() and rest["n_hits"].max() <= whole <= rest["n_hits"].sum() <= 3 * whole
        assert part.loc[(axis, "any"), "n"] == len(texts)
    shares = table["share"].dropna()
    assert shares.between(0, 1).all() and (table["share"].isna() == (table["n"] == 0)).all()


def test_descriptors_and_the_first_five_of_an_axis():
    texts = ["a gay man", "two gay men and a lesbian", "an African American", "nobody"]
    published = pd.DataFrame(
        [("sexual orientation", 6.67, "gay", 14.8)],
        columns=["axis", "axis_percent_of_documents", "descriptor", "percent_of_axis_documents"],
    )
    table = corpus_contents.demographics(texts, published, top=2)
    orientation = table[table["axis"] == "sexual orientation"]
    assert orientation["descriptor"].tolist() == ["any", "gay", "lesbian"]
    assert orientation[["n", "n_hits"]].to_numpy().tolist() == [[4, 2], [2, 2], [2, 1]]
    assert orientation["share_published"].tolist()[:2] == pytest.approx([0.0667, 0.148])
    assert table[table["axis"] == "religion"][["descriptor", "share"]].to_numpy().tolist() == [["any", 0.0]]
    ethnicity = table[table["axis"] == "race and ethnicity"]["descriptor"].tolist()
    assert ethnicity == ["any", "african", "african american"]  # both words of what is named are said


TEXTS = [f"{NEUTRAL} {INSULT}", NEUTRAL, "x@example.org " * 6, "Call 555-123-4567.", "   "]


def test_toxicity_and_details_are_counted_a_text_and_the_batch_does_not_matter():
    table = corpus_contents.content(TEXTS, "profanity-check", batch=2)
    assert table.equals(corpus_contents.content(iter(TEXTS), "profanity-check", batch=100))
    assert table["sentences"].tolist() == [2, 1, 1, 1, 0] and table["toxic_sentences"].tolist() == [1, 0, 0, 0, 0]
    assert table["e-mail"].tolist() == [0, 0, 6, 0, 0] and table["phone"].tolist() == [0, 0, 0, 1, 0]
    assert list(corpus_contents.content([], "profanity-check")) == list(table)


def test_shares_of_content_by_domain():
    frame = documents(*"aabbb").join(corpus_contents.content(TEXTS, "profanity-check"))
    table = corpus_contents.content_shares(frame, seed=0)
    assert set(table["domain"]) == {"a", "b", ALL} and not table.duplicated(["domain", "kind"]).any()
    assert row(table, "a", "toxic sentence")[["n", "n_hits", "share"]].tolist() == [3, 1, 1 / 3]
    assert row(table, "b", "e-mail")[["n", "n_hits"]].tolist() == [3, 1]
    assert row(table, "b", "any detail")["n_hits"] == 2 and row(table, "b", "more than 5")["n_hits"] == 1
    assert row(table, "b", "e-mail")[["share", "share_ci_low", "share_ci_high"]].tolist() == list(
        intervals.share(1, 3, 0.95)
    )
    counted = table[table["kind"].isin(["toxic document", *pii.COUNTED])].groupby("domain")
    assert counted["n"].max().to_dict() == {"a": 2, "b": 3, ALL: 5}


LINE = "one two three four five six seven eight nine ten eleven twelve thirteen"


def test_what_stood_before_is_a_duplicate_wherever_it_stood():
    texts = [f"{LINE}\nshort\n{LINE} more", f" {LINE}\nshort\n{LINE} more\n", f"short\n{LINE}", f"{LINE} else", "short"]
    table = corpus_contents.duplicates(texts, documents(*"aabbb"), jaccard=0.6, seed=0)
    assert row(table, "a", "document")[["n", "n_hits"]].tolist() == [2, 1]
    assert row(table, "a", "paragraph")[["n", "n_hits"]].tolist() == [4, 2]
    assert row(table, "b", "paragraph")[["n", "n_hits"]].tolist() == [2, 1]  # "short" is too short to say anything
    assert row(table, "b", "document")["n_hits"] == 0 < row(table, "b", "near document")["n_hits"]
    for kind in ("document", "near document", "paragraph"):
        parts = [row(table, domain, kind)["n_hits"] for domain in "ab"]
        assert row(table, ALL, kind)["n_hits"] == sum(parts)


@given(st.lists(st.sampled_from([NEUTRAL, INSULT, f"{LINE}\n{LINE}", "", "a"]), min_size=1, max_size=9))
def test_all_but_the_first_of_each_text_are_duplicates_and_near_ones(texts):
    table = corpus_contents.duplicates(texts, documents(*["a"] * len(texts)), jaccard=0.8, seed=0)
    repeated = len(texts) - len(set(texts))
    assert row(table, "a", "document")["n_hits"] == repeated <= row(table, "a", "near document")["n_hits"]


def test_samples_are_masked_shown_only_where_they_may_be_and_seeded():
    texts = [f"Text {i} of a@example.org, \x1b[31m{'word ' * i}" for i in range(30)] + ["", " \n"]
    frame = documents(*["a"] * 10, *["b"] * 10, *["hidden"] * 10, "a", "a")
    toxic = np.arange(32) < 8
    table = corpus_contents.samples(texts, frame, {"a", "b"}, toxic, seed=1, n=3, characters=60)
    assert table.groupby("domain").size().to_dict() == {"a": 2, "b": 3}
    assert set(table.loc[table["domain"] == "a", "id"]) == {"d8", "d9"}
    assert all("[e-mail]" in text and "␛[31m" in text and "@" not in text for text in table["text"])
    assert table.equals(corpus_contents.samples(texts, frame, {"a", "b"}, toxic, seed=1, n=3, characters=60))
    drawn = {corpus_contents.samples(texts, frame, {"b"}, toxic, seed=s)["id"].str.cat() for s in range(5)}
    assert len(drawn) > 1
    assert corpus_contents.samples(texts, frame, set(), toxic, seed=1).empty


@given(st.text(st.sampled_from("ab@.org 5-1\n"), max_size=300), st.integers(1, 40))
def test_a_beginning_is_one_short_line_without_half_a_detail(text, characters):
    line = corpus_contents.beginning(text, characters)
    assert len(line) <= characters + 2 and "\n" not in line
    assert pii.mask(line.removesuffix(" …")) == line.removesuffix(" …")


def test_a_beginning_ends_with_a_whole_word():
    assert corpus_contents.beginning("The cat sat on the mat.", 12) == "The cat sat …"
    assert corpus_contents.beginning("The cat sat on the mat.", 10) == "The cat …"
    assert corpus_contents.beginning(" Short. ", 12) == "Short."
    assert corpus_contents.beginning("write to someone@example.org now", 14) == "write to …"


def test_real_answers_hold_pronouns_as_often_as_people_write_them(sample):
    posts = json.loads(gzip.decompress(sample("samples/eli5_category_validation.json.gz").read_bytes()))
    texts = [text for post in posts for text in post["answers"]["text"]][:1000]
    table = corpus_contents.pronouns(texts)
    assert row(table, "grammatical person", "any")["share"] > 0.9
    assert row(table, "grammatical person", "2nd person")["share"] > row(table, "gender pronouns", "she")["share"]
