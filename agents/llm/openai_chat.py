"""Asks a language model over HTTP, through LangChain's client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
from httpx2 import AsyncHTTPTransport
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatResult
from langchain_openai import ChatOpenAI
from langsmith import tracing_context

from rudder.agents.llm.endpoint import Endpoint
from rudder.agents.llm.messages import Mode, Question, RawCall, Reply, Usage, estimate_tokens
from rudder.agents.llm.translation import EXPECTED, translated
from rudder.agents.llm.wire import bound, strip, strip_account

_RAW_CALLS = "rudder_raw_calls"
_MAX_TOKENS = 10_000_000
_ANSWER_NAME = "answer"


class OpenAIChat:
    """A Chat Completions endpoint: OpenAI, vLLM, Ollama, llama.cpp and others.

    Asks once, without retries, and waits at most `endpoint.deadline_s` for any part of an answer;
    whoever asks sets the deadline over the whole. Belongs to the event loop it is first used in.
    """

    def __init__(
        self, endpoint: Endpoint, *, mode: Mode | None = None, socket: Path | None = None
    ) -> None:
        """socket: a Unix-domain socket to speak through, instead of the endpoint's own address."""
        self._endpoint, self._mode = endpoint, mode
        through = None if socket is None else AsyncHTTPTransport(uds=str(socket))
        before = [strip] if endpoint.is_openai else [strip, strip_account]
        self._http = openai.DefaultAsyncHttpxClient(
            event_hooks={"request": before, "response": [bound]},
            follow_redirects=False,
            transport=through,
        )
        self._client = _RawChatOpenAI(
            model=endpoint.model,
            base_url=endpoint.url,
            api_key=endpoint.key,
            http_async_client=self._http,
            use_responses_api=False,
            timeout=openai.Timeout(endpoint.deadline_s),
            max_retries=0,
            temperature=endpoint.temperature,
            max_completion_tokens=endpoint.answer_tokens,
            # Older servers know only the older name of the same limit.
            extra_body=_older_limit(endpoint),
            default_headers={"Accept-Encoding": "identity"},
            cache=False,
            verbose=False,
        )

    @property
    def model(self) -> str:
        """The model's name."""
        return self._endpoint.model

    @property
    def mode(self) -> Mode | None:
        """The mode that was set, or None."""
        return self._mode

    async def complete(self, question: Question, *, mode: Mode) -> Reply:
        """One answer, as it came; raises EndpointError, or InvalidAnswerError for what is none."""
        try:
            with tracing_context(enabled=False):
                message = await self._client.ainvoke(
                    question.texts(mode), config={"callbacks": []}, **_options(question, mode)
                )
            return _reply(message, question, mode)
        except EXPECTED as error:
            raise translated(error) from None

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


class _RawChatOpenAI(ChatOpenAI):
    """Keeps the arguments of tool calls as they came; parsed, they have lost what is wrong with
    them (`null`, `[]`, `0` and `""` become `{}`, of duplicate keys the last one stays)."""

    def _create_chat_result(
        self,
        response: dict[str, Any] | openai.BaseModel,
        generation_info: dict[str, Any] | None = None,
    ) -> ChatResult:
        result = super()._create_chat_result(response, generation_info)
        content = response if isinstance(response, dict) else response.model_dump(warnings=False)
        for generation, choice in zip(result.generations, content["choices"], strict=True):
            calls = choice["message"].get("tool_calls") or []
            generation.message.additional_kwargs[_RAW_CALLS] = [call["function"] for call in calls]
        return result


def _older_limit(endpoint: Endpoint) -> dict[str, Any] | None:
    return None if endpoint.is_openai else {"max_tokens": endpoint.answer_tokens}


def _options(question: Question, mode: Mode) -> dict[str, Any]:
    if mode == "tools":
        functions = [{**tool.model_dump(), "strict": True} for tool in question.tools]
        tools = [{"type": "function", "function": function} for function in functions]
        return {"tools": tools, "tool_choice": "required", "parallel_tool_calls": False}
    if mode == "structured":
        schema = {"name": _ANSWER_NAME, "schema": question.schema_, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    return {}


def _reply(message: AIMessage, question: Question, mode: Mode) -> Reply:
    raw = message.additional_kwargs.get(_RAW_CALLS, [])
    calls = [RawCall(name=str(call["name"]), arguments=_text(call)) for call in raw]
    text = message.content if isinstance(message.content, str) else ""
    finish = message.response_metadata.get("finish_reason")
    reply = Reply.of(text, calls=calls, finish=str(finish) if finish else None)
    return reply.model_copy(update={"usage": _usage(message, reply, question, mode)})


def _text(function: dict[str, Any]) -> str | None:
    arguments = function.get("arguments")
    return arguments if isinstance(arguments, str) else None


def _usage(message: AIMessage, reply: Reply, question: Question, mode: Mode) -> Usage:
    found = message.usage_metadata
    if found is not None:
        counts = (found["input_tokens"], found["output_tokens"])
        if all(isinstance(count, int) and 0 <= count <= _MAX_TOKENS for count in counts):
            return Usage(input_tokens=counts[0], output_tokens=counts[1], source="server")
    return Usage(
        input_tokens=question.estimated_tokens(mode),
        output_tokens=estimate_tokens(reply.size),
        source="estimated",
    )
