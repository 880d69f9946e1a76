"""A change of the buffer in words."""

from __future__ import annotations

from rudder.cli.show import figures
from rudder.training.settings import BufferSettings, Change

_KNOBS = {
    "capacity_rows": "capacity",
    "lookahead_batches": "lookahead",
    "eviction_threshold": "eviction threshold",
    "replacement_interval": "replacement interval",
}


def change_text(change: Change, *, before: BufferSettings | None = None) -> str:
    """Such as `capacity 1,200, replace now`, or with the settings before `capacity 400 -> 1,200`;
    `keep` where nothing changes."""
    parts = []
    for knob, name in _KNOBS.items():
        if (new := getattr(change, knob)) is not None:
            old = () if before is None else (getattr(before, knob),)
            parts.append(f"{name} {' -> '.join(map(_value, (*old, new)))}")
    if (targets := change.fetch_targets) is not None:
        when = ", while idle" if targets.while_idle else ""
        parts.append(f"fetch {targets.row_budget:,} rows ({targets.source}{when})")
    if change.replace_now:
        parts.append("replace now")
    return ", ".join(parts) or "keep"


def _value(value: float | None) -> str:
    return figures.ABSENT if value is None else figures.plain(value)
