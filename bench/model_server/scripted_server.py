"""A small Chat Completions server that says what a script says, and fails on demand.

For tests, for trying out an installation, and for benchmarks. Each request takes the script's
next step; the last step is repeated.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
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


_DRIP_PAUSE_S = 0.05
_STATUS: dict[Fault, int] = {
    "400": 400, "401": 401, "422": 422, "429": 429, "429_retry_after": 429, "500": 500,
}  # fmt: skip


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
    """A fault; texts of errors hold `text`, waits last until the client is gone."""

    fault: Fault
    text: str = "scripted fault"
    retry_after: str = "3"


@dataclass(frozen=True)
class Slow:
    """Another step, after a while."""

    step: Say | CallTool
    seconds: float


Step = Say | CallTool | Send | Fail | Slow
Script = Callable[["Request"], Step]


@dataclass(frozen=True)
class Request:
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


@dataclass
class ScriptedServer:
    """Serves while it is entered, in a thread of its own; `requests` grows as they come.

    port: 0 for any that is free; raises OSError for one that is taken.
    """

    script: Script | Sequence[Step]
    port: int = 0
    requests: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._socket = socket.create_server(("127.0.0.1", self.port))
        self._thread = threading.Thread(target=self._run, name="scripted-server", daemon=True)
        self._stop = asyncio.Event()

    @property
    def url(self) -> str:
        """For `--llm`."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._answer, sock=self._socket)
        await self._stop.wait()
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await _read(reader)
            self.requests.append(request)
            await _perform(self._step(request), request, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def _step(self, request: Request) -> Step:
        if callable(self.script):
            return self.script(request)
        return self.script[min(len(self.requests), len(self.script)) - 1]


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in head[1:] if line)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    body = await reader.readexactly(int(headers["content-length"]))
    return Request(head[0].split()[1], headers, json.loads(body))


async def _perform(
    step: Step, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    if isinstance(step, Slow):
        await asyncio.sleep(step.seconds)
        step = step.step
    if isinstance(step, Fail):
        await _fail(step, request, reader, writer)
        return
    if isinstance(step, Send):
        await _send(writer, step.body)
        return
    message = with_text(step.text) if isinstance(step, Say) else with_calls(list(step.calls))
    usage = step.usage if isinstance(step, Say) else True
    await _send(writer, json.dumps(completion(message, finish=step.finish, usage=usage)).encode())


async def _fail(
    step: Fail, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    fault = step.fault
    tool = request.tools[0] if request.tools else "answer"
    if (message := message_of(fault, tool=tool)) is not None:
        await _send(writer, json.dumps(completion(message)).encode())
    elif (body := body_of(fault)) is not None:
        await _send(writer, body)
    elif fault in _STATUS:
        error = json.dumps({"error": {"message": step.text, "type": "scripted"}}).encode()
        extra = f"Retry-After: {step.retry_after}\r\n" if fault == "429_retry_after" else ""
        await _send(writer, error, status=_STATUS[fault], extra=extra)
    elif fault == "html":
        await _send(writer, f"<html>{step.text}</html>".encode(), kind="text/html")
    elif fault == "redirect":
        await _send(writer, b"", status=307, extra="Location: http://127.0.0.1:9/v1\r\n")
    elif fault == "huge":
        await _send(writer, json.dumps(completion(with_text("x" * HUGE_BYTES))).encode())
    elif fault == "compressed":
        bomb = gzip.compress(json.dumps(completion(with_text(" " * HUGE_BYTES))).encode())
        await _send(writer, bomb, extra="Content-Encoding: gzip\r\n")
    elif fault == "cut":
        await _send(writer, json.dumps(completion(with_text("{"), finish="length")).encode())
    else:
        await _break_off(fault, reader, writer)


async def _break_off(
    fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    whole = json.dumps(completion(with_text("{}"))).encode()
    if fault == "hang":
        await reader.read()
    elif fault == "drip":
        writer.write(_head(len(whole)))
        for byte in whole:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(_DRIP_PAUSE_S)
    elif fault == "reset":
        writer.write(_head(len(whole)) + whole[: len(whole) // 2])
        await writer.drain()
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _head(
    length: int, *, status: int = 200, kind: str = "application/json", extra: str = ""
) -> bytes:
    head = (
        f"HTTP/1.1 {status} Scripted\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n"
        f"{extra}Connection: close\r\n\r\n"
    )
    return head.encode("latin-1")


async def _send(
    writer: asyncio.StreamWriter,
    body: bytes,
    *,
    status: int = 200,
    kind: str = "application/json",
    extra: str = "",
) -> None:
    writer.write(_head(len(body), status=status, kind=kind, extra=extra) + body)
    await writer.drain()
