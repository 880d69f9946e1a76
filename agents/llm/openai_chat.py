"""Asks a language model over HTTP, as OpenAI's Chat Completions are asked."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Annotated

import httpx2
from pydantic import BaseModel, Field, JsonValue, ValidationError

from rudder.agents.llm.endpoint import Endpoint
from rudder.agents.llm.errors import (
    EndpointError,
    InvalidAnswerError,
    RateLimitedError,
    RefusedError,
    ServerFailedError,
    TooSlowError,
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


class OpenAIChat:
    """A Chat Completions endpoint: OpenAI, Azure, vLLM, Ollama, llama.cpp and others.

    Asks once, without retries; after a refusal of a field it asks again without that field. Waits
    at most `endpoint.deadline_s` for any part of an answer; the caller sets the deadline over the
    whole. Belongs to the event loop in which it is first used.
    """

    def __init__(
        self, endpoint: Endpoint, *, mode: Mode | None = None, socket: Path | None = None
    ) -> None:
        """socket: a Unix-domain socket to speak through, instead of the endpoint's own address."""
        self._endpoint, self._mode, self._socket = endpoint, mode, socket
        self._refused = RefusedFields()
        self._client: httpx2.AsyncClient | None = None

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
        if self._client is not None:
            await self._client.aclose()

    async def _ask(self, question: Question, mode: Mode, fields: JsonObject) -> _Completion:
        roles = [{"role": role, "content": text} for role, text in question.texts(mode)]
        asked = {"model": self.model, "messages": roles, **fields, **self._endpoint.extra}
        self._client = self._client or self._connect()
        url = f"{self._endpoint.base_url.rstrip('/')}/chat/completions"
        try:
            async with self._client.stream("POST", url, json=asked) as response:
                body = await _body(response)
        except httpx2.TimeoutException:
            raise TooSlowError("the endpoint sent nothing before the deadline") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise _unreachable(error) from None
        if not response.is_success:
            words = _redacted(_message(body), key=self._endpoint.key.get_secret_value())
            raise _refusal(response, words=words)
        return _completion(body)

    def _connect(self) -> httpx2.AsyncClient:
        """Proxies and certificates are taken from the environment, where they may be wrong."""
        endpoint, path = self._endpoint, self._socket
        key = endpoint.key.get_secret_value()
        told = {"api-key": key} if endpoint.is_azure else {"Authorization": f"Bearer {key}"}
        try:
            return httpx2.AsyncClient(
                headers={"Accept-Encoding": "identity", "User-Agent": "rudder", **told},
                params=endpoint.query,
                timeout=endpoint.deadline_s,
                transport=None if path is None else httpx2.AsyncHTTPTransport(uds=str(path)),
            )
        except (ValueError, ImportError, OSError) as error:
            raise UnreachableError(
                f"the environment's proxy or certificates cannot be used ({type(error).__name__})",
                remedy="correct HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and"
                " SSL_CERT_DIR",
            ) from None


async def _body(response: httpx2.Response) -> bytes:
    """All of it, if it is not too long; a compressed one may be of any size when it is unpacked."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise InvalidAnswerError("encoding", "the answer is compressed though plain was asked for")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise InvalidAnswerError("size", f"the answer is larger than {MAX_BODY_BYTES} bytes")
    return bytes(body)


# -- what is read of a completion --------------------------------------------------------------


class _Function(BaseModel):
    """arguments: a text; some servers send the object itself instead."""

    name: str
    arguments: JsonValue = None

    def raw(self) -> RawCall:
        """The call with its arguments as they came."""
        given = self.arguments
        text = json.dumps(given) if isinstance(given, dict) else given
        return RawCall(name=self.name, arguments=text if isinstance(text, str) else None)


class _Call(BaseModel):
    function: _Function


class _Part(BaseModel):
    type: str
    text: str = ""


class _Message(BaseModel):
    """content: a text, or parts of which those of another type are not for us."""

    content: str | list[_Part] | None = None
    tool_calls: list[_Call] | None = None

    @property
    def text(self) -> str:
        """All that the model wrote."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content if part.type == "text")
        return self.content or ""


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Tokens(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(BaseModel):
    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: _Tokens | None = None


def _completion(body: bytes) -> _Completion:
    """Raises InvalidAnswerError for what is none."""
    try:
        return _Completion.model_validate_json(body.decode())
    except UnicodeDecodeError:
        raise InvalidAnswerError("encoding", "the answer is not valid UTF-8") from None
    except ValidationError:
        reason = "the endpoint's answer is not a chat completion"
        raise InvalidAnswerError("envelope", reason) from None


def _reply(answer: _Completion, question: Question, mode: Mode) -> Reply:
    choice = answer.choices[0]
    calls = [call.function.raw() for call in choice.message.tool_calls or []]
    reply = Reply.of(choice.message.text, calls=calls, finish=choice.finish_reason)
    return reply.model_copy(update={"usage": _usage(answer.usage, reply, question, mode)})


def _usage(told: _Tokens | None, reply: Reply, question: Question, mode: Mode) -> Usage:
    """The server's counts, or estimates where it sends none or impossible ones."""
    told = told or _Tokens()
    sent, received = told.prompt_tokens or 0, told.completion_tokens or 0
    if 0 < sent <= _MAX_TOKENS and 0 <= received <= _MAX_TOKENS:
        return Usage(input_tokens=sent, output_tokens=received, source="server")
    return Usage(
        input_tokens=question.estimated_tokens(mode),
        output_tokens=estimate_tokens(reply.size),
        source="estimated",
    )


# -- why there is none -------------------------------------------------------------------------


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


def _message(body: bytes) -> str:
    """The message within an error's JSON, with the name of the field, or else all of it."""
    text = body.decode(errors="replace")
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return text
    told = told.get("error", told) if isinstance(told, dict) else told
    if isinstance(told, dict) and isinstance(told.get("message"), str):
        return f"{told['message']} ({told['param']})" if told.get("param") else told["message"]
    return text


def _redacted(text: str, *, key: str) -> str:
    """A server's words: printable, bounded, and without what may be a key."""
    text = _SECRET.sub("***", text.replace(key, "***"))
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_MAX_WORDS]


def _unreachable(error: Exception) -> UnreachableError:
    """Why there was no answer, in our words."""
    if "CERTIFICATE" in str(error):
        return UnreachableError("the endpoint's certificate is not trusted")
    if isinstance(error, httpx2.ProxyError):
        return UnreachableError("the proxy that the environment names refused")
    return UnreachableError("the endpoint cannot be reached, or broke off")


def _retry_after_s(text: str | None) -> float | None:
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return min(max(seconds, 0.0), _MAX_PAUSE_S) if math.isfinite(seconds) else None
