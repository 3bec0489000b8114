import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_files import changed, source

from s2utils.data import splits
from s2utils.data.parameters import Data
from s2utils.models.parameters import Weights
from s2utils.workflow import params

SIZES = {"validation": {"a": 5, "b": 3}, "test": {"a": 4, "b": 2}}


def data(**changes) -> Data:
    """Two data sets, a and b, and the sizes of their splits."""
    facts = {
        "sources": {name: source(name) for name in "ab"},
        "train_max": 0,
        "held_out": 0.1,
        "leakage_cosine": 0.6,
    } | SIZES
    return changed(params.load("cpu").data, **(facts | changes))


def rows(n_a: int = 30, n_b: int = 20) -> pd.DataFrame:
    """Rows of both data sets, their index not the usual one."""
    names = [f"{dataset}{i:03}" for i, dataset in enumerate("a" * n_a + "b" * n_b)]
    facts = {"set": "sft", "question": "Why?", "answer": "So.", "group": "", "n_words": 3, "fre": 90.5, "fkg": 1.5}
    score = [i if i % 2 else None for i in range(len(names))]
    frame = pd.DataFrame({"dataset": [name[0] for name in names], "id": names, "post": names, "score": score} | facts)
    return frame.sample(frac=1, random_state=1).set_index(np.arange(len(names)) * 3 + 7)


def test_sizes_are_as_asked_and_train_takes_the_rest():
    frame = rows()
    found = pd.crosstab(frame["dataset"], splits.assign(frame, data(), seed=1))
    assert found.loc["a"].to_dict() == {"train": 21, "validation": 5, "test": 4}
    assert found.loc["b"].to_dict() == {"train": 15, "validation": 3, "test": 2}


def test_splits_are_seeded_and_neither_the_order_nor_another_data_set_moves_a_question():
    frame = rows()
    split = splits.assign(frame, data(), seed=1)
    assert split.index.equals(frame.index) and not split.equals(splits.assign(frame, data(), seed=2))
    shuffled = splits.assign(frame.sample(frac=1, random_state=5), data(), seed=1)
    assert shuffled[frame.index].equals(split)
    alone = splits.assign(frame[frame["dataset"] == "a"], data(), seed=1)
    assert split[alone.index].equals(alone)


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


@pytest.mark.parametrize(
    ("names", "left"),
    [
        (["train"] * 6 + ["validation"] * 3 + ["test"], ["test"]),  # the smallest split loses nothing
        (["train", "validation"], ["validation"]),  # of equal splits train loses
        (["train"] * 4, ["train"] * 4),  # likeness inside one split is no leak
    ],
)
def test_of_equal_questions_those_of_the_smallest_split_stay(names, left):
    split = pd.Series(names)
    remove, pairs, _ = splits.leaks(np.ones((len(names), 1), dtype=np.float32), split, 0.6)
    assert split[~remove].tolist() == left and len(pairs) == len(names) - len(left)


def test_nothing_is_removed_where_nothing_is_close():
    remove, pairs, _ = splits.leaks(np.eye(6, dtype=np.float32), pd.Series(["train", "validation", "test"] * 2), 0.6)
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
    limited = data(train_max=6)
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


@pytest.fixture
def written(tmp_path) -> pd.DataFrame:
    """Rows with their split, written into the test's folder."""
    frame = rows()
    frame["split"] = splits.assign(frame, data(), seed=1)
    splits.write(frame, tmp_path)
    return frame


def test_splits_survive_the_disk(written, tmp_path):
    back = {name: splits.read(tmp_path, name, "full", "full") for name in splits.SPLITS}
    assert {name: len(part) for name, part in back.items()} == {"train": 36, "validation": 8, "test": 6}
    assert all(set(part["id"]) == set(written["id"][written["split"] == name]) for name, part in back.items())
    assert list(back["train"].columns) == splits.COLUMNS
    whole = pd.concat(back.values()).sort_values("id", ignore_index=True)
    wanted = written.sort_values("id", ignore_index=True)[splits.COLUMNS]
    pd.testing.assert_frame_equal(whole, wanted, check_dtype=False)
    assert set(splits.read(tmp_path, "validation", "b", "full")["dataset"]) == {"b"}


def test_the_order_on_disk_does_not_depend_on_the_order_of_the_rows(written, tmp_path):
    splits.write(written.iloc[::-1], tmp_path / "two")
    for name in splits.SPLITS:
        first, second = (folder / f"{name}.parquet" for folder in (tmp_path, tmp_path / "two"))
        assert first.read_bytes() == second.read_bytes()


def test_a_sample_is_seeded_and_no_longer_than_the_split(written, tmp_path):
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
