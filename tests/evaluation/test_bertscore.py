"""BERTScore: its limits, and that a pair's value is its own, whatever stands beside it."""

import functools

import pandas as pd
import pytest
from conftest import OTHER
from hypothesis import given, settings
from hypothesis import strategies as st

from s2utils.evaluation import bertscore
from s2utils.models import loading
from s2utils.models.parameters import Weights

TEXT = "The sun is hot. It gives us light in the day.\nAt night we see the moon."
MINILM = Weights(path="embedded:all-minilm-l6-v2", revision="")


@pytest.fixture(scope="module")
def scored() -> tuple[pd.DataFrame, dict]:
    answers = [TEXT, "The moon is cold.", "I bake bread at home.", "", "  ", "word " * 700, TEXT]
    references = [TEXT, "The moon is a cold place.", "The moon is a cold place.", TEXT, TEXT, TEXT, ""]
    return bertscore.score(answers, references, MINILM, 6, "cpu")


def test_bertscore_of_a_text_with_itself_is_1_and_it_ranks_by_meaning(scored):
    frame = scored[0]
    assert frame.iloc[0].tolist() == pytest.approx([1, 1, 1], abs=1e-4)
    precision, recall, f1 = (frame[column].dropna() for column in bertscore.COLUMNS)
    assert 1 > f1[1] > f1[2] + 0.1
    assert f1.tolist() == pytest.approx((2 * precision * recall / (precision + recall)).tolist(), abs=1e-5)


def test_an_empty_answer_has_no_bertscore_and_does_not_shift_the_others(scored):
    frame, facts = scored
    assert frame.isna().all(axis=1).tolist() == [False, False, False, True, True, False, True]
    assert facts["bertscore_texts_cut"] == 1
    assert facts["bertscore_hash"].startswith("embedded:all-minilm-l6-v2_L6_")
    alone, _ = bertscore.score(["word " * 700], [TEXT], MINILM, 6, "cpu")
    assert alone.iloc[0].tolist() == pytest.approx(frame.iloc[5].tolist(), abs=1e-4)
    frame, facts = bertscore.score([""], [TEXT], MINILM, 6, "cpu")
    assert frame.isna().all().all() and facts["bertscore_texts_cut"] == 0


NOTHING = ["\u200b", "\u200b \ufeff", ""]  # no token of it is left


def test_texts_in_other_letters_and_without_a_token_have_failed_and_are_counted():
    texts = [TEXT, *OTHER.values(), *NOTHING]
    frame, facts = bertscore.score(texts, texts, MINILM, 6, "cpu")
    assert frame["bertscore_f1"].notna().tolist() == [True] + [False] * (len(texts) - 1)
    assert facts["bertscore_texts_undefined"] == len(texts) - 1
    assert f"{len(texts) - 1} without a token" in bertscore.told(facts)
    mixed, facts = bertscore.score([OTHER["Thai"], TEXT], [TEXT, OTHER["Thai"]], MINILM, 6, "cpu")
    assert mixed.isna().all(axis=None) and facts["bertscore_texts_undefined"] == 1
    _, facts = bertscore.score([TEXT], [TEXT], MINILM, 6, "cpu")
    assert bertscore.told(facts) == "0 texts over 512 tokens."


def test_an_encoder_that_has_read_other_letters_scores_them():
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    def tokenizer(words: str) -> PreTrainedTokenizerFast:
        vocab = {word: i for i, word in enumerate(["[UNK]", *words.split()])}
        backend = Tokenizer(WordLevel(vocab, unk_token="[UNK]"))
        backend.pre_tokenizer = Whitespace()
        return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")

    english, many = tokenizer("the sun is a star and so on for ever more"), tokenizer("the sun солнце это звезда")
    texts = ["the sun", "солнце это звезда", "", " "]
    assert bertscore.latin_only(english) and not bertscore.latin_only(many)
    assert bertscore.defined(english, texts) == {"the sun"} and bertscore.defined(many, texts) == set(texts[:2])


def test_a_byte_level_encoder_sees_the_first_word_like_any_other():
    """bert_score asks RoBERTa's tokenizer for a prefix space, which transformers 5 ignores."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import PreTrainedTokenizerFast

    letters = {c: i for i, c in enumerate(["<unk>", "Ġ", *"icefloat"]) if c}
    backend = Tokenizer(BPE(vocab={c: i for i, c in enumerate(dict.fromkeys(letters))}, merges=[], unk_token="<unk>"))
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tok = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert tok.tokenize("ice")[0] == "i"
    bertscore.restore_prefix_space(tok)
    assert tok.tokenize("ice")[0] == "Ġ"


ANSWERS = [TEXT, "Zebras!", "word " * 60, "The moon is cold.", "!", "7 8 9 10"]
REFERENCES = ["The moon is a cold place.", "?!", "Bread is baked at home, slowly.", TEXT, "word", "the cat sat"]


one_encoder = functools.cache(lambda: bertscore.encoder(MINILM, 6, "cpu"))


def score(answers: list[str], references: list[str]) -> list[list[float]]:
    return bertscore.matched(one_encoder(), answers, references).to_numpy().tolist()


def test_a_pair_has_the_librarys_value_for_the_pair_alone():
    from bert_score import score as theirs

    path, _ = loading.located(MINILM)
    alone = theirs(ANSWERS, REFERENCES, model_type=path, num_layers=6, batch_size=1)
    ours = score(ANSWERS, REFERENCES)
    assert ours == [pytest.approx(row, abs=5e-7) for row in zip(*(part.tolist() for part in alone))]


@settings(max_examples=15)
@given(st.lists(st.tuples(st.sampled_from(ANSWERS), st.sampled_from(REFERENCES)), min_size=1, max_size=5))
def test_a_pairs_value_does_not_depend_on_its_neighbours(pairs):
    together = score(*map(list, zip(*pairs)))
    assert together == [pytest.approx(score([a], [r])[0], abs=5e-7) for a, r in pairs]


def test_each_text_is_encoded_once(monkeypatch):
    seen = []

    def encode(texts, *args, **options):
        seen.extend(texts)
        return get_bert_embedding(texts, *args, **options)

    get_bert_embedding = bertscore.get_bert_embedding
    monkeypatch.setattr(bertscore, "get_bert_embedding", encode)
    found = score(ANSWERS * 3, REFERENCES * 3)
    assert sorted(seen) == sorted([*ANSWERS, *REFERENCES]) and found[:6] == found[12:]
