import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.data import corpora, corpus_mix


def sizes(**rows) -> pd.DataFrame:
    return pd.DataFrame([{"component": k, "documents": d, "raw_size": b} for k, (d, b) in rows.items()])


def test_a_mix_is_the_arithmetic_of_the_paper():
    components = {"a": corpora.folder("a", epochs=2.0, licence="MIT"), "b": corpora.folder("b", epochs=0.5)}
    frame = corpus_mix.table(sizes(a=(10, 300), b=(4, 800)), components).set_index("component")
    assert frame["effective_size"].to_dict() == {"a": 600, "b": 400, "total": 1000}
    assert frame["weight"].to_dict() == {"a": 0.6, "b": 0.4, "total": 1.0}
    assert frame["mean_document_size"].to_dict() == {"a": 30, "b": 200, "total": 1100 / 14}
    assert frame.loc["a", ["licence", "terms", "consent"]].tolist() == ["MIT", "unknown", "unknown"]


@pytest.mark.parametrize("rows", [{"a": (3, 30)}, {"a": (3, 30), "b": (0, 0)}])
def test_a_component_without_documents_has_no_weight(rows):
    with pytest.raises(ValueError, match="no documents of b"):
        corpus_mix.table(sizes(**rows), {"a": corpora.folder("a"), "b": corpora.folder("b")})


@given(st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(1, 99), st.integers(1, 10**9)), min_size=1))
def test_epochs_for_weights_give_these_weights(given_):
    total = sum(w for w, _ in given_.values())
    weights = {name: w / total for name, (w, _) in given_.items()}
    raw = {name: size for name, (_, size) in given_.items()}
    epochs = corpus_mix.epochs_for(weights, raw, 1e6)
    components = {name: corpora.folder(name).model_copy(update={"epochs": e}) for name, e in epochs.items()}
    frame = corpus_mix.table(sizes(**{name: (1, size) for name, size in raw.items()}), components)
    assert frame.set_index("component")["weight"].to_dict() == pytest.approx(weights | {"total": 1})
    assert frame["effective_size"].iloc[-1] == pytest.approx(1e6)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 0.5, "b": 0.4}, "weights sum to 0.9, not 1"),
        ({"a": 1.0, "b": 0.0}, "weights must be above 0, not b 0.0"),
        ({"a": float("nan"), "b": 1.0}, "weights must be above 0, not a nan"),
        ({"a": 0.5, "c": 0.5}, "no text of c; there is a, b"),
    ],
)
def test_weights_that_cannot_be_are_named(weights, message):
    with pytest.raises(ValueError, match=message):
        corpus_mix.epochs_for(weights, {"a": 1, "b": 1}, 10)


@given(st.integers(0, 200), st.floats(0.01, 5), st.integers(0, 3))
def test_copies_are_as_many_as_the_epochs_say(n, epochs, seed):
    copies = corpus_mix.copies(n, epochs, seed)
    assert copies.shape == (n,)
    assert abs(copies.sum() - epochs * n) <= 0.5 + 1e-6
    assert n == 0 or copies.max() - copies.min() <= 1
    assert (copies == corpus_mix.copies(n, epochs, seed)).all()


def test_whole_epochs_draw_nothing_and_none_is_refused():
    assert (corpus_mix.copies(5, 2.0, 0) == np.full(5, 2)).all()
    with pytest.raises(ValueError, match="epochs must be above 0, not 0"):
        corpus_mix.copies(5, 0, 0)


@pytest.fixture(scope="module")
def recomputed() -> pd.DataFrame:
    return corpus_mix.recomputed()


def cell(frame: pd.DataFrame, paper: str, row: str, column: str) -> pd.Series:
    (found,) = frame[(frame["paper"] == paper) & (frame["row"] == row) & (frame["column"] == column)].itertuples()
    return found


def test_the_pile_adds_up(recomputed):
    pile = recomputed[recomputed["paper"] == "pile"]
    assert len(pile) == 22 * 2 + 4 and (pile["adds_up"] != "no").all()
    for column, total in (("raw_size_gib", 825.18), ("effective_size_gib", 1254.20), ("weight_percent", 100.0)):
        assert cell(pile, "pile", "The Pile", column).recomputed == pytest.approx(total, abs=1e-9)
    assert cell(pile, "pile", "The Pile", "mean_document_size_kib").recomputed == pytest.approx(5.911, abs=5e-4)
    apart = (pile["printed"] - pile["recomputed"]).abs().groupby(pile["column"]).max()
    assert apart["effective_size_gib"] <= 0.0101 and apart["weight_percent"] <= 0.0050


def test_dolma_counts_one_source_twice(recomputed):
    size = cell(recomputed, "dolma", "Total", "utf8_bytes_gb")
    assert (size.printed, round(size.recomputed, 1), size.adds_up) == (11519, 11498.6, "no")
    assert size.printed - size.recomputed == pytest.approx(20.4)  # Project Gutenberg once more
    documents = cell(recomputed, "dolma", "Total", "documents_millions")
    assert (documents.printed, round(documents.recomputed, 2), documents.adds_up) == (4367, 4366.06, "within rounding")
    assert cell(recomputed, "dolma", "Total", "gpt_neox_tokens_billions").adds_up == "exactly"


def test_the_epochs_of_gpt_3_do_not_follow_from_its_weights(recomputed):
    gpt3 = recomputed[(recomputed["paper"] == "gpt3") & (recomputed["column"] == "epochs_at_300b_tokens")]
    assert gpt3["recomputed"].round(2).tolist() == [0.44, 3.47, 2.0, 0.44]  # no quantity of Wikipedia is printed
    assert gpt3["adds_up"].tolist() == ["exactly", "no", "within rounding", "within rounding"]
    assert cell(recomputed, "gpt3", "all", "weight_percent").recomputed == 101


def test_llama_1_adds_up_and_every_published_table_names_its_paper(recomputed):
    assert cell(recomputed, "llama1", "all", "sampling_percent").adds_up == "exactly"
    papers = pd.read_csv(corpus_mix.paths.root() / "reports" / "published" / "papers.csv")
    assert set(recomputed["paper"]) | {"llama2", "paloma"} <= set(papers["folder"])
    assert papers["citation"].str.contains(r"\b20\d\d\b").all()


def test_cells_of_a_published_table_are_as_printed():
    frame = corpus_mix.published("pile", "ablation")
    assert frame.shape == (22, 4) and frame.iloc[0]["pile_bpb"] == "0.9989"
    assert corpus_mix.published("llama2", "languages")["percent"].astype(float).sum() == pytest.approx(99.99)
