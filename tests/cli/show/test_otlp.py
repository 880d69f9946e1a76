"""The audit log as traces: read by OpenTelemetry's own messages, and taken by a server."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rudder.cli.main import make_app
from rudder.cli.show.otlp import as_otlp
from rudder.memory.run.audit import AuditRow
from rudder.memory.run.run_reader import RunReader
from rudder.memory.sample import write_sample_run
from rudder.training.errors import MachineError


@pytest.fixture
def rows(tmp_path: Path) -> list[AuditRow]:
    paths = write_sample_run(tmp_path, num_episodes=2)
    return [row for path in paths for row in RunReader(path).audit()]


def spans_of(text: str) -> list[dict[str, Any]]:
    resources = json.loads(text)["resourceSpans"]
    return [span for each in resources for scope in each["scopeSpans"] for span in scope["spans"]]


def test_opentelemetrys_own_parser_accepts_it(rows: list[AuditRow]) -> None:
    service = pytest.importorskip(
        "opentelemetry.proto.collector.trace.v1.trace_service_pb2",
        reason="opentelemetry-proto is not installed",
    )
    from google.protobuf.json_format import Parse

    request = json.loads(as_otlp(rows))
    for span in spans_of(as_otlp(rows)):
        assert len(bytes.fromhex(span["traceId"])) == 16
        assert len(bytes.fromhex(span["spanId"])) == 8
    for resource in request["resourceSpans"]:  # OTLP's JSON has hexadecimal ids, protobuf's base64
        for span in resource["scopeSpans"][0]["spans"]:
            for name in {"traceId", "spanId", "parentSpanId"} & set(span):
                span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    parsed = Parse(json.dumps(request), service.ExportTraceServiceRequest())
    assert len(parsed.resource_spans) == 2
    (scope,) = parsed.resource_spans[0].scope_spans
    assert all(span.end_time_unix_nano >= span.start_time_unix_nano > 0 for span in scope.spans)


def test_a_decision_is_a_trace_with_its_calls_as_children(rows: list[AuditRow]) -> None:
    spans = spans_of(as_otlp(rows))
    roots = [span for span in spans if span["name"] == "decision"]
    assert len(roots) == 4
    children = [span for span in spans if span.get("parentSpanId") == roots[0]["spanId"]]
    assert [span["name"] for span in children] == [
        "planner set", "act apply", "chat scripted",
    ]  # fmt: skip
    assert {span["traceId"] for span in children} == {roots[0]["traceId"]}
    chat = {each["key"]: each["value"] for each in children[2]["attributes"]}
    assert chat["gen_ai.usage.input_tokens"] == {"intValue": "900"}
    assert chat["gen_ai.operation.name"] == {"stringValue": "chat"}
    took = int(children[2]["endTimeUnixNano"]) - int(children[2]["startTimeUnixNano"])
    assert took == pytest.approx(1.5e6, abs=1000)
    assert len({span["spanId"] for span in spans}) == len(spans)
    assert as_otlp(rows) == as_otlp(rows)


@contextmanager
def collector(*, status: int) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """A server that takes one request as a collector does; its address, and what came."""
    came: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", came
        thread.join(10)


def test_traces_are_sent_to_a_collector(rows: list[AuditRow], tmp_path: Path) -> None:
    with collector(status=200) as (url, came):
        done = CliRunner().invoke(make_app(), ["audit", "export", str(tmp_path), url, "--otlp"])
    assert done.exit_code == 0, done.output
    ((path, body),) = came
    assert path == "/v1/traces"
    assert len(spans_of(body.decode())) == len(spans_of(as_otlp(rows)))
    with collector(status=500) as (url, _):
        failed = CliRunner().invoke(make_app(), ["audit", "export", str(tmp_path), url, "--otlp"])
    assert isinstance(failed.exception, MachineError)
    assert "500" in failed.exception.message
