"""Bodies of chat completions, as servers differ in them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rudder.agents.llm.completion import read_completion
from rudder.agents.llm.errors import InvalidAnswerError
from rudder.agents.llm.messages import Question, Reply

QUESTION = Question(role="probe", system="s", user="u", tools=(), schema_={})


def read(message: Any, **others: Any) -> Reply:
    body = {"choices": [{"message": message, "finish_reason": "stop"}], **others}
    return read_completion(json.dumps(body).encode(), question=QUESTION, mode="text")


def test_content_may_come_in_parts() -> None:
    parts = [
        {"type": "text", "text": '{"a":'},
        {"type": "thinking"},
        {"type": "text", "text": "1}"},
    ]
    assert read({"content": parts}).text == '{"a":1}'


def test_arguments_may_be_an_object() -> None:
    call = {"function": {"name": "set", "arguments": {"rows": 9}}}
    assert read({"content": None, "tool_calls": [call]}).calls[0].arguments == '{"rows": 9}'


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": -1, "completion_tokens": 3}, "many"])
def test_counts_that_make_no_sense_are_estimated(usage: Any) -> None:
    assert read({"content": "x"}, usage=usage).usage.source == "estimated"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"[" * 10_000, b'{"choices": [{"message": {"content": 7}}]}']
)
def test_another_body_is_no_chat_completion(body: bytes) -> None:
    with pytest.raises(InvalidAnswerError, match="envelope"):
        read_completion(body, question=QUESTION, mode="text")
