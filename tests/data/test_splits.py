import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.data import splits
from s2utils.data.parameters import Data
from s2utils.models.parameters import Weights
from s2utils.workflow.params import load

SIZES = {"validation": {"a": 5, "b": 3}, "test": {"a": 4, "b": 2}}


def data(validation=None, test=None) -> Data:
    """Two data sets, a and b, and the sizes of their splits."""
    source = load("smoke").data.sources["sciq"]
    return Data(
        sources={"a": source, "b": source}, roles={}, union="full", shards=1, keep_rejected=True, held_out=0.1, pairs_max=10, train_max=0, validation=validation or SIZES["validation"],
        test=test or SIZES["test"], leakage_cosine=0.6, embedder=Weights(path="x", revision=""), embedder_tokens=256,
    )  # fmt: skip


def rows(n_a: int = 30, n_b: int = 20) -> pd.DataFrame:
    """Rows of both data sets, their index not the usual one."""
    names = ["a"] * n_a + ["b"] * n_b
    frame = pd.DataFrame(
        {"dataset": names, "id": [f"{d}{i:03}" for i, d in enumerate(names)], "post": [f"{d}{i:03}" for i, d in enumerate(names)], "set": "sft", "question": "Why?", "answer": "So.", "group": "",
         "score": [i if i % 2 else None for i in range(len(names))], "n_words": 3, "fre": 90.5, "fkg": 1.5}
    )  # fmt: skip
    return frame.sample(frac=1, random_state=1).set_index(np.arange(len(names)) * 3 + 7)


def test_sizes_are_as_asked_and_train_takes_the_rest():
    frame = rows()
    found = pd.crosstab(frame["dataset"], splits.assign(frame, data(), seed=1))
    assert found.loc["a"].to_dict() == {"train": 21, "validation": 5, "test": 4}
    assert found.loc["b"].to_dict() == {"train": 15, "validation": 3, "test": 2}


def test_splits_are_seeded():
    frame = rows()
    one = splits.assign(frame, data(), seed=1)
    assert one.equals(splits.assign(frame, data(), seed=1))
    assert not one.equals(splits.assign(frame, data(), seed=2))
    assert one.index.equals(frame.index)


def test_neither_the_order_nor_another_data_set_moves_a_question():
    one = splits.assign(rows(30, 20), data(), seed=1)
    shuffled = rows().sample(frac=1, random_state=5)
    assert splits.assign(shuffled, data(), seed=1).sort_index().equals(one.sort_index())
    frame = rows(30, 20)
    other = splits.assign(frame[frame["dataset"] == "a"], data(), seed=1)
    assert one[other.index].equals(other)


