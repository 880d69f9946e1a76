"""The audit log as traces of OpenTelemetry: one trace for each decision, in OTLP's JSON encoding.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding: identifiers are hexadecimal, and
64-bit integers are text. Names of attributes are those of the conventions for generative AI.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from rudder.cli.show.audit import attributes
from rudder.memory.run.audit import AuditRow, Cell
from rudder.training.versions import own_version

TRACES_PATH = "/v1/traces"
"""Where a collector takes traces over HTTP."""
_INTERNAL, _CLIENT = 1, 3
"""Kinds of a span: work within the process, and a question to a server."""
_OK, _ERROR = 1, 2
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def as_otlp(rows: Sequence[AuditRow]) -> str:
    """An ExportTraceServiceRequest in JSON, with a resource for each rank of each run."""
    ranks = groupby(sorted(rows, key=_rank), key=_rank)
    resources = [_resource(run_key, rank, list(mine)) for (run_key, rank), mine in ranks]
    return json.dumps({"resourceSpans": resources})


def _rank(row: AuditRow) -> tuple[str, int]:
    return row.run_key, row.rank


def _resource(run_key: str, rank: int, rows: list[AuditRow]) -> dict[str, Any]:
    about = {"service.name": "rudder", "rudder.run_key": run_key, "rudder.rank": rank}
    spans = [span for trace in _traces(rows) for span in trace]
    scope = {"name": "rudder.audit", "version": own_version()}
    return {
        "resource": {"attributes": _attributes(about)},
        "scopeSpans": [{"scope": scope, "spans": spans}],
    }


def _traces(rows: list[AuditRow]) -> Iterator[list[dict[str, Any]]]:
    """A decision with what was called and done for it; a trace each for what belongs to none."""
    calls: dict[str, list[AuditRow]] = {}
    for row in rows:
        calls.setdefault(row.call_id, []).append(row)
    decisions: dict[str, list[list[AuditRow]]] = {}
    for call in calls.values():
        decisions.setdefault(call[0].episode_id or call[0].call_id, []).append(call)
    for name, mine in decisions.items():
        first = mine[0][0]
        trace = _id(first, name, digits=32)
        root = _id(first, f"decision {name}", digits=16)
        is_decision = first.episode_id is not None
        spans = [_span(call, trace=trace, parent=root if is_decision else None) for call in mine]
        yield [_decision(first, spans, root), *spans] if is_decision else spans


def _decision(first: AuditRow, spans: list[dict[str, Any]], root: str) -> dict[str, Any]:
    """The span around all that was done for a decision."""
    about: dict[str, Cell] = {"rudder.episode_id": first.episode_id, "rudder.step": first.step}
    return {
        "traceId": spans[0]["traceId"],
        "spanId": root,
        "name": "decision",
        "kind": _INTERNAL,
        "startTimeUnixNano": min((span["startTimeUnixNano"] for span in spans), key=int),
        "endTimeUnixNano": max((span["endTimeUnixNano"] for span in spans), key=int),
        "attributes": _attributes({"gen_ai.operation.name": "invoke_agent"} | about),
    }


def _span(call: list[AuditRow], *, trace: str, parent: str | None) -> dict[str, Any]:
    """A call and its result, an intent and its effect, or a note alone.

    Both rows of a call are written when it is over; how long it took is with the result.
    """
    first, last = call[0], call[-1]
    end = _moment(last)
    start = min(_moment(first), end - timedelta(milliseconds=last.latency_ms or 0.0))
    named = {name: value for row in call for name, value in attributes(row).items()}
    is_model = first.model is not None
    failed = last.error_type is not None or last.outcome == "failed"
    return {
        "traceId": trace,
        "spanId": _id(first, f"call {first.call_id}", digits=16),
        **({} if parent is None else {"parentSpanId": parent}),
        "name": f"chat {first.model}" if is_model else f"{first.agent} {first.tool}",
        "kind": _CLIENT if is_model else _INTERNAL,
        "startTimeUnixNano": _nanoseconds(start),
        "endTimeUnixNano": _nanoseconds(end),
        "attributes": _attributes(named),
        "status": {"code": _ERROR if failed else _OK},
    }


def _id(row: AuditRow, name: str, *, digits: int) -> str:
    """Equal for equal names of a rank, so that a second export makes no second trace."""
    return hashlib.sha256(f"{row.run_key}/{row.rank}/{name}".encode()).hexdigest()[:digits]


def _moment(row: AuditRow) -> datetime:
    return datetime.fromisoformat(row.time)


def _nanoseconds(moment: datetime) -> str:
    return str((moment - _EPOCH) // timedelta(microseconds=1) * 1000)


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: Cell) -> dict[str, Any]:
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": str(value)}
