"""Membership: it finds what a tiny model was really trained on, and nothing of what it was not."""

import math

import numpy as np
import pandas as pd
import pytest
from conftest import write_jsonl, write_rows
from hypothesis import given
from hypothesis import strategies as st

from s2utils.evaluation import membership_inference
from s2utils.evaluation.membership_inference import auc, min_k, twins
from s2utils.models import loading
from s2utils.workflow.params import ParameterError, load

WORDS = ("rain", "the cat", "the sun", "light", "a dog", "a cloud", "the mat", "water", "the sky", "colours")
WAYS = (2000, 0.95, 0)


def passages(n: int, seed: int) -> list[str]:
    """Texts of four short sentences each."""
    chance = np.random.default_rng(seed)
    verbs = ("was near", "chased", "made", "fell on", "saw", "became")
    parts = ("{} ", WORDS), ("{} ", verbs), ("{} and ", WORDS), ("{}. ", WORDS)
    return [
        "".join(form.format(chance.choice(words)) for _ in range(4) for form, words in parts).strip() for _ in range(n)
    ]


@pytest.fixture(scope="module")
def trained(tiny_llama, llama2_folder):
    """(a tiny Llama that read 16 passages a dozen times, its tokenizer, those passages, 32 it never read)."""
    import torch

    tok = loading.prepared(loading.AutoTokenizer.from_pretrained(llama2_folder))
    every = passages(48, 0)
    network = tiny_llama().train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    rows = [torch.tensor([tok(t)["input_ids"]]) for t in every[:16]]
    for _ in range(12):
        for row in rows:
            network(input_ids=row, labels=row).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return network.eval(), tok, every[:16], every[16:]


def summary_of(trained, read: list[str], unread: list[str], params) -> pd.DataFrame:
    """The summary of references that stand as evaluation texts and as controls, by test."""
    network, tok, *_ = trained
    same = {"dataset": "x", "kind": "reference", "n_tokens": 9}
    sides = (("evaluation", read), ("control", unread))
    rows = [same | {"role": role, "id": str(i), "text": text} for role, texts in sides for i, text in enumerate(texts)]
    scored = membership_inference.score(pd.DataFrame(rows), network, tok, params)
    return membership_inference.summary(scored, params).set_index("test")


@pytest.fixture
def params(tree):
    return load("smoke", "membership.shuffles=4")


def test_it_finds_what_was_trained_on(trained, params):
    *_, read, unread = trained
    found = summary_of(trained, read, unread[:16], params)
    assert found.at["min_k", "value"] > 0.8 and found.at["order_apart", "value"] > 0.1
    assert found.at["min_k", "verdict"] == found.at["order_apart", "verdict"] == "above"
    assert (found[["n", "n_failed", "n_control"]] == [16, 0, 16]).all(axis=None)


def test_a_special_token_that_a_text_names_is_scored_as_the_characters_it_is(trained):
    network, tok, *_ = trained
    (values,) = membership_inference.log_probs(network, tok, ["It is </s> here."])
    as_end = tok("It is </s> here.")["input_ids"]
    assert tok.eos_token_id in as_end and len(values) + 1 >= len(as_end) + 3


def one_by_one(network, tok, texts: list[str]) -> list[np.ndarray]:
    """`log_probs` by the model's own forward, a text at a time."""
    import torch

    found = []
    for text in texts:
        ids = torch.tensor([tok(text, split_special_tokens=True)["input_ids"]])
        with torch.inference_mode():
            known = network(ids).logits[0, :-1].float().log_softmax(-1)
        found.append(known.gather(1, ids[0, 1:, None])[:, 0].numpy())
    return found


def test_values_are_those_of_each_text_by_itself_and_so_is_the_table(trained, params, monkeypatch):
    network, tok, read, unread = trained
    texts = [*read, "", "Rain.", "<s> is </s>"]
    for ours, theirs in zip(membership_inference.log_probs(network, tok, texts), one_by_one(network, tok, texts)):
        assert ours.shape == theirs.shape and np.allclose(ours, theirs, rtol=0, atol=1e-5)
    found = summary_of(trained, read, unread[:16], params)
    monkeypatch.setattr(membership_inference, "log_probs", one_by_one)
    pd.testing.assert_frame_equal(found, summary_of(trained, read, unread[:16], params), rtol=0, atol=1e-6)


def test_nothing_to_score_is_nothing(trained):
    assert membership_inference.log_probs(*trained[:2], []) == []


def test_it_finds_nothing_in_what_was_not(trained, params):
    *_, unread = trained
    found = summary_of(trained, unread[:16], unread[16:], params)
    assert found.at["min_k", "ci_low"] < 0.5 < found.at["min_k", "ci_high"]
    assert found.at["min_k", "verdict"] == found.at["order_apart", "verdict"] == "can't tell"
    assert found.at["order", "verdict"] == ""  # it has no null


def test_min_k_is_the_mean_of_the_least_likely():
    values = -np.arange(10.0)
    assert [min_k(values, share) for share in (0.2, 0.01, 1)] == [-8.5, -9, values.mean()]
    assert math.isnan(min_k(np.empty(0), 0.2))


