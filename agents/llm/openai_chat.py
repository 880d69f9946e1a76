"""Asks a language model over HTTP, through LangChain's client of OpenAI's Chat Completions."""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import openai
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatResult
from langchain_openai import ChatOpenAI
from langsmith import tracing_context

from rudder.agents.llm.endpoint import Endpoint
from rudder.agents.llm.errors import (
    ChatError,
    EndpointError,
    InvalidAnswerError,
    RateLimitedError,
    RefusedError,
    ServerFailedError,
    UnreachableError,
)
from rudder.agents.llm.messages import (
    JsonObject,
    Mode,
    Question,
    RawCall,
    Reply,
    Usage,
    estimate_tokens,
)
from rudder.agents.llm.request_fields import RefusedFields, fields_of

MAX_BODY_BYTES = 256 * 2**10
_MAX_PAUSE_S = 86_400.0
_MAX_WORDS = 300
_MAX_TOKENS = 10_000_000
_FIELD_REFUSED = (400, 422)
_SECRET = re.compile(r"(?i)bearer\s+\S+|\b(sk|pk|key|token)[-_]\S+|[A-Za-z0-9+/_=-]{32,}")
"""What may be a key, in a server's words."""
_HEADERS = frozenset(
    {"accept", "connection", "content-length", "content-type", "host", "x-stainless-raw-response"}
)
"""Headers that stay as the client makes them (it reads the last one itself); its others describe
this machine, and the OpenAI account that the environment names."""
_RAW_CALLS = "rudder_raw_calls"


class OpenAIChat:
    """A Chat Completions endpoint: OpenAI, Azure, vLLM, Ollama, llama.cpp and others.

    Asks once, without retries; after a refusal of a field it asks again without that field. The
    caller sets the deadline. Belongs to the event loop in which it is first used.
    """

    def __init__(
        self, endpoint: Endpoint, *, mode: Mode | None = None, socket: Path | None = None
    ) -> None:
        """socket: a Unix-domain socket to speak through, instead of the endpoint's own address."""
        self._endpoint, self._mode, self._socket = endpoint, mode, socket
        self._refused = RefusedFields()
        self._http: httpx2.AsyncClient | None = None
        self._client: _RawChatOpenAI | None = None

    @property
    def model(self) -> str:
        """The model's name."""
        return self._endpoint.model

    @property
    def mode(self) -> Mode | None:
        """The mode that was set, or None."""
        return self._mode

    @property
    def request_changes(self) -> tuple[str, ...]:
        """How requests are changed for this endpoint, as found out so far."""
        return self._refused.names

    async def complete(self, question: Question, *, mode: Mode) -> Reply:
        """One answer, as it came; raises EndpointError, or InvalidAnswerError for what is none."""
        fields = fields_of(question, mode=mode, answer_tokens=self._endpoint.answer_tokens)
        refused = self._refused
        while True:
            try:
                answer = await self._ask(question, mode, refused.fitted(fields))
            except RefusedError as error:
                is_field = error.status in _FIELD_REFUSED
                following = refused.after(error.words, fields=fields) if is_field else None
                if following is None:
                    raise
                refused = following
            else:
                self._refused = refused
                return _reply(answer, question, mode)

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()

    async def _ask(self, question: Question, mode: Mode, fields: JsonObject) -> AIMessage:
        self._client = self._client or self._connect()
        # As an extra body each field is sent as it is; by its own name ChatOpenAI would rename
        # `max_tokens`, and parse what has a `response_format`.
        body = {**fields, **self._endpoint.extra}
        try:
            with tracing_context(enabled=False):
                return await self._client.ainvoke(
                    question.texts(mode), config={"callbacks": []}, extra_body=body
                )
        except openai.APIStatusError as error:
            words = _redacted(_message(error), key=self._endpoint.key.get_secret_value())
            raise _refusal(error.response, words=words) from None
        except (openai.APIConnectionError, httpx2.HTTPError, OSError) as error:
            raise _unreachable(error) from None

    def _connect(self) -> _RawChatOpenAI:
        """Proxies and certificates are taken from the environment, where they may be wrong."""
        endpoint, path = self._endpoint, self._socket
        try:
            self._http = httpx2.AsyncClient(
                event_hooks={"request": [self._set_headers], "response": [_check_body]},
                follow_redirects=False,
                transport=None if path is None else httpx2.AsyncHTTPTransport(uds=str(path)),
            )
            return _RawChatOpenAI(
                model=endpoint.model,
                base_url=endpoint.base_url,
                default_query=endpoint.query,
                api_key=endpoint.key,
                http_async_client=self._http,
                http_socket_options=(),
                openai_proxy=None,
                use_responses_api=False,
                timeout=None,
                max_retries=0,
                cache=False,
                verbose=False,
            )
        except (ValueError, ImportError, OSError) as error:
            raise UnreachableError(
                f"the environment's proxy or certificates cannot be used ({type(error).__name__})",
                remedy="correct HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and"
                " SSL_CERT_DIR",
            ) from None

    async def _set_headers(self, request: httpx2.Request) -> None:
        for name in set(request.headers) - _HEADERS:
            del request.headers[name]
        request.headers.update({"Accept-Encoding": "identity", "User-Agent": "rudder"})
        key = self._endpoint.key.get_secret_value()
        if self._endpoint.is_azure:
            request.headers["api-key"] = key
        else:
            request.headers["Authorization"] = f"Bearer {key}"


