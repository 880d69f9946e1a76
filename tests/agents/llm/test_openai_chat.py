"""Answers of an endpoint, as servers differ in them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from rudder.agents.llm.endpoint import Endpoint
from rudder.agents.llm.errors import InvalidAnswerError
from rudder.agents.llm.messages import Question, Reply
from rudder.agents.llm.openai_chat import OpenAIChat
from rudder.bench.model_server.scripted_server import Send, completion
from tests.agents.llm.conftest import Serve

QUESTION = Question(role="probe", system="s", user="u", tools=(), schema_={})


def read(serve: Serve, body: bytes) -> Reply:
    async def run() -> Reply:
        chat = OpenAIChat(Endpoint.of(serve([Send(body)]).url, model="m", environment={}))
        try:
            return await chat.complete(QUESTION, mode="text")
        finally:
            await chat.close()

    return asyncio.run(run())


def body(message: dict[str, Any], **others: Any) -> bytes:
    told = completion({"role": "assistant", "content": None, **message})
    return json.dumps({**told, **others}).encode()


def test_content_may_come_in_parts(serve: Serve) -> None:
    parts = [
        {"type": "text", "text": '{"a":'},
        {"type": "thinking"},
        {"type": "text", "text": "1}"},
    ]
    assert read(serve, body({"content": parts})).text == '{"a":1}'


@pytest.mark.parametrize("role", ["model", "user", "tool", "", None])
def test_a_choice_s_message_is_the_model_s_whatever_role_it_has(role: str, serve: Serve) -> None:
    reply = read(serve, body({"content": "yes", "role": role}))
    assert (reply.text, reply.usage.source) == ("yes", "server")


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [('{"a":1,"a":2}', '{"a":1,"a":2}'), ({"rows": 9}, '{"rows": 9}'), (None, None), ("", "")],
)
def test_arguments_are_kept_as_they_came(arguments: Any, kept: str | None, serve: Serve) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "set", "arguments": arguments}}
    [found] = read(serve, body({"tool_calls": [call]})).calls
    assert (found.name, found.arguments) == ("set", kept)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"prompt_tokens": -1, "completion_tokens": 3},
        {"prompt_tokens": 9, "completion_tokens": 1.01, "total_tokens": 10},
        {"prompt_tokens": [], "completion_tokens": 3, "total_tokens": 3},
    ],
)
def test_counts_that_make_no_sense_are_estimated(usage: Any, serve: Serve) -> None:
    assert read(serve, body({"content": "x"}, usage=usage)).usage.source == "estimated"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"null",
        b'"text"',
        b"[" * 10_000,
        b'{"choices": []}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": {"role": "assistant", "content": 7}}]}',
        body({"content": "x"}, usage="many"),
        body({"tool_calls": "none"}),
    ],
)
def test_another_body_is_no_chat_completion(answer: bytes, serve: Serve) -> None:
    with pytest.raises(InvalidAnswerError, match="envelope"):
        read(serve, answer)
