"""Whether a text is in another language than the wanted one (ISO 639-1 code), offline.

py3langid looks at byte n-grams; its model lies in the package as plain arrays (npz, loaded without
pickle), so unlike `toxicity` there is nothing to check before import. Trap: short texts are uncertain. Of English
questions of 10–20 characters it names 71 % English, of 20–30 characters 90 %, from 50 on 99.9 %, and some
become Nigerian Pidgin (pcm): judge the answer rather than the question, and ask for a high probability.
`foreign` does both, and looks for words of the language first, which is a hundred times faster than n-grams.
Source: Lui & Baldwin 2012, langid.py.
"""

from __future__ import annotations

import functools

from s2utils.text.alphabet import latin

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
