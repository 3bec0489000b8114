"""Chats in a tokenizer's own template, also where the template knows no system role.

What the system says then stands in front of the first user turn, as Gemma's makers advise. Trap: a template may refuse
the role, or leave the text out without a word, so what was rendered is searched for it.
"""

from __future__ import annotations

import functools

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from s2utils.models import special_tokens
from s2utils.workflow.params import ParameterError


def rendered(messages: list[dict], tok: PreTrainedTokenizerBase) -> str:
    """`messages` ({role, content}) in the chat template, ready for the model's answer; their special tokens are marked.

    ParameterError where there is no template or it refuses the chat. That system text was moved is said once.
    """
    if not tok.chat_template:
        raise ParameterError(
            f"the tokenizer of {tok.name_or_path} has no chat template: set model.template to human_assistant, or "
            "take a model that comes with one"
        )
    messages = [message | {"content": special_tokens.marked(message["content"], tok)} for message in messages]
    system = [message["content"] for message in messages if message["role"] == "system"]
    try:
        rendered = _filled(messages, tok)
    except ParameterError:
        if not system:
            raise
    else:
        if all(_words(text) in _words(rendered) for text in system):
            return rendered
    _say_moved(tok.name_or_path)
    return _filled(_without_system(messages, system), tok)


def _filled(messages: list[dict], tok: PreTrainedTokenizerBase) -> str:
    try:
        return tok.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        raise ParameterError(f"the chat template of {tok.name_or_path} refuses the roles {roles}: {error}") from error


def _without_system(messages: list[dict], system: list[str]) -> list[dict]:
    """The chat with what the system says in front of the first user turn."""
    rest = [message for message in messages if message["role"] != "system"]
    if not rest or rest[0]["role"] != "user":
        rest.insert(0, {"role": "user", "content": ""})
    first = "\n\n".join(text for text in (*system, rest[0]["content"]) if text)
    return [rest[0] | {"content": first}, *rest[1:]]


def _words(text: str) -> str:
    """`text` with one blank between words: a template may strip what it shows."""
    return " ".join(text.split())


@functools.cache
def _say_moved(name: str) -> None:
    print(f"the chat template of {name} shows no system text: it stands in front of the first user turn instead")
