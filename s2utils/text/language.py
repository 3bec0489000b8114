"""The language of a text, offline: whether it is another than the wanted one (`foreign`), and which it is (`detect`).

`foreign` takes an ISO 639-1 code. py3langid looks at byte n-grams; its model lies in the package as plain arrays (npz,
loaded without pickle), so unlike `toxicity` there is nothing to check before import. Trap: short texts are uncertain.
Of English questions of 10–20 characters it names 71 % English, of 20–30 characters 90 %, from 50 on 99.9 %, and some
become Nigerian Pidgin (pcm): judge the answer rather than the question, and ask for a high probability.
`foreign` does both, and looks for words of the language first, which is a hundred times faster than n-grams.
`detect` is fastText's lid.176, with which The Pile, Dolma and Llama 2 counted theirs; its codes are those of Wikipedias
(als is Alemannic, no Norwegian). Sources: Lui & Baldwin 2012, langid.py; Joulin et al. 2016, fastText.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from s2utils.text.alphabet import latin
from s2utils.workflow import packaged

# characters: no language of the same letters is told from fewer than LONG, nor where all but SHORTEST are doubled white
# space; ENOUGH are looked at
SHORTEST, LONG, ENOUGH = 20, 50, 500
UNLIKELY = 0.001  # probability of the language under which the text is in another one
SHARE = 0.03  # of the words
COMMON = {  # code of a language of Latin letters → words that most texts have, and of other languages hardly any
    "en": frozenset(
        "the and that you this with from they their there what which when would because been has about more than "
        "your but them these some into if she his who were".split()
    )
}

THRESHOLD = 0.5  # probability under which a language is not told, as in Llama 2's table
UNKNOWN = "unknown"


def foreign(text: str, code: str) -> bool:
    """Whether a text is in another language than `code`, by its letters and its beginning; if in doubt it is not."""
    start = text[:ENOUGH]
    if code in COMMON:
        if not latin(text):
            return True
        words = start.lower().split()
        if sum(map(COMMON[code].__contains__, words)) >= SHARE * len(words):
            return False
    if len(start) < LONG or len(" ".join(start.split())) < SHORTEST or not any(map(str.isalpha, start)):
        return False
    return dict(_identifier().rank(start)).get(code, 0.0) < UNLIKELY


@functools.cache
def _identifier():
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def detect(texts: Iterable[str], threshold: float = THRESHOLD) -> list[tuple[str, float]]:
    """(code of the likeliest of 176 languages, its probability 0–1) of each text.

    "unknown" where the probability is below `threshold`, and with 0.0 where the text is empty. The whole text is read,
    its line feeds as spaces. Trap: a text in a language that the model does not know is often given to one that it
    does, and at threshold 0 signs alone are English.
    """
    predict = _lid176().predict
    found = []
    for text in texts:
        line = " ".join(text.split())
        if not line:
            found.append((UNKNOWN, 0.0))
            continue
        (label,), (probability,) = predict(line.encode("utf-8", "replace").decode())  # given lists it tells labels only
        probability = min(float(probability), 1.0)  # the softmax may exceed 1 by its rounding
        found.append((label.removeprefix("__label__") if probability >= threshold else UNKNOWN, probability))
    return found


@functools.cache
def codes() -> frozenset[str]:
    """Codes of the languages that `detect` can tell."""
    labels = re.findall(rb"__label__([\w-]+)\0", packaged.resolve("lid176").read_bytes())  # as the file stores them
    return frozenset(label.decode() for label in labels)


@functools.cache
def _lid176():
    import fasttext

    return fasttext.load_model(str(packaged.resolve("lid176")))