class _RawChatOpenAI(ChatOpenAI):
    """Keeps the arguments of tool calls as they came; parsed, they have lost what is wrong with
    them (`null`, `[]`, `0` and `""` become `{}`, of duplicate keys the last one stays)."""

    def _create_chat_result(
        self,
        response: dict[str, Any] | openai.BaseModel,
        generation_info: dict[str, Any] | None = None,
    ) -> ChatResult:
        try:
            told = response if isinstance(response, dict) else response.model_dump(warnings=False)
            message = told["choices"][0]["message"]
            message["role"] = "assistant"  # whatever a server calls it
            calls = message.pop("tool_calls", None) or []
            result = super()._create_chat_result(told, generation_info)
            answer = result.generations[0].message
            answer.additional_kwargs[_RAW_CALLS] = [_raw(call) for call in calls]
        except (AttributeError, LookupError, TypeError, ValueError):
            raise _not_a_completion() from None
        return result


def _raw(call: dict[str, Any]) -> RawCall:
    """Some servers send the arguments' object itself instead of its text."""
    arguments = call["function"].get("arguments")
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments)
    text = arguments if isinstance(arguments, str) else None
    return RawCall(name=call["function"]["name"], arguments=text)


def _reply(message: AIMessage, question: Question, mode: Mode) -> Reply:
    finish = message.response_metadata.get("finish_reason")
    reply = Reply.of(
        str(message.text),
        calls=message.additional_kwargs[_RAW_CALLS],
        finish=str(finish) if finish else None,
    )
    return reply.model_copy(update={"usage": _usage(message, reply, question, mode)})


def _usage(message: AIMessage, reply: Reply, question: Question, mode: Mode) -> Usage:
    """The server's counts, or estimates where it sends none or impossible ones."""
    if (told := message.usage_metadata) is not None:
        sent, received = told["input_tokens"], told["output_tokens"]
        are_counts = isinstance(sent, int) and isinstance(received, int)
        if are_counts and 0 < sent <= _MAX_TOKENS and 0 <= received <= _MAX_TOKENS:
            return Usage(input_tokens=sent, output_tokens=received, source="server")
    return Usage(
        input_tokens=question.estimated_tokens(mode),
        output_tokens=estimate_tokens(reply.size),
        source="estimated",
    )


class _BoundedStream(httpx2.AsyncByteStream):
    """A body that breaks off with InvalidAnswerError if it is longer than MAX_BODY_BYTES."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                reason = f"the answer is larger than {MAX_BODY_BYTES} bytes"
                raise InvalidAnswerError("size", reason)
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _check_body(response: httpx2.Response) -> None:
    """Read the body within its bound; raises InvalidAnswerError for what is not plain JSON.

    A compressed body may be of any size when it is unpacked, so it is not read.
    """
    if response.headers.get("content-encoding", "identity") != "identity":
        raise InvalidAnswerError("encoding", "the answer is compressed though plain was asked for")
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _BoundedStream(response.stream)
    body = await response.aread()
    if response.status_code != 200:
        return
    try:
        json.loads(body.decode())
    except UnicodeDecodeError:
        raise InvalidAnswerError("encoding", "the answer is not valid UTF-8") from None
    except (ValueError, RecursionError):
        raise _not_a_completion() from None


def _not_a_completion() -> InvalidAnswerError:
    return InvalidAnswerError("envelope", "the endpoint's answer is not a chat completion")


def _refusal(response: httpx2.Response, *, words: str) -> EndpointError:
    status = response.status_code
    if status == 429:
        pause_s = _retry_after_s(response.headers.get("retry-after"))
        return RateLimitedError(
            "the endpoint asks for fewer questions", words=words, retry_after_s=pause_s
        )
    if status >= 500:
        return ServerFailedError(f"the endpoint failed with status {status}", words=words)
    return RefusedError(f"the endpoint refused with status {status}", words=words, status=status)


def _message(error: openai.APIStatusError) -> str:
    """The message within an error's JSON, with the name of the field, or else all of it."""
    told = error.body
    if isinstance(told, dict) and isinstance(told.get("message"), str):
        return f"{told['message']} ({told['param']})" if told.get("param") else told["message"]
    return error.response.text


def _redacted(text: str, *, key: str) -> str:
    """A server's words: printable, bounded, and without what may be a key."""
    text = _SECRET.sub("***", text.replace(key, "***"))
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_MAX_WORDS]


def _unreachable(error: BaseException) -> ChatError:
    """Why there was no answer, in our words. The client wraps what our hooks raised."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    for each in causes:
        if isinstance(each, ChatError):
            return each
    if any("CERTIFICATE" in str(each) for each in causes):
        return UnreachableError("the endpoint's certificate is not trusted")
    if any(isinstance(each, httpx2.ProxyError) for each in causes):
        return UnreachableError("the proxy that the environment names refused")
    return UnreachableError("the endpoint cannot be reached, or broke off")


def _retry_after_s(text: str | None) -> float | None:
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return min(max(seconds, 0.0), _MAX_PAUSE_S) if math.isfinite(seconds) else None
