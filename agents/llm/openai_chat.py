"""Asks a language model over HTTP, through LangChain's client."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import openai
from httpx2 import AsyncHTTPTransport
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatResult
from langchain_openai import ChatOpenAI
from langsmith import tracing_context

from rudder.agents.llm.endpoint import Endpoint
from rudder.agents.llm.errors import (
    ChatError,
    InvalidAnswerError,
    RateLimitedError,
    RefusedError,
    ServerFailedError,
    TooSlowError,
    UnreachableError,
)
from rudder.agents.llm.messages import Mode, Question, RawCall, Reply, Usage, estimate_tokens

EXPECTED = (
    openai.OpenAIError,
    OSError,
    # What the client raises on a body that is no chat completion depends on how it is not.
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
_MAX_PAUSE_S = 86_400.0


def translated(error: Exception) -> ChatError:
    """The same in our own words: an endpoint's texts go no further than this."""
    if known := _of_our_own(error):
        return known
    if isinstance(error, openai.APITimeoutError):
        return TooSlowError("the endpoint sent nothing before the deadline")
    if isinstance(error, openai.RateLimitError):
        pause_s = _retry_after_s(error.response.headers.get("retry-after"))
        return RateLimitedError("the endpoint asks for fewer questions", retry_after_s=pause_s)
    if isinstance(error, openai.APIStatusError):
        status = error.status_code
        if status >= 500:
            return ServerFailedError(f"the endpoint failed with status {status}")
        return RefusedError(f"the endpoint refused with status {status}", status=status)
    if isinstance(error, openai.APIConnectionError | OSError):
        return UnreachableError("the endpoint cannot be reached, or broke off")
    if isinstance(error, openai.LengthFinishReasonError):
        return InvalidAnswerError("cut", "the answer was cut off; answer more briefly")
    if isinstance(error, UnicodeError):
        return InvalidAnswerError("encoding", "the answer is not valid UTF-8")
    return InvalidAnswerError("envelope", "the endpoint's answer is not a chat completion")


def _of_our_own(error: BaseException | None) -> ChatError | None:
    while error is not None and not isinstance(error, ChatError):
        error = error.__cause__ or error.__context__
    return error


def _retry_after_s(text: str | None) -> float | None:
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return min(max(seconds, 0.0), _MAX_PAUSE_S) if math.isfinite(seconds) else None


MAX_BODY_BYTES = 256 * 2**10
_ABOUT_THIS_MACHINE = tuple(
    f"x-stainless-{what}"
    for what in ("lang", "package-version", "os", "arch", "runtime", "runtime-version", "async")
)
_OF_OPENAI_ACCOUNTS = ("openai-organization", "openai-project")
"""The client takes these from the environment, whichever endpoint is asked."""


class _BoundedStream(httpx2.AsyncByteStream):
    """A body that breaks off with InvalidAnswerError once it is longer than MAX_BODY_BYTES."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MAX_BODY_BYTES
        async for chunk in self._stream:
            left -= len(chunk)
            if left < 0:
                raise InvalidAnswerError(
                    "size", f"the answer is larger than {MAX_BODY_BYTES} bytes"
                )
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def bound(response: httpx2.Response) -> None:
    """Bound a response whose body was not read yet; for `event_hooks`.

    Raises InvalidAnswerError for a compressed body, which may be of any size once it is unpacked.
    """
    if response.headers.get("content-encoding", "identity") != "identity":
        raise InvalidAnswerError("encoding", "the answer is compressed though plain was asked for")
    if isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _BoundedStream(response.stream)


async def strip(request: httpx2.Request) -> None:
    """Take off what the client tells of this machine; for `event_hooks`."""
    for name in _ABOUT_THIS_MACHINE:
        request.headers.pop(name, None)


async def strip_account(request: httpx2.Request) -> None:
    """Take off the names of an OpenAI account, which are no other endpoint's business."""
    for name in _OF_OPENAI_ACCOUNTS:
        request.headers.pop(name, None)


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
