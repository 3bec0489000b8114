import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_ladder import TEXTS, tokenizer

from s2utils.training import byte_bpe, packing


@pytest.fixture(scope="module")
def tok():
    return tokenizer()


@given(st.floats(0.02, 0.98), st.integers(2_000, 20_000), st.integers(0, 50))
def test_bytes_are_the_budget_and_shares_the_weights(tok, share, n_bytes, seed):
    blocks = packing.pack(TEXTS, {"code": share, "prose": 1 - share}, n_bytes, tok, 16, seed)
    domains = blocks.domains.set_index("domain")
    assert n_bytes - 3 <= domains["bytes"].sum() <= n_bytes
    longest = max(len(text.encode()) for texts in TEXTS.values() for text in texts)
    assert abs(domains.at["code", "bytes"] - share * n_bytes) <= longest
    tail = n_bytes - blocks.bytes.sum()
    assert 0 <= tail <= 16 * byte_bpe.token_bytes(tok).max() + 3


def test_blocks_in_their_first_order_are_the_documents(tok):
    texts = {"one": ["abc", "the cat", ""]}
    size = len("abcthe cat")
    blocks = packing.pack(texts, {"one": 1.0}, size, tok, 4, 3)
    rows = {tuple(row) for row in blocks.ids.tolist()}
    streams = [
        [0, *byte_bpe.ids([a], tok)[0], 0, *byte_bpe.ids([b], tok)[0]]
        for a, b in (texts["one"][:2], texts["one"][1::-1])
    ]
    n = len(blocks.ids)
    assert (
        rows in [{tuple(s[4 * i : 4 * i + 5]) for i in range(n)} for s in streams] and n == (len(streams[0]) - 1) // 4
    )


def test_text_is_the_same_for_a_seed_and_a_domain_gives_the_same_in_every_mix(tok):
    even, again = (packing.pack(TEXTS, {"code": 0.5, "prose": 0.5}, 6000, tok, 16, 1) for _ in range(2))
    other = packing.pack(TEXTS, {"code": 0.5, "prose": 0.5}, 6000, tok, 16, 2)
    assert np.array_equal(even.ids, again.ids) and not np.array_equal(even.ids, other.ids)
    assert even.ids.dtype == np.uint16 and even.ids.shape[1] == 17
    alone = packing.pack(TEXTS, {"code": 1.0}, 3000, tok, 16, 1)
    both = packing.pack(TEXTS | {"more": ["x"]}, {"code": 1.0, "more": 0.0}, 3000, tok, 16, 1)
    assert np.array_equal(alone.ids, both.ids) and alone.domains["domain"].tolist() == ["code"]


def test_a_small_domain_is_seen_again_and_that_is_told(tok):
    blocks = packing.pack({"few": ["The cat.", "", "A dog."]}, {"few": 1.0}, 140, tok, 8, 0)
    row = blocks.domains.iloc[0]
    assert row["bytes"] == 140 and row["epochs"] == pytest.approx(10, abs=1) and row["empty"] in range(9, 12)


def test_a_long_document_is_cut_at_lines_and_loses_nothing(tok):
    text = "".join(f"line {i} of a long file\n" for i in range(1200))
    drawn = packing._Drawn({"code": [text]}, {"code": 1.0}, 0)
    pieces = list(drawn.pieces(len(text)))
    assert "".join(pieces) == text and max(map(len, pieces)) <= packing.PIECE and len(pieces) > 5
    assert all(piece.endswith("\n") for piece in pieces)
    unbroken = list(packing._Drawn({"x": ["y" * 9001]}, {"x": 1.0}, 0).pieces(9001))
    assert [len(piece) for piece in unbroken] == [4000, 4000, 1001]


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ({"code": 0.5, "prose": 0.6}, "sum to 1.1"),
        ({"code": math.nan, "prose": 1.0}, "weight of code is nan"),
        ({"code": 2.0, "prose": -1.0}, "weight of prose is -1"),
        ({"books": 1.0}, "takes books, of which there is no text: code, prose"),
        ({}, "sum to 0"),
    ],
)
def test_weights_that_cannot_be_drawn_by_are_refused(tok, weights, told):
    with pytest.raises(ValueError, match=told):
        packing.pack(TEXTS, weights, 1000, tok, 16, 0)


def test_a_budget_of_no_block_and_a_domain_of_empty_documents_are_refused(tok):
    with pytest.raises(ValueError, match="no block of 64"):
        packing.pack(TEXTS, {"code": 1.0}, 20, tok, 64, 0)
    with pytest.raises(ValueError, match="no text"):
        packing.pack({"code": ["", ""]}, {"code": 1.0}, 20, tok, 64, 0)


@given(st.integers(1, 3000), st.integers(0, 20))
def test_what_is_held_out_is_not_trained_on(n_bytes, seed):
    texts = {"a": [f"text {i % 30} of a" for i in range(90)], "b": [f"another {i}" for i in range(9)] * 2}
    try:
        rest, held_out = packing.hold_out(texts, n_bytes, seed)
    except ValueError as error:
        assert "hold out less" in str(error) and n_bytes > 90
        return
    for domain in texts:
        assert not set(rest[domain]) & set(held_out[domain])
        assert set(rest[domain]) | set(held_out[domain]) == set(texts[domain])
        longest = max(len(text) for text in texts[domain])
        assert n_bytes <= sum(len(text) for text in held_out[domain]) < n_bytes + longest
