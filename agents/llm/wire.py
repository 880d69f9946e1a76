"""Keeps an endpoint from sending more than an answer can be, and from learning what it need not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2  # what the OpenAI client is built on, from its version 3 on

from rudder.agents.llm.errors import InvalidAnswerError

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
