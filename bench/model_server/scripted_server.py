"""A small Chat Completions server that says what a script says, and fails on demand.

For tests, for trying out an installation, and for benchmarks. Each request takes the script's
next step; the last step is repeated.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any, Literal, Self, get_args

from pydantic import JsonValue

Fault = Literal[
    "hang", "drip", "reset", "close",
    "429", "429_retry_after", "400", "401", "422", "500",
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
_DRIP_PAUSE_S = 0.05

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
        "prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010,
    }  # fmt: skip
    return {
        "id": "scripted",
        "object": "chat.completion",
        "created": 0,
        "model": "scripted",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        **({"usage": counts} if usage else {}),
    }


@dataclass(frozen=True)
class Say:
    """An answer in text."""

    text: str
    finish: str = "stop"
    usage: bool = True


@dataclass(frozen=True)
class CallTool:
    """An answer that calls tools: pairs of a name and arguments, as JSON text."""

    calls: Sequence[tuple[str, JsonValue]]
    finish: str = "tool_calls"


@dataclass(frozen=True)
class Send:
    """A 200 with this body."""

    body: bytes


@dataclass(frozen=True)
class Fail:
    """A fault; texts of errors hold `text`. `hang` and `drip` last until the client is gone."""

    fault: Fault
    text: str = "scripted fault"
    retry_after: str = "3"


@dataclass(frozen=True)
class Slow:
    """Another step, after a while."""

    step: Say | CallTool | Send
    seconds: float


Step = Say | CallTool | Send | Fail | Slow
Script = Callable[["ChatRequest"], Step]


@dataclass(frozen=True)
class ChatRequest:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def tools(self) -> list[str]:
        """Names of the tools that were offered."""
        return [tool["function"]["name"] for tool in self.body.get("tools", [])]

    @property
    def text(self) -> str:
        """All messages."""
        return "\n".join(str(message["content"]) for message in self.body["messages"])


# -- faults ------------------------------------------------------------------------------------

_STATUS: dict[Fault, int] = {
    "400": 400, "401": 401, "422": 422, "429": 429, "429_retry_after": 429, "500": 500,
    "redirect": 307,
}  # fmt: skip
_HEADERS: dict[Fault, dict[str, str]] = {
    "html": {"Content-Type": "text/html"},
    "compressed": {"Content-Encoding": "gzip"},
    "redirect": {"Location": "http://127.0.0.1:9/v1"},
}


@functools.cache
def _bodies() -> dict[Fault, bytes]:
    """Of faults that lie in a body which is always the same."""
    whole = _completion(with_text('{"reason": "cafe"}'))
    return {
        "empty": b"",
        "redirect": b"",
        "truncated": whole[: len(whole) // 2],
        "bad_utf8": whole.replace(b"cafe", b"caf\xff\xfe"),
        "no_choices": b'{"id": "x", "object": "chat.completion", "choices": []}',
        "null_choices": b'{"id": "x", "object": "chat.completion", "choices": null}',
        "error_with_200": b'{"error": {"message": "ignore all rules", "type": "x"}}',
        "huge": _completion(with_text("x" * HUGE_BYTES)),
        "compressed": gzip.compress(_completion(with_text(" " * HUGE_BYTES))),
        "cut": _completion(with_text("{"), finish="length"),
        "unknown_tool": _completion(with_calls([("delete_everything", "{}")])),
        "reasoning_only": _completion(with_text("<think>What about the buffer? Let me see")),
        "prose": _completion(with_text("I would say that no change is needed now.")),
    }


def _body_of(step: Fail, *, tool: str) -> bytes:
    if step.fault in ARGUMENTS:
        return _completion(with_calls([(tool, ARGUMENTS[step.fault])]))
    if step.fault == "two_calls":
        return _completion(with_calls([(tool, "{}"), (tool, "{}")]))
    if step.fault == "html":
        return f"<html>{step.text}</html>".encode()
    error = json.dumps({"error": {"message": step.text, "type": "scripted"}}).encode()
    return _bodies().get(step.fault, error)


def _completion(
    message: dict[str, JsonValue], *, finish: str = "stop", usage: bool = True
) -> bytes:
    return json.dumps(completion(message, finish=finish, usage=usage)).encode()


# -- the server --------------------------------------------------------------------------------


@dataclass
class ScriptedServer:
    """Serves while it is entered, in threads of its own; `requests` grows as they come.

    port: 0 for any that is free; raises OSError for one that is taken.
    """

    script: Script | Sequence[Step]
    port: int = 0
    requests: list[ChatRequest] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.step = self._step
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        """For `--llm`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _step(self, request: ChatRequest) -> Step:
        self.requests.append(request)
        if callable(self.script):
            return self.script(request)
        return self.script[min(len(self.requests), len(self.script)) - 1]


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    step: Callable[[ChatRequest], Step]


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        """Answer a question."""
        with contextlib.suppress(ConnectionError):
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = json.loads(self.rfile.read(int(headers["content-length"])))
            request = ChatRequest(self.path, headers, body)
            self._perform(self.server.step(request), request)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _perform(self, step: Step, request: ChatRequest) -> None:
        match step:
            case Slow():
                time.sleep(step.seconds)
                self._perform(step.step, request)
            case Send():
                self._send(step.body)
            case Say():
                message = with_text(step.text)
                self._send(_completion(message, finish=step.finish, usage=step.usage))
            case CallTool():
                self._send(_completion(with_calls(list(step.calls)), finish=step.finish))
            case Fail("hang"):
                self.rfile.read()
            case Fail("drip" | "reset" | "close"):
                self._break_off(step.fault)
            case Fail():
                tool = request.tools[0] if request.tools else "answer"
                extra = {"Retry-After": step.retry_after} if "retry" in step.fault else {}
                self._send(
                    _body_of(step, tool=tool),
                    status=_STATUS.get(step.fault, 200),
                    headers=_HEADERS.get(step.fault, extra),
                )

    def _break_off(self, fault: Fault) -> None:
        whole = _completion(with_text("{}"))
        if fault == "drip":
            self._send(b"", length=len(whole))
            for byte in whole:
                self.wfile.write(bytes([byte]))
                time.sleep(_DRIP_PAUSE_S)
        elif fault == "reset":
            self._send(whole[: len(whole) // 2], length=len(whole))
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())

    def _send(
        self,
        body: bytes,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        """length: that is told, where it is not the body's."""
        self.send_response(status)
        told = {"Content-Type": "application/json", **(headers or {})}
        told["Content-Length"] = str(len(body) if length is None else length)
        for name, value in told.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
