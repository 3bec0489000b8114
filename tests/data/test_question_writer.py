import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.data import question_writer
from s2utils.data.parameters import Questions
from s2utils.models import llm
from s2utils.workflow import params

TEXT = "Photosynthesis is how green plants make food from light."
ALBANY = (
    "Albany is the capital city of the U.S. state of New York, the seat of Albany County. "
    "It lies on the Hudson River, and about 100,000 people live there."
)


@pytest.mark.parametrize(
    "reply",
    [
        "{}", "  {}  \n", "Question: {}", "Q: {}", '"{}"', "**Question:** {}", 'Question: "{}"',
        "\n\n{}\nThis asks about plants.",
    ],
)  # fmt: skip
@pytest.mark.parametrize("question", ["How do plants make food?", "What is PHOTOSYNTHESIS?"])
def test_a_good_reply_is_a_question(reply, question):
    assert question_writer.parse(reply.format(question), TEXT) == (question, "")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "empty reply"),
        ("  \n \n", "empty reply"),
        ('""', "empty reply"),
        ("Question:", "empty reply"),
        ("Plants make food from light.", "does not end in ?"),
        ("How do plants make food? They use light.", "does not end in ?"),
        ("How do plants eat? What is light?", "more than one question"),
        ("Plants eat?", "too short or too long"),
        ("Why " + "green " * 40 + "plants?", "too short or too long"),
        ("What is this text about?", "speaks of the text"),
        ("What do plants do in the given passage?", "speaks of the text"),
        ("What do plants make according to the author?", "speaks of the text"),
        ("How do plants make food in the second paragraph?", "speaks of the text"),
        ("What is the answer to this question?", "speaks of the text"),
        ("What does it say about that?", "shares no word with the text"),
        ("Who was Napoleon Bonaparte really?", "shares no word with the text"),
    ],
)
def test_a_bad_reply_has_its_reason(reply, reason):
    assert question_writer.parse(reply, TEXT) == ("", reason)


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("Where is the goto statement used, according to Dijkstra?", "Dijkstra wrote against the goto statement."),
        ("What is Mudvayne's genre?", "Mudvayne was a heavy metal band from Illinois."),
        ("What is the M60?", "The M60 is a machine gun."),
        ("Who is Lu Han and what is his background?", "Lù Hán (born 1990) is a singer."),
        *((question, text) for text, question in question_writer.EXAMPLES),
    ],
)
def test_a_question_that_names_its_subject_is_in_form_and_gives_nothing_away(question, text):
    assert question_writer.parse(question, text) == (question, "")
    assert not question_writer.gives_away(question, text, 5)


@pytest.mark.parametrize(
    ("question", "words", "given"),
    [
        ("What is the capital city of the U.S. state of New York?", 13, False),
        ("What is the capital city of the U.S. state of New York?", 12, True),  # from "is" to "York"
        ("What IS the capital-city, of the 'U.S.' state of New York?", 12, True),  # case and punctuation do not count
        ("What is Albany?", 2, False),
        ("Is Albany, the capital city of New York state, on the Hudson River in Albany County?", 9, True),
        (
            "Which capital city, seat of a county, lies on the Hudson in the state of New York where people live?",
            9,
            True,
        ),
        ("Why?", 1, False),
        ("", 3, False),
    ],
)
def test_a_question_that_tells_what_it_asks_gives_the_answer_away(question, words, given):
    assert question_writer.gives_away(question, ALBANY, words) is given


def test_a_text_of_few_words_may_be_asked_for_with_half_of_them():
    assert not question_writer.gives_away("How do green plants make food?", TEXT, 5)  # TEXT has six words of content
    longer = "How do green plants make their food from water, air and light?"
    assert question_writer.gives_away(longer, "Green plants make food from light, water and air everywhere.", 9)


@given(st.text(max_size=200), st.text(max_size=300), st.integers(1, 12))
def test_any_reply_has_a_question_or_a_reason(reply, text, words):
    for raw in (reply, reply + "?", f"What is {text[:40]}?"):
        question, reason = question_writer.parse(raw, text)
        assert bool(question) != bool(reason)
        if question:
            assert question.endswith("?") and question.count("?") == 1 and "\n" not in question
            assert question_writer.parse(question, text) == (question, "")  # a checked question stays one
        assert isinstance(question_writer.gives_away(raw, text, words), bool)


@given(st.lists(st.sampled_from(["sun", "moon", "star", "comet"]), min_size=3, max_size=9))
def test_repeating_a_whole_text_gives_it_away(words):
    text = " ".join(words)
    assert question_writer.gives_away(f"Is it true: {text}?", text, len(words))
    assert not question_writer.gives_away(f"Is it true: {text}?", text, len(words) + 1)


