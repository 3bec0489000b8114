"""How often the language detector errs: sentences of 1,000 languages, ten each, whose language is known.

BIG-bench's `language_identification` names languages in words; `code` finds the code that lid.176 has for one. Those
without one are pooled as "not known", where "unknown" is right and every language told is an error. Trap: the sentences
are short, mostly of Bible translations, and some are written in other letters than usual (Hindi in Latin ones), so a
language of the web is told better than the table says; ten sentences a language make wide intervals.
Sources: Srivastava et al. 2022, BIG-bench; Joulin et al. 2016, fastText.
"""

from __future__ import annotations

import functools
import json

import pandas as pd
from babel import Locale

from s2utils.stats import intervals
from s2utils.text import language
from s2utils.workflow import packaged

CONFIDENCE = 0.95
NOT_KNOWN = "not known"
_SPELT = {  # code of lid.176 → names in the data, where they are not the Unicode CLDR's English ones
    "als": "Alemannic", "arz": "Egyptian Arabic", "ar": "Algerian Arabic", "az": "Azeri", "azb": "South Azerbaijani",
    "bcl": "Central Bicolano", "bh": "Bhojpuri", "bn": "Bengali", "bxr": "Buryat", "cbk": "Chavacano", "ckb": "Sorani",
    "diq": "Zazaki", "dty": "Doteli", "eml": "Emilian-Romagnol", "fa": "Farsi|Dari Afghanistan", "frr": "North Frisian",
    "ga": "Irish Gaelic", "gn": "Eastern Bolivian Guarani|Mbya Guarani", "gom": "Goan Konkani", "gv": "Manx Gaelic",
    "hy": "Eastern Armenian|Western Armenian|Western Armenian-1853", "ilo": "Ilocano", "jv": "Caribbean Javanese",
    "kk": "Kazahk", "km": "Central Khmer", "krc": "Karachay Balkar", "ku": "Sourthern Kurdish", "lez": "Lezgian",
    "mg": "Plateau Malagasy", "mhr": "Meadow Mari", "mn": "Inner Mongolian", "mrj": "Hill Mari", "ms": "Central Malay",
    "mzn": "Mazandarani", "nds": "Dutch Low Saxon", "new": "Newar", "nn": "Nynorsk", "no": "Norwegian Bokmal",
    "or": "Oriya", "os": "Ossetian", "pa": "Eastern Panjabi", "pam": "Kapampangan", "pfl": "Pfaelzisch",
    "pnb": "Western Panjabic", "pt": "Portugese|portugues", "sah": "Sakha", "si": "Sinhalese", "sq": "Tosk Albanian",
    "tl": "Filipino", "vep": "Vepsian", "vls": "Vlaams", "vo": "Volapuk", "zh": "Mandarin Chinese|Classical Chinese",
}  # fmt: skip
_FAMILIES = {"Quechua": "qu", "Nahuatl": "nah"}  # one code for what are many languages here


def sentences() -> pd.DataFrame:
    """One row a sentence: text, language (its name), code (of lid.176, or "not known")."""
    rows = []
    for example in json.loads(packaged.resolve("languages-1000").read_text(encoding="utf-8"))["examples"]:
        name = next(name for name, right in example["target_scores"].items() if right)
        rows.append((example["input"], name, code(name)))
    return pd.DataFrame(rows, columns=["text", "language", "code"])


def code(name: str) -> str:
    """The code that lid.176 has for a language of this English name, or "not known"."""
    family = next((code for word, code in _FAMILIES.items() if word in name), NOT_KNOWN)
    return _codes().get(name.casefold(), family)


def errors(sentences: pd.DataFrame, threshold: float = language.THRESHOLD) -> pd.DataFrame:
    """One row a code, of `sentences`: language, n, error, error_ci_low, error_ci_high (Wilson), unknown, taken_for.

    error: share of sentences not told to be in their language; unknown: share of them below the threshold; taken_for:
    the code most often told instead. Languages that are not known are one row, the last. KeyError where a column lacks.
    """
    told = [found for found, _ in language.detect(sentences["text"], threshold)]
    frame = pd.DataFrame({"language": sentences["code"].to_numpy(), "told": told})
    right = frame["language"].where(frame["language"] != NOT_KNOWN, language.UNKNOWN)
    frame = frame.assign(wrong=frame["told"] != right, unknown=frame["told"] == language.UNKNOWN)
    rows = []
    for name, part in frame.groupby("language"):
        others = part.loc[part["wrong"] & ~part["unknown"], "told"].value_counts().sort_index(kind="stable")
        error = intervals.share(int(part["wrong"].sum()), len(part), CONFIDENCE)
        rows.append((name, len(part), *error, part["unknown"].mean(), others.idxmax() if len(others) else ""))
    columns = ["language", "n", "error", "error_ci_low", "error_ci_high", "unknown", "taken_for"]
    return pd.DataFrame(rows, columns=columns).sort_values(
        "language", key=lambda names: (names == NOT_KNOWN).astype(str) + names, ignore_index=True
    )


@functools.cache
def _codes() -> dict[str, str]:
    """Name of a language in small letters → its code."""
    names = Locale("en").languages
    known = {names[code].casefold(): code for code in sorted(language.codes()) if code in names}
    return known | {name.casefold(): code for code, spelt in _SPELT.items() for name in spelt.split("|")}