def units(vectors: np.ndarray) -> np.ndarray:
    """Rows of unit length."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@given(
    seed=st.integers(0, 10**6),
    names=st.lists(st.sampled_from(splits.SPLITS), min_size=1, max_size=40),
    limit=st.floats(0.2, 0.99),
    block=st.integers(1, 50),
)
def test_no_pair_across_splits_comes_too_close_and_the_larger_split_pays(seed, names, limit, block):
    vectors = units(np.random.default_rng(seed).normal(size=(len(names), 3)))
    split = pd.Series(names)
    remove, pairs, near = splits.leaks(vectors, split, limit, block)
    kept, cosine = ~remove, vectors @ vectors.T
    across = split.to_numpy()[:, None] != split.to_numpy()[None, :]
    assert not (across & (cosine >= limit + 1e-6))[np.ix_(kept, kept)].any()
    sizes = split.value_counts()
    for left, right, value in pairs.itertuples(index=False):
        assert remove[right]
        assert sizes[split[right]] >= sizes[split[left]]
        assert value >= limit and value == pytest.approx(cosine[left, right], abs=1e-6)
    assert sorted(pairs["right"]) == np.flatnonzero(remove).tolist()
    left = np.where((across & kept[:, None] & kept[None, :]), cosine, -2)
    if left.max() > -2:  # the closest pair that remains is shown first
        assert near["cosine"].iat[0] == pytest.approx(left.max(), abs=1e-6)


def test_the_smallest_split_loses_nothing():
    split = pd.Series(["train"] * 6 + ["validation"] * 3 + ["test"])
    remove, pairs, _ = splits.leaks(np.ones((10, 1), dtype=np.float32), split, 0.6)
    assert split[~remove].tolist() == ["test"] and len(pairs) == 9


def test_of_equal_splits_train_loses():
    split = pd.Series(["train", "validation"])
    remove, _, _ = splits.leaks(np.ones((2, 1), dtype=np.float32), split, 0.6)
    assert remove.tolist() == [True, False]


def test_likeness_inside_one_split_is_no_leak():
    remove, pairs, _ = splits.leaks(np.ones((4, 1), dtype=np.float32), pd.Series(["train"] * 4), 0.6)
    assert not remove.any() and pairs.empty


def test_nothing_is_removed_where_nothing_is_close():
    vectors = np.eye(6, dtype=np.float32)
    remove, pairs, _ = splits.leaks(vectors, pd.Series(["train", "validation", "test"] * 2), 0.6)
    assert not remove.any() and pairs.empty


def test_leaking_and_surplus_questions_are_dropped_with_their_reason(monkeypatch, tmp_path):
    frame = rows().reset_index(drop=True)
    frame["question"] = [f"q{i}" for i in range(len(frame))]
    frame["dropped"] = ["under 20 words"] * 5 + [""] * 45
    prompts = pd.DataFrame({"dataset": "a", "post": [f"p{i}" for i in range(20)], "question": "Why?", "dropped": ""})
    table = splits.questions(frame, prompts)
    assert len(table) == 65 and table["set"].value_counts().to_dict() == {"sft": 45, "rl": 20}
    asked = []

    def embed(texts, weights, max_tokens, label):
        asked.append(texts)
        vectors = np.eye(len(texts), dtype=np.float32)
        split = splits.assign(table, data(), seed=1)
        test, train = (np.flatnonzero(split == s)[0] for s in ("test", "train"))
        vectors[train] = vectors[test]  # one training question is a test question
        return vectors

    monkeypatch.setattr(splits, "embed", embed)
    limited = data().model_copy(update={"train_max": 6})
    pairs, near = splits.divide(table, limited, 1, tmp_path)
    again = table.copy()
    splits.divide(again, limited, 1, tmp_path)
    assert asked == [table["question"].tolist()] and again.equals(table)  # embedded once
    other = table.assign(question=table["question"] + " then?")
    splits.divide(other, limited, 1, tmp_path)  # other questions, as many: not the vectors of the first
    assert asked[1] == other["question"].tolist()
    assert pairs[["kept_split", "removed_split", "cosine"]].values.tolist() == [["test", "train", 1.0]]
    assert (near["cosine"] == 0).all()
    splits.apply(table, frame, prompts)
    leaked = table[table["reason"] == "cosine 0.6 or more to a smaller split"]
    assert len(leaked) == 1 and (leaked["split"] == "").all()
    found = pd.crosstab(frame["dataset"], frame["split"])[["train", "validation", "test"]]
    assert found.loc["a"].tolist() == [6, 5, 4] and found.loc["b"].tolist() == [6, 3, 2]
    assert ((frame["split"] == "") == (frame["dropped"] != "")).all()
    assert (frame.loc[:4, "dropped"] == "under 20 words").all()
    assert prompts["split"].value_counts().drop("", errors="ignore").to_dict()["validation"] == 2  # a tenth of 20
    sizes = splits.sizes(frame, prompts.head(0).assign(dropped="", split=""), prompts)
    assert sizes["n"].sum() == 65 - (frame["dropped"] == "not needed: data.train_max").sum() - 5 + 5


def test_splits_survive_the_disk(tmp_path):
    frame = rows()
    frame["split"] = splits.assign(frame, data(), seed=1)
    splits.write(frame, tmp_path)
    back = {name: splits.read(tmp_path, name, "full", "full") for name in splits.SPLITS}
    assert {name: len(part) for name, part in back.items()} == {"train": 36, "validation": 8, "test": 6}
    ids = [set(part["id"]) for part in back.values()]
    assert not ids[0] & ids[1] and not ids[0] & ids[2] and not ids[1] & ids[2] and set().union(*ids) == set(frame["id"])
    assert list(back["train"].columns) == splits.COLUMNS
    whole = pd.concat(back.values()).sort_values("id").reset_index(drop=True)
    pd.testing.assert_frame_equal(
        whole, frame.sort_values("id")[splits.COLUMNS].reset_index(drop=True), check_dtype=False
    )


def test_the_order_on_disk_does_not_depend_on_the_order_of_the_rows(tmp_path):
    frame = rows()
    frame["split"] = splits.assign(frame, data(), seed=1)
    splits.write(frame, tmp_path / "one")
    splits.write(frame.iloc[::-1], tmp_path / "two")
    for name in splits.SPLITS:
        assert (tmp_path / "one" / f"{name}.parquet").read_bytes() == (
            tmp_path / "two" / f"{name}.parquet"
        ).read_bytes()


def test_a_data_set_is_read_alone_or_with_all(tmp_path):
    frame = rows()
    frame["split"] = splits.assign(frame, data(), seed=1)
    splits.write(frame, tmp_path)
    assert set(splits.read(tmp_path, "validation", "b", "full")["dataset"]) == {"b"}
    assert len(splits.read(tmp_path, "validation", "full", "full")) == 8


def test_a_sample_is_seeded_and_no_longer_than_the_split(tmp_path):
    frame = rows()
    frame["split"] = splits.assign(frame, data(), seed=1)
    splits.write(frame, tmp_path)

    def ids(n: int, seed: int) -> list[str]:
        return splits.sample(tmp_path, "train", "a", "full", n, seed)["id"].tolist()

    assert ids(5, 50) == ids(5, 50) == ids(9, 50)[:5]
    assert ids(5, 50) != ids(5, 51)
    assert len(set(ids(99, 50))) == 21


def test_close_questions_have_close_vectors():
    weights = Weights(path="embedded:all-minilm-l6-v2", revision="")
    texts = ["Why is the sky blue?", "What makes the sky look blue?", "How do I bake bread?", ""]
    vectors = splits.embed(texts, weights, 256, batch_size=2)
    assert vectors.shape == (4, 384) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    cosine = vectors @ vectors.T
    assert cosine[0, 1] > 0.8 > 0.3 > cosine[0, 2]
    alone = splits.embed(texts[:1], weights, 256)
    assert np.allclose(alone[0], vectors[0], atol=1e-5)  # padding and order do not matter
