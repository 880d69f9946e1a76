"""Audit rows as text for programs; audit_text.py has them for people."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict

from rudder.memory.audit import COLUMNS, AuditRow
from rudder.memory.open_telemetry import attributes


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
