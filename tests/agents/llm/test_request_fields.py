"""Endpoints that refuse fields, as public trackers report them: each is asked until it answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
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
Body = dict[str, Any]


def refusing(*rules: tuple[Callable[[Body], bool], str], fault: Any = "400") -> Any:
    """A server that refuses a request for the first rule that holds, with the rule's words."""

    def script(request: ChatRequest) -> Step:
        for is_wrong, words in rules:
            if is_wrong(request.body):
                return Fail(fault, text=words)
        return CallTool([("set", "{}")]) if request.tools else Say("{}")

    return script


def function(body: Body) -> Body:
    found: Body = body["tools"][0]["function"] if "tools" in body else body["response_format"]
    return found


def has_bounds(body: Body) -> bool:
    return '"maximum": 9' in json.dumps(body)


def bare_limit(body: Body) -> bool:
    return "max_tokens" in body


PERSONAS = {
    "both limits": refusing(
        (
            lambda body: {"max_tokens", "max_completion_tokens"} <= body.keys(),
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
        )
    ),
    "mistral": refusing(
        (lambda body: "max_completion_tokens" in body, "Extra inputs: max_completion_tokens"),
        fault="422",
    ),
    "o-series": refusing(
        (bare_limit, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
        (lambda body: "temperature" in body, "Unsupported value: 'temperature' does not support 0"),
        (
            lambda body: "parallel_tool_calls" in body,
            "Unsupported parameter: 'parallel_tool_calls'",
        ),
    ),
    "thinking": refusing(
        (lambda body: "tool_choice" in body, "Thinking mode does not support this tool_choice")
    ),
    "anthropic": refusing(
        (lambda body: "strict" in json.dumps(body), "tools.0.strict: Extra inputs"),
        (has_bounds, "For 'integer' type, properties maximum, minimum are not supported"),
    ),
    "newest gpt": refusing(
        (bare_limit, "'max_tokens' is not supported, use 'max_completion_tokens'"),
        (
            lambda body: "tools" in body and body.get("reasoning_effort") != "none",
            "Function tools with reasoning_effort are not supported for this model.",
        ),
    ),
    "silent": refusing(
        (lambda body: "parallel_tool_calls" in body or has_bounds(body), "invalid request")
    ),
}


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


@pytest.mark.parametrize("mode", ["tools", "structured", "text"])
@pytest.mark.parametrize("persona", PERSONAS)
def test_an_endpoint_that_refuses_fields_is_asked_without_them(
    persona: str, mode: Mode, serve: Serve
) -> None:
    server = serve(PERSONAS[persona])
    chat = ask(server, times=1, mode=mode)
    first = len(server.requests)
    assert first == 1 + len(chat.request_changes) <= 8, chat.request_changes
    ask_again = server.requests[-1].body
    chat = ask(server, times=2, mode=mode)
    assert len(server.requests) == first + len(chat.request_changes) + 2
    assert server.requests[-1].body == server.requests[-2].body == ask_again


def test_a_property_that_is_named_as_a_bound_stays(serve: Serve) -> None:
    server = serve(PERSONAS["anthropic"])
    ask(server)
    parameters = function(server.requests[-1].body)["parameters"]
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
