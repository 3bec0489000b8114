"""Near-copies: texts whose sets of word 3-grams have a Jaccard similarity (0–1) at or above a limit.

MinHash signatures (datasketch) are cut into bands; two texts that agree on a whole band are candidates,
and every candidate is checked by its exact Jaccard similarity, so nothing is called a copy that is not
one. A copy at the limit is missed with a probability under `MISSED`, a closer one less often.
Trap: in a short question one changed word touches three 3-grams: of 12 words, a change in the middle
leaves 7 of 13 (0.54), one at the end 9 of 11 (0.82).
Source: Broder 1997, On the resemblance and containment of documents.
"""

from __future__ import annotations

import functools
from collections import defaultdict

import numpy as np
from datasketch import MinHash

from s2utils.text.readability import words

PERMUTATIONS = 128
MISSED = 0.01


def near_duplicates(texts: list[str], jaccard: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(of, similarity): for each text the index of the earlier text it nearly repeats, and how closely.

    Both have shape (len(texts),), int64 and float64; −1 and 0.0 where a text is no copy. Texts are taken in
    their order and compared with kept ones (no copies themselves) only; `of` is the earliest one found.
    Raises ValueError unless 0 < jaccard <= 1.
    """
    if not 0 < jaccard <= 1:
        raise ValueError(f"jaccard must be above 0 and at most 1, not {jaccard}")
    of, similarity = np.full(len(texts), -1, dtype=np.int64), np.zeros(len(texts))
    keys = band_keys(texts, band_rows(jaccard), seed)
    shared = np.zeros(keys.shape, dtype=bool)  # only a key that occurs twice can bring texts together
    for band in range(keys.shape[1]):
        _, inverse, counts = np.unique(keys[:, band], return_inverse=True, return_counts=True)
        shared[:, band] = counts[inverse] > 1
    grams = functools.lru_cache(maxsize=50_000)(lambda i: shingles(texts[i]))
    kept: dict[tuple[int, int], list[int]] = defaultdict(list)  # (band, key) → kept texts, in order
    for i in np.flatnonzero(shared.any(axis=1)).tolist():
        bands = np.flatnonzero(shared[i])
        places = list(zip(bands.tolist(), keys[i, bands].tolist()))
        for j in sorted({j for place in places for j in kept.get(place, ())}):
            both = len(grams(i) & grams(j))
            close = both / (len(grams(i)) + len(grams(j)) - both)
            if close >= jaccard:
                of[i], similarity[i] = j, close
                break
        else:
            for place in places:
                kept[place].append(i)
    return of, similarity


def shingles(text: str) -> set[str]:
    """Lower-cased word 3-grams; the words of a shorter text; the bare text where there is no word."""
    bare = words(text.lower())
    if len(bare) < 3:
        return set(bare) or {text.strip()}
    return {" ".join(run) for run in zip(bare, bare[1:], bare[2:])}


def band_rows(jaccard: float) -> int:
    """Most rows a band (fewest candidates) at which a pair at the limit is missed less often than `MISSED`."""
    choices = range(2, PERMUTATIONS + 1)
    return max((n for n in choices if (1 - jaccard**n) ** (PERMUTATIONS // n) < MISSED), default=1)


def band_keys(texts: list[str], rows: int, seed: int) -> np.ndarray:
    """One 64-bit key a band of each text's signature, shape (len(texts), PERMUTATIONS // rows), uint64."""
    bands = PERMUTATIONS // rows
    encoded = ([gram.encode("utf-8", "surrogatepass") for gram in shingles(text)] for text in texts)
    # chance agreements of keys only bring one more candidate to check
    factors = np.random.default_rng(seed).integers(1, 2**64, size=rows, dtype=np.uint64, endpoint=False) | np.uint64(1)
    keys = np.empty((len(texts), bands), dtype=np.uint64)
    for i, minhash in enumerate(MinHash.generator(encoded, num_perm=PERMUTATIONS, seed=seed)):
        signature = minhash.hashvalues[: bands * rows].reshape(bands, rows).astype(np.uint64)
        keys[i] = signature @ factors  # modulo 2**64
    return keys
