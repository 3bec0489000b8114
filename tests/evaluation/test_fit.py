"""Bits a byte by domain, Δ, and loss by position: by hand, and the limits."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_ladder import tokenizer

from s2utils.evaluation import fit
from s2utils.models import likelihood, loading
from s2utils.models.parameters import Weights
from s2utils.training import ladder
from s2utils.workflow.params import ParameterError, load

PARAMS = load("smoke")


def scored(rows: list[tuple[str, str, list[float], int]]) -> pd.DataFrame:
    """(domain, id, losses in bits, bytes) as `fit.score` gives them."""
    made = [
        {"domain": domain, "id": id, "n_tokens": len(bits), "n_bytes": size, "nats": sum(bits) * math.log(2),
         "losses": np.array(bits) * math.log(2)}
        for domain, id, bits, size in rows
    ]  # fmt: skip
    return pd.DataFrame(made)


ROWS = [("law", "1", [4.0, 2.0], 3), ("law", "2", [1.0, 1.0, 1.0, 3.0], 12), ("code", "3", [2.0, 4.0, 6.0, 8.0], 4),
        ("code", "4", [4.0], 1)]  # fmt: skip


def test_a_domain_is_a_ratio_of_sums_and_two_averages_stand_beside_each_other():
    table = fit.by_domain(scored(ROWS), PARAMS).set_index("domain")
    assert table.loc["law", "bits_per_byte"] == pytest.approx(12 / 15)
    assert table.loc["code", "bits_per_byte"] == pytest.approx(24 / 5)
    assert table.loc[fit.MACRO, "bits_per_byte"] == pytest.approx((12 / 15 + 4.8) / 2)
    assert table.loc[fit.POOLED, "bits_per_byte"] == pytest.approx(36 / 20)
    assert table.loc["law", "perplexity"] == pytest.approx(2 ** (12 / 6))
    assert table.loc[fit.MACRO, "perplexity"] == pytest.approx(2 ** ((2 + 4.8) / 2)), "of mean losses, as Paloma's"
    assert table.loc["law", ["n", "n_tokens", "n_bytes"]].tolist() == [2, 6, 15]
    for metric in ("bits_per_byte", "perplexity"):
        assert (table[f"{metric}_ci_low"] <= table[metric]).all() and (
            table[metric] <= table[f"{metric}_ci_high"]
        ).all()
        assert (table[f"{metric}_ci_low"] < table[f"{metric}_ci_high"]).all()


def test_a_single_document_has_a_value_and_no_interval():
    table = fit.by_domain(scored(ROWS[:1]), PARAMS)
    assert table["bits_per_byte"].iat[0] == pytest.approx(2) and table["bits_per_byte_ci_low"].isna().all()


def test_delta_of_a_model_with_itself_is_0_and_at_the_reference_domain_of_any():
    one, other = scored(ROWS), scored([(d, i, [2 * b for b in bits], size) for d, i, bits, size in ROWS])
    assert (fit.delta(one, one, "law", PARAMS)[["delta", "delta_ci_low", "delta_ci_high"]] == 0).all(axis=None)
    table = fit.delta(other, one, "law", PARAMS).set_index("domain")
    assert table.loc["law", ["delta", "delta_ci_low", "delta_ci_high"]].tolist() == [0, 0, 0]
    assert table.loc["code", "delta"] == pytest.approx(4.8 - 0.8)
    back = fit.delta(one, other, "law", PARAMS).set_index("domain")
    assert back.loc["code", "delta"] == pytest.approx(-table.loc["code", "delta"])


@pytest.mark.parametrize(
    "rows, domain, said",
    [(ROWS[:3], "law", "same bytes of the same documents"), (ROWS, "poems", "no document is of 'poems'")],
)
def test_delta_without_its_terms_is_refused(rows, domain, said):
    with pytest.raises(ParameterError, match=said):
        fit.delta(scored(ROWS), scored(rows), domain, PARAMS)


def test_a_model_of_fewer_positions_reads_windows_of_so_many_and_the_caption_says_so(tiny_llama, llama2_folder):
    tok = loading.tokenizer(Weights(path=str(llama2_folder), revision=""))
    texts = ["The cat sat on the mat because it was warm and the dog was not there.", "Rain."]
    documents = pd.DataFrame({"domain": ["a", "b"], "id": ["1", "2"], "text": texts})
    settings = PARAMS.fit.model_copy(update={"window": 64, "stride": 32})
    wide, narrow = (tiny_llama(max_position_embeddings=n) for n in (4096, 12))
    assert fit.windows(wide, settings) == likelihood.Windows(64, 32)
    assert fit.windows(narrow, settings) == likelihood.Windows(12, 6)
    assert fit.windows(narrow, settings.model_copy(update={"stride": 1})) == likelihood.Windows(12, 1)
    assert fit.windows(narrow, PARAMS.fit) == likelihood.Windows(12, 0)
    scores = {name: fit.score(lm, tok, documents, settings, "") for name, lm in {"w": wide, "n": narrow}.items()}
    assert scores["n"]["n_tokens"].max() > 12 and scores["n"]["n_bytes"].tolist() == [len(text) for text in texts]
    assert fit.policies(scores) == "windows of 64 tokens, stride 32; n: windows of 12 tokens, stride 6"
    assert fit.policies({"w": scores["w"], "v": scores["w"]}) == "windows of 64 tokens, stride 32"


def test_models_of_different_tokenizers_compare_on_the_same_bytes_and_no_others(tiny_llama, llama2_folder):
    from families import tokenizer

    documents = pd.DataFrame({"domain": ["a", "b"], "id": ["1", "2"], "text": ["The cat sat on the mat.", "It rains."]})
    toks = loading.tokenizer(Weights(path=str(llama2_folder), revision="")), tokenizer("pythia")
    lms = [tiny_llama(vocab_size=len(tok)) for tok in toks]
    one, other = (fit.score(lm, tok, documents, PARAMS.fit, "") for lm, tok in zip(lms, toks))
    assert (one["n_tokens"] != other["n_tokens"]).any() and (one["n_bytes"] == other["n_bytes"]).all()
    assert fit.delta(other, one, "a", PARAMS)["delta"].tolist()[0] == 0
    short = PARAMS.fit.model_copy(update={"window": 3})
    cut = [fit.score(lm, tok, documents, short, "") for lm, tok in zip(lms, toks)]
    with pytest.raises(ParameterError, match="'fit.stride' above 0 where their tokenizers differ"):
        fit.delta(*cut, "a", PARAMS)


def test_documents_are_composed_and_lose_the_white_space_around_them():
    frame = pd.DataFrame({"domain": ["a"], "id": ["1"], "text": ["\n  cafe\u0301  noir\n"]})
    chosen, _ = fit.chosen(frame, PARAMS.fit, [], 13)
    assert chosen["text"].tolist() == ["caf\u00e9  noir"]


def test_loss_by_position_counts_the_documents_that_reach_it():
    table = fit.by_position(scored(ROWS), PARAMS).set_index(["domain", "position"])
    assert table.loc[("law", 0), ["n", "loss"]].tolist() == [2, pytest.approx(2.5 * math.log(2))]
    assert table.loc[("law", 2), ["n", "loss"]].tolist() == [1, pytest.approx(2 * math.log(2))]
    assert table.loc[("code", 0), "n"] == 2 and table.loc[("code", 2), "loss"] == pytest.approx(7 * math.log(2))


def test_documents_that_were_trained_on_and_empty_ones_are_left_out_and_counted():
    long = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    rows = [
        ("a", "1", long),
        ("a", "2", "  "),
        ("a", "3", "kept"),
        ("b", "4", "too"),
        ("b", "5", "also"),
        ("b", "6", "no"),
    ]
    frame = pd.DataFrame(rows, columns=["domain", "id", "text"])
    few = PARAMS.fit.model_copy(update={"max_characters": 1000, "documents": 2})
    chosen, left_out = fit.chosen(frame, few, [f"He said: {long}."], 13)
    assert chosen["id"].tolist() == ["3", "4", "5"] and left_out.to_dict() == {"a": 2, "b": 0}


@pytest.mark.parametrize(
    "text, characters, left",
    [
        ("one two three", 7, "one two"),
        ("one two three", 8, "one two"),
        ("one two three", 9, "one two"),
        ("one two", 7, "one two"),
        ("Wort" * 9, 5, "WortW"),
    ],
)
def test_a_text_is_cut_at_a_word(text, characters, left):
    assert fit.cut(text, characters) == left


@given(st.floats(0.1, 5), st.floats(-1, 1))
def test_what_a_model_costs_more_everywhere_is_no_delta_and_what_it_costs_more_in_one_domain_is(factor, more):
    """All documents cost `factor` more bits a byte, those of code `more` on top."""
    reference = scored(ROWS)
    added = reference["n_bytes"] * (factor + more * (reference["domain"] == "code")) * math.log(2)
    found = fit.delta(reference.assign(nats=reference["nats"] + added), reference, "law", PARAMS).set_index("domain")
    assert found.loc["code", ["delta", "delta_ci_low", "delta_ci_high"]].tolist() == pytest.approx([more] * 3, abs=1e-9)


def test_samples_are_bits_a_byte_of_each_document():
    frame = fit.samples(scored(ROWS))
    assert frame["value"].tolist() == pytest.approx([2.0, 0.5, 5.0, 4.0])
    assert frame[["dataset", "question"]].to_numpy().tolist() == [
        ["law", "1"],
        ["law", "2"],
        ["code", "3"],
        ["code", "4"],
    ]
    assert set(frame["metric"]) == {"bits_per_byte"}


@pytest.fixture
def checkpoints(tmp_path) -> pd.DataFrame:
    """Rows of two runs; the last checkpoint of each knows nothing (512 tokens as likely), the first is none."""
    rows = []
    for place, (run, seed) in enumerate([("mix-1", 1), ("mix-2", 2)]):
        model = ladder.LlamaForCausalLM(ladder.config(20_000, 512, 16))
        torch.nn.init.zeros_(model.get_input_embeddings().weight)
        model.save_pretrained(tmp_path / run / "last")
        tokenizer().save_pretrained(tmp_path / run / "last")
        facts = {"run": run, "seed": seed}
        rows += [facts | {"checkpoint": "last", "tokens": 900 + place}, facts | {"checkpoint": "none", "tokens": 100}]
    return pd.DataFrame(rows)


def test_of_checkpoints_the_last_of_each_run_is_scored_and_one_that_knows_nothing_costs_the_logarithm(
    tmp_path, checkpoints
):
    texts = ["def f1(x):\n    return x + 1\n" * 4, "The cat sat.\n"]
    documents = pd.DataFrame({"domain": ["code", "prose"], "id": ["1", "2"], "text": texts})
    found = fit.of_checkpoints(tmp_path, checkpoints, documents, PARAMS)
    assert list(zip(found["run"], found["seed"])) == [("mix-1", 1)] * 4 + [("mix-2", 2)] * 4
    assert found["domain"].tolist() == ["code", "prose", fit.MACRO, fit.POOLED] * 2
    ids = [tokenizer()(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert len(ids[0]) > 16, "longer than the models' context: read in windows"
    by_hand = [len(row) * math.log2(512) / len(text) for row, text in zip(ids, texts)]
    assert found["bits_per_byte"].tolist()[:2] == pytest.approx(by_hand, rel=1e-5)
    assert found["n_bytes"].tolist()[:2] == [len(text) for text in texts]
    assert found["perplexity"].tolist() == pytest.approx([512] * 8, rel=1e-4)