def test_a_chat_alternates_and_ends_with_the_text():
    turns = question_writer.chat(question_writer.FIRST, TEXT)
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * len(question_writer.EXAMPLES) + ["user"]
    assert TEXT in turns[-1]["content"]


WRITER = params.load("cpu").questions.writer
SETTINGS = Questions(writer=WRITER, similarity_min=0.3, copied_words=8)


@pytest.fixture
def write(monkeypatch, tmp_path):
    """Write with replies that are given: one list an attempt; None is a failed request. Returns what was asked, too."""

    def write(texts, *attempts, **options):
        asked, left = [], list(attempts)

        def ask(endpoint, chats, cache, *, seed, label, local):
            asked.append([chat[-1]["content"] for chat in chats])
            assert endpoint is WRITER and len(chats) == len(left[0])
            return [{"text": r or "", "ended": True, "error": "" if r is not None else "Timeout"} for r in left.pop(0)]

        monkeypatch.setattr(llm, "ask", ask)
        return asked, *question_writer.write(SETTINGS, texts, tmp_path / "c.jsonl", seed=1, **options)

    return write


def test_a_bad_question_is_asked_for_again_in_other_words(write):
    asked, questions, reasons, history = write(
        [TEXT] * 4,
        ["How do plants make food?", "No question.", None, "No question."],
        ["How do plants use light?", None, "Still none."],
    )
    assert questions == ["How do plants make food?", "How do plants use light?", "", ""]
    assert reasons == ["", "", "no reply", "does not end in ?"]
    assert [len(chats) for chats in asked] == [4, 3]
    assert all(TEXT in chat for chats in asked for chat in chats) and asked[0][1] != asked[1][0]
    assert set(history.itertuples(index=False, name=None)) == {
        (1, "", 1), (1, "does not end in ?", 2), (1, "no reply", 1),
        (2, "", 1), (2, "does not end in ?", 1), (2, "no reply", 1),
    }  # fmt: skip


def test_a_question_that_gives_the_answer_away_is_asked_for_again(write):
    copied = "Is it true that Albany is the capital city of the U.S. state of New York?"
    first = [copied, "What is Albany?", "How do plants make food?"]
    _, questions, reasons, history = write([ALBANY, ALBANY, TEXT], first, ["Where does Albany lie?"])
    assert questions == ["Where does Albany lie?", *first[1:]] and reasons == [""] * 3
    assert history.values.tolist() == [[1, "", 2], [1, "gives the answer away", 1], [2, "", 1]]


def test_a_question_far_from_its_text_is_refused(write):
    near = {TEXT: (1, 0), "How do plants make food?": (0.3, 0.954), "How do plants eat?": (1, 0)}
    seen = []

    def embed(texts: list[str]) -> np.ndarray:
        seen.append(texts)
        return np.array([near.get(text, (0.29, 0.957)) for text in texts])

    replies = ["How do plants make food?", "What is green?", "No."], ["What is plain green?", "How do plants eat?"]
    _, questions, reasons, _ = write([TEXT] * 3, *replies, embed=embed)
    assert questions == ["How do plants make food?", "", "How do plants eat?"]
    assert reasons == ["", "not about the text", ""]
    assert [len(texts) for texts in seen] == [4, 4]  # what is not in form is not embedded


def test_a_vector_that_is_not_a_number_passes_nothing(write):
    question = ["How do plants make food?"]
    _, questions, reasons, _ = write([TEXT], question, question, embed=lambda texts: np.full((len(texts), 2), np.nan))
    assert (questions, reasons) == ([""], ["not about the text"])


def test_nothing_to_ask(write):
    asked, questions, reasons, history = write([])
    assert asked == questions == reasons == [] and history.empty and list(history) == ["attempt", "reason", "n"]


def test_only_the_start_of_a_long_text_is_shown(write):
    asked, *_ = write(["{braces} " + "§" * 9000], [None], [None])
    prompts = [prompt for chats in asked for prompt in chats]
    assert len(prompts) == 2
    assert all("{braces}" in prompt and 0 < prompt.count("§") <= question_writer.CUT for prompt in prompts)


def test_the_limits_let_the_studys_own_questions_pass(sample):
    pairs = pd.read_csv(sample("samples/simple_wiki_qa_validation.csv"))
    formed = [question_writer.parse(q, t)[1] == "" for q, t in zip(pairs["question"], pairs["trunc_text"])]
    given = [question_writer.gives_away(q, t, 14) for q, t in zip(pairs["question"], pairs["trunc_text"])]
    assert np.mean(formed) > 0.99 and np.mean(given) < 0.01
