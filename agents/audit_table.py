"""Audit rows as a table for people and as text for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.table import Table

from rudder.agents import figures
from rudder.memory.audit import COLUMNS, AuditRow
from rudder.memory.open_telemetry import attributes

_SHOWN = ("row", "time", "rank", "step", "agent", "tool", "kind", "outcome", "ms", "detail")
_DETAIL = 60


def audit_table(rows: Sequence[AuditRow]) -> Table:
    """One line a row; arguments or result, cut short."""
    table = Table(box=None, pad_edge=False)
    for name in _SHOWN:
        right = name in ("row", "rank", "step", "ms")
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "detail")
    for row in rows:
        table.add_row(
            str(row.number),
            row.time[11:23],
            str(row.rank),
            figures.count(row.step),
            row.agent,
            row.tool,
            row.kind,
            row.outcome or figures.ABSENT,
            figures.ABSENT if row.latency_ms is None else f"{row.latency_ms:.1f}",
            _short(row.error_type or row.result or row.arguments or ""),
        )
    return table


def as_json(rows: Sequence[AuditRow]) -> str:
    """A list of objects with the columns' names."""
    return json.dumps([asdict(row) for row in rows], indent=2)


def as_csv(rows: Sequence[AuditRow]) -> str:
    """With a header; what is absent is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def as_telemetry(rows: Sequence[AuditRow]) -> str:
    """A JSON object a line, with OpenTelemetry's names."""
    return "".join(json.dumps(attributes(row)) + "\n" for row in rows)


def _short(text: str) -> str:
    return text if len(text) <= _DETAIL else text[: _DETAIL - 1] + "…"
