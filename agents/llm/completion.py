"""Reads the body of a chat completion."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from rudder.agents.llm.errors import InvalidAnswerError
from rudder.agents.llm.messages import Mode, Question, RawCall, Reply, Usage, estimate_tokens

_MAX_TOKENS = 10_000_000


class _Function(BaseModel):
    name: str
    arguments: Any = None


class _Call(BaseModel):
    function: _Function


class _Part(BaseModel):
    text: str = ""


class _Message(BaseModel):
    content: str | list[_Part] | None = None
    tool_calls: list[_Call] | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: Annotated[int, Field(ge=0, le=_MAX_TOKENS, strict=True)]
    completion_tokens: Annotated[int, Field(ge=0, le=_MAX_TOKENS, strict=True)]


class _Completion(BaseModel):
    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: Any = None


def read_completion(body: bytes, *, question: Question, mode: Mode) -> Reply:
    """The answer as it came; raises InvalidAnswerError for what is no chat completion."""
    try:
        completion = _Completion.model_validate(json.loads(body.decode()))
    except UnicodeDecodeError:
        raise InvalidAnswerError("encoding", "the answer is not valid UTF-8") from None
    except (ValueError, RecursionError):
        raise InvalidAnswerError(
            "envelope", "the endpoint's answer is not a chat completion"
        ) from None
    choice = completion.choices[0]
    content = choice.message.content or ""
    text = content if isinstance(content, str) else "".join(part.text for part in content)
    calls = [
        RawCall(name=call.function.name, arguments=_arguments(call.function.arguments))
        for call in choice.message.tool_calls or []
    ]
    reply = Reply.of(text, calls=calls, finish=choice.finish_reason)
    return reply.model_copy(update={"usage": _usage(completion.usage, reply, question, mode)})


def _arguments(value: object) -> str | None:
    """As text; some servers send the object itself."""
    if isinstance(value, dict):
        return json.dumps(value)
    return value if isinstance(value, str) else None


def _usage(told: object, reply: Reply, question: Question, mode: Mode) -> Usage:
    try:
        counts = _Usage.model_validate(told)
    except ValidationError:
        return Usage(
            input_tokens=question.estimated_tokens(mode),
            output_tokens=estimate_tokens(reply.size),
            source="estimated",
        )
    return Usage(
        input_tokens=counts.prompt_tokens,
        output_tokens=counts.completion_tokens,
        source="server",
    )
