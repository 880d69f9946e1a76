"""Fields that an endpoint refuses, that a user adds, and what is left as it is."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from rudder.agents.llm.endpoint import Endpoint
from rudder.agents.llm.errors import RefusedError
from rudder.agents.llm.messages import Mode, Question, Reply, ToolForm
from rudder.agents.llm.openai_chat import OpenAIChat
from rudder.bench.model_server.scripted_server import (
    CallTool,
    ChatRequest,
    Fail,
    Say,
    ScriptedServer,
    Step,
)
from tests.agents.llm.conftest import Serve

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "rows": {"type": "integer", "minimum": 0, "maximum": 9},
        "maximum": {"type": "number"},
    },
    "required": ["rows"],
    "additionalProperties": False,
}
QUESTION = Question(
    role="planner",
    system="You plan.",
    user="How many rows?",
    tools=(ToolForm(name="set", description="Sets rows.", parameters=SCHEMA),),
    schema_=SCHEMA,
)


BOUNDS = "For 'integer' type, properties maximum, minimum are not supported"


def ask(server: ScriptedServer, *, times: int = 2, mode: Mode = "tools", **told: Any) -> OpenAIChat:
    chat = OpenAIChat(Endpoint.of(server.url, model="m", environment={}, **told))

    async def run() -> Reply:
        for _ in range(times):
            reply = await chat.complete(QUESTION, mode=mode)
        await chat.close()
        return reply

    reply = asyncio.run(run())
    assert reply.calls or reply.text
    return chat


def test_a_property_that_is_named_as_a_bound_stays(serve: Serve) -> None:

    def script(request: ChatRequest) -> Step:
        bounded = '"maximum": 9' in json.dumps(request.body)
        return Fail("400", text=BOUNDS) if bounded else CallTool([("set", "{}")])

    server = serve(script)
    ask(server)
    parameters = server.requests[-1].body["tools"][0]["function"]["parameters"]
    assert parameters["properties"] == {"rows": {"type": "integer"}, "maximum": {"type": "number"}}


def test_a_refusal_that_no_field_explains_is_told_in_the_servers_words_and_nothing_is_remembered(
    serve: Serve,
) -> None:
    answers: list[Step] = [Fail("400", text="the key sk-planted is over its quota")] * 20
    server = serve(answers)
    with pytest.raises(RefusedError) as caught:
        ask(server)
    assert caught.value.words == "the key *** is over its quota"
    assert "quota" not in caught.value.message
    tried = len(server.requests)
    answers[:] = [Say("{}")] * 30
    assert ask(server).request_changes == ()
    assert "max_tokens" in server.requests[tried].body


@pytest.mark.parametrize("status", ["401", "500", "429"])
def test_other_failures_are_not_asked_again(status: Any, serve: Serve) -> None:
    server = serve([Fail(status, text="temperature")])
    with pytest.raises(Exception, match="endpoint"):
        ask(server)
    assert len(server.requests) == 1


def test_extra_fields_have_the_last_word(serve: Serve) -> None:
    server = serve([Say("{}")])
    ask(server, extra='{"temperature": 0.7, "reasoning_effort": "low"}', answer_tokens=4096)
    body = server.requests[-1].body
    assert (body["temperature"], body["reasoning_effort"]) == (0.7, "low")
    assert body["max_tokens"] == 4096


def test_a_query_in_the_address_stays_behind_the_path(serve: Serve) -> None:
    server = serve([Say("{}")])
    endpoint = Endpoint.of(f"{server.url}/?api-version=2024-10-21", model="m", environment={})
    asyncio.run(OpenAIChat(endpoint).complete(QUESTION, mode="text"))
    assert server.requests[0].path == "/v1/chat/completions?api-version=2024-10-21"
