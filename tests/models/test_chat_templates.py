import pytest
from families import CHATML, HEADERS, TURNS, tokenizer

from s2utils.models import chat_templates, loading
from s2utils.workflow.params import ParameterError

SILENT = (  # leaves the system role out without a word
    "{% for m in messages if m.role != 'system' %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant] "
)
ASKED = [{"role": "system", "content": "Be kind.\nAnswer briefly."}, {"role": "user", "content": "Why?"}]


def tok_with(template: str, kind: str = "gemma", name: str = "someone/model"):
    tok = loading.prepared(tokenizer(kind))
    tok.chat_template, tok.name_or_path = template, name
    return tok


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        (TURNS, "<bos><start_of_turn>user\nBe kind.\nAnswer briefly.\n\nWhy?<end_of_turn>\n<start_of_turn>model\n"),
        (SILENT, "[user] Be kind.\nAnswer briefly.\n\nWhy?\n[assistant] "),
    ],
)
def test_without_a_system_role_its_text_stands_in_front_of_the_first_user_turn_which_is_said_once(
    template, wanted, capsys
):
    tok = tok_with(template, name=f"refusing-{len(template)}")
    assert chat_templates.rendered(ASKED, tok) == wanted
    moved = "shows no system text: it stands in front of the first user turn instead"
    assert capsys.readouterr().out == f"the chat template of {tok.name_or_path} {moved}\n"
    assert chat_templates.rendered(ASKED, tok) == wanted and capsys.readouterr().out == ""
    assert ASKED[1]["content"] == "Why?", "the chat that was given stays as it is"


@pytest.mark.parametrize(("template", "kind"), [(HEADERS, "llama3"), (CHATML, "qwen2")])
def test_a_template_with_a_system_role_keeps_it(template, kind, capsys):
    text = chat_templates.rendered(ASKED, tok_with(template, kind))
    assert text.index("system") < text.index("Be kind.\nAnswer briefly.") < text.index("user") < text.index("Why?")
    assert capsys.readouterr().out == ""


def test_all_turns_stay_where_the_system_text_moves(capsys):
    said = (("user", "Why?"), ("assistant", "So."), ("user", "How?"))
    turns = [{"role": role, "content": content} for role, content in said]
    assert loading.chat_prompt(turns, tok_with(SILENT, name="two-turns"), "Be kind.") == (
        "[user] Be kind.\n\nWhy?\n[assistant] So.\n[user] How?\n[assistant] "
    )
    alone = chat_templates.rendered([{"role": "system", "content": "Say it."}], tok_with(SILENT, name="alone"))
    assert alone == "[user] Say it.\n[assistant] "


def test_a_chat_that_a_template_refuses_for_another_reason_is_an_error_that_names_it():
    tok = tok_with("{{ raise_exception('Roles must alternate') }}", name="strict")
    message = "the chat template of strict refuses the roles user: Roles must alternate"
    for chat in (ASKED, ASKED[1:]):
        with pytest.raises(ParameterError, match=message):
            chat_templates.rendered(chat, tok)
    with pytest.raises(ParameterError, match="tokenizer of plain has no chat template: set model.template"):
        chat_templates.rendered(ASKED, tok_with("", name="plain"))
