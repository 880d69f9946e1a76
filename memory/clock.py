"""Times as they are stored: UTC, ISO 8601, microseconds; equal lengths, so they sort as text."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    """2026-02-03T04:05:06.000007Z."""
    return stored(datetime.now(UTC))


def stored(moment: datetime) -> str:
    """A time as it is stored; one without a zone is taken for UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
