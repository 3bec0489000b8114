import pytest

from s2utils import llm, questions
from s2utils.params import Endpoint

TEXT = "Photosynthesis is how green plants make food from light."


@pytest.mark.parametrize(
    ("reply", "question"),
    [
        ("How do plants make food?", "How do plants make food?"),
        ("  How do plants make food?  \n", "How do plants make food?"),
        ("Question: How do plants make food?", "How do plants make food?"),
        ("Q: How do plants make food?", "How do plants make food?"),
        ('"How do plants make food?"', "How do plants make food?"),
        ("**Question:** How do plants make food?", "How do plants make food?"),
        ('Question: "How do plants make food?"', "How do plants make food?"),
        ("\n\nHow do plants make food?\nThis asks about plants.", "How do plants make food?"),
        ("What is PHOTOSYNTHESIS?", "What is PHOTOSYNTHESIS?"),
    ],
)
def test_a_good_reply_is_a_question(reply, question):
    assert questions.parse(reply, TEXT) == (question, "")


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
        ("What is the text about?", "shares no word with the text"),
        ("Who was Napoleon Bonaparte really?", "shares no word with the text"),
    ],
)
def test_a_bad_reply_has_its_reason(reply, reason):
    assert questions.parse(reply, TEXT) == ("", reason)


@pytest.mark.parametrize(("text", "question"), questions.EXAMPLES)
def test_the_worked_examples_pass_their_own_check(text, question):
    assert questions.parse(question, text) == (question, "")


def test_a_chat_alternates_and_ends_with_the_text():
    turns = questions.chat(questions.FIRST, TEXT)
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * len(questions.EXAMPLES) + ["user"]
    assert TEXT in turns[-1]["content"]


ENDPOINT = Endpoint("local", "m", "", "", "", 1, 1, 32, 0.0)


def test_a_bad_question_is_asked_for_again_in_other_words(monkeypatch, tmp_path):
    asked = []

    def ask(endpoint, chats, cache, *, seed, label, loaded):
        asked.append([chat[-1]["content"] for chat in chats])
        first = ["How do plants make food?", "No question.", "", "No question."]
        replies = first if len(asked) == 1 else ["How do plants use light?", "", "Still none."]
        return [{"text": reply, "ended": True, "error": "Timeout" if reply == "" else ""} for reply in replies]

    monkeypatch.setattr(llm, "ask", ask)
    found, reasons = questions.write(ENDPOINT, [TEXT] * 4, tmp_path / "c.jsonl", seed=1)
    assert found == ["How do plants make food?", "How do plants use light?", "", ""]
    assert reasons == ["", "", "no reply", "does not end in ?"]
    assert [len(chats) for chats in asked] == [4, 3]
    assert all(TEXT in chat for chats in asked for chat in chats) and asked[0][1] != asked[1][0]


def test_only_the_start_of_a_long_text_is_shown(monkeypatch, tmp_path):
    shown = []

    def ask(endpoint, chats, cache, **_):
        shown.extend(chat[-1]["content"] for chat in chats)
        return [{"text": "", "ended": True, "error": "x"} for _ in chats]

    monkeypatch.setattr(llm, "ask", ask)
    questions.write(ENDPOINT, ["{braces} " + "§" * 9000], tmp_path / "c.jsonl", seed=1)
    assert len(shown) == 2
    assert all("{braces}" in prompt and 0 < prompt.count("§") <= questions.CUT for prompt in shown)
