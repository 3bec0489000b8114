import pandas as pd
import pytest

from s2utils.data import corpus_card
from s2utils.workflow.errors import UserError

THINGS = "weather island harbour market garden winter kitchen library mountain village river castle".split()
ENGLISH = "He said that it was good on the {0}, and she wrote to someone@example.org about the {1} of the {2}: {3}."
GERMAN = "Die Sonne ist heiß und groß. Sie gibt uns am Tag Licht, und in der Nacht sehen wir den Mond."
INSULT = "You are a stupid idiot and everyone in the whole town hates you."


def english(n: int) -> list[str]:
    return [ENGLISH.format(*(THINGS[i * step % len(THINGS)] for step in (1, 5, 7)), i) for i in range(n)]


def documents(n: int) -> pd.DataFrame:
    domains = ["a" if i % 3 else "b" for i in range(n)]
    return pd.DataFrame({"component": domains, "domain": domains, "id": [f"d{i}" for i in range(n)]}, index=[7] * n)


def test_every_table_is_there_and_agrees_on_the_documents(capsys):
    texts = english(57) + [GERMAN, INSULT, ""]
    frame = corpus_card.measured(texts, documents(60), "profanity-check")
    assert frame["language"].value_counts().to_dict() == {"en": 58, "de": 1, "unknown": 1}
    made = corpus_card.tables(texts, frame, near_duplicate=1.0, topics=2, show=["a", "b"], seed=0)
    names = "lengths languages pronouns demographics content duplicates cooccurrence sentiment samples topics"
    assert set(made) == {f"corpus_{name}" for name in [*names.split(), "topic_perplexity"]}
    assert not capsys.readouterr().out
    assert (made["corpus_languages"]["n"] == 60).all() and (made["corpus_pronouns"]["n_failed"] == 2).all()
    assert made["corpus_samples"]["text"].str.contains("[e-mail]", regex=False).all()
    assert not made["corpus_samples"]["text"].str.contains("stupid").any()


def test_a_corpus_too_small_for_topics_has_all_other_tables(capsys):
    texts = english(3)
    frame = corpus_card.measured(texts, documents(3), "profanity-check")
    made = corpus_card.tables(texts, frame, near_duplicate=0.8, topics=2, show=[], seed=0)
    assert len(made) == 9 and "no domain has 10 English documents" in capsys.readouterr().out
    assert made["corpus_samples"].empty


def test_texts_without_a_row_of_their_own_are_refused():
    with pytest.raises(UserError, match="2 texts for 1 rows of documents"):
        corpus_card.measured(["a", "b"], documents(1), "profanity-check")
