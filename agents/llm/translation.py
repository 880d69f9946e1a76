"""Turns whatever goes wrong while asking into our own errors."""

from __future__ import annotations

import math

import openai

from rudder.agents.llm.errors import (
    ChatError,
    InvalidAnswerError,
    RateLimitedError,
    RefusedError,
    ServerFailedError,
    TooSlowError,
    UnreachableError,
)

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
