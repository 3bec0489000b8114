import pytest
from conftest import CORPUS, OTHER
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from s2utils.models import likelihood
from s2utils.training import byte_bpe

TEXTS = [*CORPUS, *(f"word{i} and the {i * i} cats\n    return {i}\n" for i in range(400))]
HARD = [
    "",
    " ",
    "\r\n\t x  ",
    "e\u0301 ﬁ \u00a0\ufeff",
    "\x00\x7f",
    "🙂‍🙂",
    f"a{byte_bpe.DOCUMENT}b {byte_bpe.PADDING}",
]


@pytest.fixture(scope="module")
def tok():
    return byte_bpe.train(TEXTS, 520)


def test_training_is_the_same_each_time(tok):
    again = byte_bpe.train(iter(TEXTS), 520)
    assert tok.backend_tokenizer.to_str() == again.backend_tokenizer.to_str() and len(tok) == 520


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_comes_back_and_its_tokens_have_its_bytes(tok, text):
    assert likelihood.encoded(tok, [text]) == byte_bpe.ids([text], tok)
    (row,) = byte_bpe.ids([text], tok)
    assert byte_bpe.token_bytes(tok)[row].sum() == len(text.encode())


def test_hard_texts_come_back_special_tokens_among_them(tok):
    texts = [*HARD, *OTHER.values()]
    assert likelihood.encoded(tok, texts) == byte_bpe.ids(texts, tok)
    assert not any({tok.bos_token_id, tok.pad_token_id} & set(row) for row in byte_bpe.ids(texts, tok))


def test_a_document_begins_and_ends_with_a_token_of_no_bytes(tok):
    assert tok("cat")["input_ids"] == [tok.bos_token_id, *byte_bpe.ids(["cat"], tok)[0]]
    assert tok.bos_token_id == tok.eos_token_id == 0 and tok.pad_token_id == 1
    assert byte_bpe.token_bytes(tok)[:2].tolist() == [0, 0] and (byte_bpe.token_bytes(tok)[2:258] == 1).all()


def test_what_is_saved_is_loaded_as_it_was(tok, tmp_path):
    tok.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.backend_tokenizer.to_str() == tok.backend_tokenizer.to_str()
    assert likelihood.encoded(loaded, HARD) == likelihood.encoded(tok, HARD)


def test_learnt_words_are_one_token(tok):
    assert len(byte_bpe.ids([" cats"], tok)[0]) == 1 < len(byte_bpe.ids([" zebra"], tok)[0])


def test_a_tokenizer_that_normalises_is_refused(llama2_folder):
    from tokenizers import normalizers

    lossy = byte_bpe.train(TEXTS, 512)
    lossy.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(likelihood.BytesError, match=r"text 1: .* \(character 4: 'Cat' comes back as 'cat'\)"):
        likelihood.encoded(lossy, ["the cat", "the Cat"])
    with pytest.raises(likelihood.BytesError, match="text 0"):
        likelihood.encoded(AutoTokenizer.from_pretrained(llama2_folder), ["  two spaces in front"])


def test_half_a_surrogate_pair_is_named(tok):
    with pytest.raises(likelihood.BytesError, match="text 2, character 1"):
        likelihood.encoded(tok, ["a", "b", "c\ud800"])


@pytest.mark.parametrize(("size", "told"), [(511, "512 to"), (70_000, "512 to"), (5_000, "bear a vocabulary of")])
def test_a_vocabulary_that_cannot_be_is_refused(size, told):
    with pytest.raises(ValueError, match=told):
        byte_bpe.train(TEXTS, size)
