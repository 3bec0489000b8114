"""Near-copies and leaks of 10,000 to 200,000 synthetic questions: seconds, peak memory, recall.

ours: processor seconds of dedup.near_duplicates on 50,000 questions (it and its peers use one core, and
wall seconds move with other work on the machine); peer: datasketch's MinHash and MinHashLSH as its
documentation shows them (one text at a time, its own bands, no check of the candidates) on the same
questions in the same run. ratio = peer / ours. --quick takes a tenth of all numbers.
Beside them in the file: all pairs by brute force on 5,000 questions, datasketch's batch call with our
bands, and the curves of near_duplicates and splits.leaks (random vectors of 384 dimensions, one in ten
close to another; 5 % of the questions each for validation and test).
"""

from __future__ import annotations

import measure
import numpy as np
import pandas as pd
from measure import alone, best

from s2utils.data import deduplication, splits

SIZES = (10_000, 50_000, 200_000)
JACCARD, COSINE, COPIES = 0.8, 0.6, 0.1
OPENINGS = ("why do", "why is the", "how does a", "how do", "what is the difference between", "what happens when", "")


def questions(n: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """(texts, source): about 12 words of a Zipf vocabulary; the last tenth repeats another text, closely.

    `source` is −1, or the text a copy was made from where their similarity reaches the limit.
    """
    rng = np.random.default_rng(seed)
    letters = np.array(list("etaoinshrdlucmfw"))
    vocabulary = np.array(["".join(rng.choice(letters, size)) for size in rng.integers(2, 10, 30_000)])
    rate = 1 / (np.arange(len(vocabulary)) + 2.7)  # Zipf-Mandelbrot
    originals = n - int(n * COPIES)
    lengths = rng.poisson(7, originals) + 3
    drawn = iter(np.split(rng.choice(vocabulary, lengths.sum(), p=rate / rate.sum()), np.cumsum(lengths)[:-1]))
    texts = [f"{opening} {' '.join(next(drawn))}?".strip() for opening in rng.choice(OPENINGS, originals)]
    source = np.full(n, -1)
    for i, kind in enumerate(rng.integers(4, size=n - originals), start=originals):
        j = int(rng.integers(originals))
        first, *rest = texts[j].rstrip("?").split()
        edits = (f"ELI5: {texts[j]}", f"{texts[j]} please", " ".join([*rest[:-1], rest[-1].upper()]), texts[j].title())
        texts.append(edits[kind])
        a, b = deduplication.shingles(texts[i]), deduplication.shingles(texts[j])
        source[i] = j if len(a & b) / len(a | b) >= JACCARD else -1
    return texts, source


def score(texts: list[str], source: np.ndarray, of: np.ndarray) -> dict:
    """How many of the planted copies were found, and how many of what was found is a copy."""
    planted, found = source >= 0, np.flatnonzero(of >= 0)
    pairs = [(deduplication.shingles(texts[i]), deduplication.shingles(texts[of[i]])) for i in found]
    true = sum(len(a & b) / len(a | b) >= JACCARD for a, b in pairs)
    recall = round(float((of[planted] >= 0).mean()), 4)
    return {
        "planted": int(planted.sum()),
        "recall": recall,
        "found": len(found),
        "precision": round(true / len(found), 4),
    }


def ours(made: tuple) -> np.ndarray:
    return deduplication.near_duplicates(made[0], JACCARD)[0]


def brute_force(made: tuple) -> np.ndarray:
    """Every text against all kept ones."""
    grams = [deduplication.shingles(text) for text in made[0]]
    of, kept = np.full(len(grams), -1), []
    for i, one in enumerate(grams):
        for j in kept:
            both = len(one & grams[j])
            if both >= JACCARD * (len(one) + len(grams[j]) - both):
                of[i] = j
                break
        else:
            kept.append(i)
    return of


def datasketch_standard(made: tuple) -> np.ndarray:
    """As in its documentation: update, query, insert."""
    from datasketch import MinHash, MinHashLSH

    of, lsh = np.full(len(made[0]), -1), MinHashLSH(threshold=JACCARD, num_perm=deduplication.PERMUTATIONS)
    for i, text in enumerate(made[0]):
        minhash = MinHash(num_perm=deduplication.PERMUTATIONS)
        for gram in deduplication.shingles(text):
            minhash.update(gram.encode("utf-8"))
        if near := lsh.query(minhash):
            of[i] = min(near)
        else:
            lsh.insert(i, minhash)
    return of


def datasketch_batch(made: tuple) -> np.ndarray:
    """Its batch call for the signatures, and its index with our bands."""
    from datasketch import MinHash, MinHashLSH

    rows = deduplication.band_rows(JACCARD)
    of = np.full(len(made[0]), -1)
    lsh = MinHashLSH(num_perm=deduplication.PERMUTATIONS, params=(deduplication.PERMUTATIONS // rows, rows))
    grams = ([gram.encode("utf-8") for gram in deduplication.shingles(text)] for text in made[0])
    for i, minhash in enumerate(MinHash.generator(grams, num_perm=deduplication.PERMUTATIONS)):
        if near := lsh.query(minhash):
            of[i] = min(near)
        else:
            lsh.insert(i, minhash)
    return of


def embeddings(n: int, seed: int = 0) -> tuple[np.ndarray, pd.Series]:
    """Unit vectors, a tenth of them at a cosine of about 0.96 to another, and their splits."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, 384), dtype=np.float32)
    copies = int(n * COPIES)
    vectors[-copies:] = vectors[:copies] + 0.3 * rng.standard_normal((copies, 384), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    split = np.repeat(["validation", "test", "train"], [n // 20, n // 20, n - 2 * (n // 20)])
    return vectors, pd.Series(rng.permutation(split))


def leaks(made: tuple) -> int:
    return int(splits.leaks(*made, COSINE)[0].sum())


def compared(functions: tuple, n: int, rounds: int = 2) -> dict[str, dict]:
    """Each function on the same `n` questions, in turns; its best run and its score."""
    made = questions(n)
    runs = [{f.__name__: alone(f, questions, n) for f in functions} for _ in range(rounds)]
    rows = {f.__name__: best([turn[f.__name__] for turn in runs]) for f in functions}
    return {name: row | score(*made, row.pop("value")) for name, row in rows.items()}


def main():
    chosen = measure.arguments(__doc__).parse_args()
    part = 10 if chosen.quick else 1
    n, few = 50_000 // part, 5_000 // part
    peers = compared((ours, datasketch_standard, datasketch_batch), n)
    print(pd.DataFrame(peers).T.to_string(), "\n")
    small = compared((ours, brute_force), few)
    print(pd.DataFrame(small).T.to_string(), "\n")
    curve = []
    for size in (s // part for s in SIZES):
        row = alone(ours, questions, size)
        curve.append({"job": "near_duplicates", "questions": size} | row | score(*questions(size), row.pop("value")))
        row = alone(leaks, embeddings, size)
        curve.append({"job": "leaks", "questions": size, "found": row.pop("value")} | row)
    curve = [{k: v for k, v in row.items() if k != "value"} for row in curve]
    print(pd.DataFrame(curve).sort_values(["job", "questions"]).to_string(index=False), "\n")
    rows = [
        measure.row(
            f"near-duplicates against {name}", ours=found["ours"]["cpu_seconds"], peer=found[peer]["cpu_seconds"],
            ratio=round(found[peer]["cpu_seconds"] / found["ours"]["cpu_seconds"], 2), unit="processor s", n=size,
        )
        for name, peer, found, size in (
            ("datasketch, one text at a time", "datasketch_standard", peers, n),
            ("datasketch's batch call", "datasketch_batch", peers, n),
            ("all pairs", "brute_force", small, few),
        )
    ]  # fmt: skip
    measure.write("dedup", rows, chosen.quick, peers=peers, brute_force=small, curve=curve)


if __name__ == "__main__":
    main()
