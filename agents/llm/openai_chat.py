"""Asks a language model over HTTP, by the protocol of OpenAI's Chat Completions."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import httpx2

from rudder.agents.llm.completion import read_completion
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
from rudder.agents.llm.messages import JsonObject, Mode, Question, Reply
from rudder.agents.llm.request_fields import RefusedFields, body_of

MAX_BODY_BYTES = 256 * 2**10
_MAX_PAUSE_S = 86_400.0
_MAX_WORDS = 300
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
        self._http: httpx2.AsyncClient | None = None

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
        body = body_of(question, mode=mode, endpoint=self._endpoint)
        refused = self._refused
        while True:
            try:
                answer = await self._post({**refused.fitted(body), **self._endpoint.extra})
            except RefusedError as error:
                is_field = error.status in _FIELD_REFUSED
                following = refused.after(error.words, body=body) if is_field else None
                if following is None:
                    raise
                refused = following
            else:
                self._refused = refused
                return read_completion(answer, question=question, mode=mode)

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()

    async def _post(self, body: JsonObject) -> bytes:
        """The body of an answer with status 200."""
        try:
            http = self._client()
            async with http.stream("POST", self._endpoint.completions_url, json=body) as response:
                answer = await _bounded(response)
        except httpx2.TimeoutException:
            raise TooSlowError("the endpoint sent nothing before the deadline") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise UnreachableError(_cause(error)) from None
        if response.status_code != 200:
            raise _refusal(response, words=self._words(answer))
        return answer

    def _client(self) -> httpx2.AsyncClient:
        """Proxies and certificates are taken from the environment, where they may be wrong."""
        if self._http is None:
            key = self._endpoint.key.get_secret_value()
            path = self._socket
            through = None if path is None else httpx2.AsyncHTTPTransport(uds=str(path))
            name, value = ("Authorization", f"Bearer {key}")
            if "api-version=" in self._endpoint.url:
                name, value = "api-key", key  # as Azure wants it
            try:
                self._http = httpx2.AsyncClient(
                    headers={name: value, "Accept-Encoding": "identity", "User-Agent": "rudder"},
                    timeout=httpx2.Timeout(self._endpoint.deadline_s),
                    follow_redirects=False,
                    transport=through,
                )
            except (ValueError, ImportError, OSError) as error:
                raise UnreachableError(
                    "the environment's proxy or certificates cannot be used"
                    f" ({type(error).__name__})",
                    remedy="correct HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and"
                    " SSL_CERT_DIR",
                ) from None
        return self._http

    def _words(self, answer: bytes) -> str:
        """What the server says of its error: printable, bounded, and without what may be a key."""
        text = _message(answer).replace(self._endpoint.key.get_secret_value(), "***")
        text = "".join(c if c.isprintable() else " " for c in _SECRET.sub("***", text))
        return " ".join(text.split())[:_MAX_WORDS]


async def _bounded(response: httpx2.Response) -> bytes:
    """The body, read as it comes; raises InvalidAnswerError if it is compressed or too long."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise InvalidAnswerError("encoding", "the answer is compressed though plain was asked for")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise InvalidAnswerError("size", f"the answer is larger than {MAX_BODY_BYTES} bytes")
    return bytes(body)


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


def _message(answer: bytes) -> str:
    """The message within an error's JSON, with the name of the field, or else all of it."""
    text = answer.decode(errors="replace")
    try:
        error = json.loads(text)["error"]
        return f"{error['message']} ({error['param']})" if error.get("param") else error["message"]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return text


def _cause(error: Exception) -> str:
    """Why there was no answer, in our words."""
    if "CERTIFICATE" in str(error):
        return "the endpoint's certificate is not trusted"
    if isinstance(error, httpx2.ProxyError):
        return "the proxy that the environment names refused"
    return "the endpoint cannot be reached, or broke off"


def _retry_after_s(text: str | None) -> float | None:
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return min(max(seconds, 0.0), _MAX_PAUSE_S) if math.isfinite(seconds) else None
