"""Answers that run in circles: flagged, never dropped, for they are scored like finished ones.

Words are those of readability, in lower case. Limits were set on answers that people wrote (LOG.md): REPEATED flags 2
of 6,081 from reddit and none of 1,000 from Simple Wikipedia, ROW none of either; of Llama-2-7b's 300 released answers
they flag 6 and 5, together 8. Trap: songs, lists and quoted definitions repeat themselves, a little below the limits.
"""

from __future__ import annotations

from s2utils.text.readability import words

PHRASE = 4  # words
REPEATED = 0.2  # share of phrases that stood before
FEWEST = 10  # phrases; a share of fewer says nothing
TIMES, ROW = 3, 12  # a stretch of so many words that is one phrase so many times in a row


def looping(text: str) -> bool:
    """Whether more than a fifth of the four-word phrases repeat, or one phrase stands three times in a row."""
    return repeated(text) > REPEATED or longest_row(text) >= ROW


def repeated(text: str) -> float:
    """Share of the four-word phrases that stood before in the text, 0–1; 0 where there are fewer than ten."""
    said = words(text.lower())
    phrases = list(zip(*(said[i:] for i in range(PHRASE))))
    return 1 - len(set(phrases)) / len(phrases) if len(phrases) >= FEWEST else 0.0


def longest_row(text: str) -> int:
    """Words of the longest stretch in which one phrase, of any length, stands three times or more in a row."""
    said = words(text.lower())
    longest = 0
    for period in range(1, len(said) // TIMES + 1):
        same = 0  # words in a row that stood one period before
        for word, before in zip(said[period:], said):
            same = same + 1 if word == before else 0
            if same >= period * (TIMES - 1):
                longest = max(longest, same + period)
    return longest
