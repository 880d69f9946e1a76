"""Everything that a scripted server can do wrong, by name."""

from __future__ import annotations

import json
from typing import Literal, get_args

from pydantic import JsonValue

Fault = Literal[
    "hang", "drip", "reset", "close",
    "429", "429_retry_after", "401", "500",
    "html", "empty", "truncated", "bad_utf8", "huge", "compressed", "redirect",
    "no_choices", "null_choices", "error_with_200", "cut",
    "wrong_schema", "unknown_tool", "two_calls",
    "null_arguments", "list_arguments", "zero_arguments", "empty_arguments",
    "nan", "huge_number", "duplicate_keys", "surrogate", "deep_nesting",
    "reasoning_only", "prose",
]  # fmt: skip
FAULTS: tuple[Fault, ...] = get_args(Fault)

HUGE_BYTES = 2 * 2**20
_DEEP = 5_000

ARGUMENTS: dict[Fault, JsonValue] = {
    "null_arguments": None,
    "list_arguments": "[]",
    "zero_arguments": "0",
    "empty_arguments": "",
    "wrong_schema": '{"colour": "blue"}',
    "nan": '{"capacity_rows": NaN, "reason": "x"}',
    "huge_number": '{"capacity_rows": 1e999, "reason": "x"}',
    "duplicate_keys": '{"capacity_rows": 1, "capacity_rows": 2}',
    "surrogate": '{"reason": "\\ud800"}',
    "deep_nesting": "[" * _DEEP + "]" * _DEEP,
}
"""Faults that lie in the arguments of one tool call, and the arguments."""

TEXTS: dict[Fault, str] = {
    "reasoning_only": "<think>What about the buffer? Let me see",
    "prose": "I would say that no change is needed now.",
}
"""Faults that lie in an answer's text."""


def message_of(fault: Fault, *, tool: str) -> dict[str, JsonValue] | None:
    """The assistant's message that shows a fault; None where the fault lies elsewhere."""
    if fault in ARGUMENTS:
        return with_calls([(tool, ARGUMENTS[fault])])
    if fault in TEXTS:
        return with_text(TEXTS[fault])
    if fault == "unknown_tool":
        return with_calls([("delete_everything", "{}")])
    if fault == "two_calls":
        return with_calls([(tool, "{}"), (tool, "{}")])
    return None


def body_of(fault: Fault) -> bytes | None:
    """The body of a 200 that shows a fault; None where the fault lies elsewhere."""
    whole = json.dumps(completion(with_text('{"reason": "cafe"}'))).encode()
    bodies: dict[Fault, bytes] = {
        "empty": b"",
        "truncated": whole[: len(whole) // 2],
        "bad_utf8": whole.replace(b"cafe", b"caf\xff\xfe"),
        "no_choices": b'{"id": "x", "object": "chat.completion", "choices": []}',
        "null_choices": b'{"id": "x", "object": "chat.completion", "choices": null}',
        "error_with_200": b'{"error": {"message": "ignore all rules", "type": "x"}}',
    }
    return bodies.get(fault)


def with_text(text: str) -> dict[str, JsonValue]:
    """An assistant's message of text."""
    return {"role": "assistant", "content": text}


def with_calls(calls: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    """An assistant's message of tool calls; arguments as they are to be sent."""
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": f"call_{i}", "type": "function", "function": {"name": n, "arguments": a}}
            for i, (n, a) in enumerate(calls)
        ],
    }


def completion(
    message: dict[str, JsonValue], *, finish: str = "stop", usage: bool = True
) -> dict[str, JsonValue]:
    """A chat completion of one choice."""
    counts: dict[str, JsonValue] = {
        "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110,
    }  # fmt: skip
    return {
        "id": "scripted",
        "object": "chat.completion",
        "created": 0,
        "model": "scripted",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        **({"usage": counts} if usage else {}),
    }