def test_twins_are_other_orders_of_the_same_sentences():
    text = "One is here. Two is there! Is three gone? Four."
    found = twins(text, 5, "0/x/1")
    assert len(set(found)) == 5 and text not in found
    assert all(sorted(t.split()) == sorted(text.split()) for t in found)
    assert twins("One. Two.", 5, "s") == ["Two. One."]
    assert twins("Only one.", 5, "s") == twins("Same. Same.", 2, "s") == []


def test_auc_at_its_limits():
    one, other = np.arange(10.0), np.arange(10.0) - 100
    assert auc(one, other, *WAYS) == pytest.approx((1, 1, 1)) and auc(other, one, *WAYS)[0] == 0
    value, low, high = auc(one, one, *WAYS)
    assert value == 0.5 and low < 0.5 < high
    assert auc([1.0], [0.0, math.nan], *WAYS) == pytest.approx((1, math.nan, math.nan), nan_ok=True)
    assert math.isnan(auc([], [1.0], *WAYS)[0])


@given(st.lists(st.integers(0, 5), min_size=2, max_size=9), st.lists(st.integers(0, 5), min_size=2, max_size=9))
def test_auc_is_the_rank_tests(one, other):
    from scipy.stats import mannwhitneyu

    value, low, high = auc(one, other, 100, 0.95, 0)
    assert value == pytest.approx(mannwhitneyu(one, other).statistic / len(one) / len(other))
    assert value == pytest.approx(1 - auc(other, one, 100, 0.95, 0)[0]) and 0 <= low <= high <= 1


def test_the_auc_interval_covers_what_it_should():
    """Two normal samples a standard deviation apart: AUC Φ(1/√2) = 0.760."""
    rng, inside = np.random.default_rng(0), 0
    for seed in range(200):
        _, low, high = auc(rng.normal(1, 1, 30), rng.normal(0, 1, 30), 300, 0.95, seed)
        inside += low <= 0.7602 <= high
    assert 180 <= inside <= 198


def test_controls_are_matched_in_length(llama2):
    seen = [("a", "The cat sat. " * 4), ("b", "The cat sat. " * 9), ("c", "The cat sat. " * 3)]
    unseen = [("k", "The cat sat. " * 6), ("l", "The cat sat. " * 3)]
    rows = membership_inference.paired(seen, unseen, llama2)
    assert [(r["role"][:4], r["id"]) for r in rows] == [("eval", "a"), ("cont", "l"), ("eval", "b"), ("cont", "k")]
    assert [r["text"].strip().count(".") for r in rows] == [3, 3, 6, 6]  # the longer one is cut at a sentence
    assert all(r["n_tokens"] == len(llama2(r["text"])["input_ids"]) for r in rows)
    text = "The cat sat there on the mat. It slept."
    assert membership_inference.paired([("a", text)], [("k", "So. It. Is.")], llama2)[0]["text"] == text, "two stay"


def test_questions_that_a_model_wrote_are_left_out(tree, tmp_path, llama2):
    folder, few = write_rows(tmp_path / "data", 4, 5), {"membership": {"n": 3}}
    params = load("smoke", few | {"data": {"sources": {"wikilead": {"kind": "qa"}}}})
    articles = load("smoke", few | {"data": {"sources": {"sciq": {"kind": "articles"}}}})
    found = membership_inference.texts(folder, llama2, params)
    found = found[found["dataset"] == "sciq"]
    counts = found.groupby(["kind", "role"]).size()
    assert counts.to_dict() == {(k, r): 3 for k in ("question", "reference") for r in ("control", "evaluation")}
    assert found[found["role"] == "evaluation"]["text"].str.startswith(("Why", "It was")).all()
    assert (found["n_tokens"] == [len(llama2(t)["input_ids"]) for t in found["text"]]).all()
    assert set(membership_inference.texts(folder, llama2, articles)["kind"]) == {"reference"}


def test_controls_are_turns_and_passages(tree):
    params = load("smoke")
    both = (membership_inference.controls(kind, params) for kind in ("question", "reference"))
    turns, passages = ([text for _, text in controls] for controls in both)
    assert (len(turns), len(passages)) == (120, 48)
    assert turns[0] == "How does a fridge keep food cold?"
    assert passages[0].startswith("A fridge moves heat out of the inside and into the room. A special fluid runs round")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own", "params/own.jsonl, line 2: a control needs 'turns'"),
        ("odd", "params/odd.jsonl, line 1: 'must_hold' must be lists of texts"),
        ("gone", "membership.control: there is no file params/gone.jsonl"),
    ],
)
def test_controls_that_cannot_be_used_are_named(tree, name, message):
    write_jsonl(tree / "params" / "own.jsonl", {"turns": ["Why?"]}, {})
    write_jsonl(tree / "params" / "odd.jsonl", {"turns": ["Why?"], "must_hold": ["Says so"]})
    with pytest.raises(ParameterError, match=message):
        membership_inference.controls("reference", load("smoke", f"membership.control=params/{name}.jsonl"))
