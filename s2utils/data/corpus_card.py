"""Everything that is told of a corpus, without a model: its tables of contents, topics and co-occurrence by name.

What 09 shows step by step, in one call for a corpus that somebody brings. Pronouns, descriptors, topics and
co-occurrence are of the documents told to be English; the rest is of all. Trap: the texts are held at once, for near
copies are looked for among all of them, so give a sample of a corpus that does not fit into memory.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pandas as pd

from s2utils.data import cooccurrence, corpus_contents, corpus_mix, corpus_topics
from s2utils.text import language
from s2utils.workflow.errors import UserError

ABOUT = {  # in the order of the page: name → title, unit of averaging, caption
    "corpus_lengths": ("Lengths of documents", "document", "Means with interval, quantiles, and the longest."),
    "corpus_languages": ("Languages of the corpus", "document", "Told by lid.176, under 0.5 “unknown”."),
    "corpus_pronouns": ("Pronouns and persons", "document", "English documents; shares nest. Published: Llama 2."),
    "corpus_demographics": ("Descriptors of people", "document", "English documents. Published: Llama 2."),
    "corpus_content": ("Toxicity and personal details", "document or sentence", "Details are forms, not names."),
    "corpus_duplicates": ("Copies in the corpus", "document or paragraph", "What stood earlier, exactly or nearly."),
    "corpus_topics": ("Topics", "document", "English documents, online LDA by domain."),
    "corpus_topic_perplexity": ("One domain's topics on another", "document", "Higher: explained worse."),
    "corpus_cooccurrence": ("Words beside words for people", "sentence", "English documents; The Pile's score."),
    "corpus_sentiment": ("Sentiment of neighbours", "word", "English documents; VADER's lexicon."),
    "corpus_samples": ("Samples", "document", "Two beginnings a domain, details masked; none told to be toxic."),
}  # fmt: skip


def about(name: str, profile: str) -> dict[str, str]:
    """Title, unit and caption of one of `tables`, as `Run.save_table` takes them."""
    title, unit, caption = ABOUT[name]
    return {"title": title, "unit": unit, "caption": f"Profile {profile}. {caption}"}


def measured(texts: Sequence[str], documents: pd.DataFrame, toxicity_model: str, tokenizer=None) -> pd.DataFrame:
    """`documents` (component, domain, id; one row a text) with what is measured of each text alone.

    Columns: characters, bytes, words, tokens (with a tokenizer), language, probability, toxicity, sentences,
    toxic_sentences, and a count a kind of personal detail. Raises UserError where they are not as many.
    """
    if len(texts) != len(documents):
        raise UserError(f"{len(texts)} texts for {len(documents)} rows of documents: give one row a text")
    told = pd.DataFrame(language.detect(texts), columns=["language", "probability"])
    parts = [corpus_contents.measure(texts, tokenizer), told, corpus_contents.content(texts, toxicity_model)]
    return pd.concat([documents.reset_index(drop=True), *parts], axis=1)


def published() -> dict[str, pd.DataFrame]:
    """Llama 2's tables that ours stand beside, by the name that `tables` knows them by."""
    names = ("languages", "pronouns", "demographics")
    return {name: corpus_mix.published_numbers("llama2", name) for name in names}


def tables(
    texts: Sequence[str],
    documents: pd.DataFrame,
    near_duplicate: float,
    topics: int,
    show: Collection[str],
    seed: int,
    printed: dict[str, pd.DataFrame] | None = None,
) -> dict[str, pd.DataFrame]:
    """Name → table, of a frame that `measured` gives.

    `near_duplicate`: Jaccard similarity; `topics`: a domain's; `show`: components whose samples may be seen;
    `printed`: tables to stand beside ours, as `published` gives them. Where no domain has enough English
    documents, the two tables of topics are left out and a line says so.
    """
    printed, english = printed or {}, (documents["language"] == "en").to_numpy()
    toxic = (documents["toxicity"] >= corpus_contents.TOXIC) | (documents["toxic_sentences"] > 0)
    leaning, sentiment = cooccurrence.cooccurrence(texts, seed, english)
    made = {
        "corpus_lengths": corpus_contents.lengths(documents, seed),
        "corpus_languages": corpus_contents.languages(documents["language"].tolist(), printed.get("languages")),
        "corpus_pronouns": corpus_contents.pronouns(texts, printed.get("pronouns"), english),
        "corpus_demographics": corpus_contents.demographics(texts, printed.get("demographics"), english),
        "corpus_content": corpus_contents.content_shares(documents, seed),
        "corpus_duplicates": corpus_contents.duplicates(texts, documents, near_duplicate, seed),
        "corpus_cooccurrence": leaning,
        "corpus_sentiment": sentiment,
        "corpus_samples": corpus_contents.samples(texts, documents, show, toxic, seed),
    }
    try:
        named = ("corpus_topics", "corpus_topic_perplexity")
        made |= zip(named, corpus_topics.topics(texts, documents, topics, seed, english))
    except UserError as error:
        print(error, flush=True)
    return made
