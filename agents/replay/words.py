"""Changes and verdicts in few words, for tables."""

from __future__ import annotations

from rudder.agents.replay.compare import Decision
from rudder.training.settings import Change

_SHORT = {
    "capacity_rows": "capacity",
    "eviction_threshold": "threshold",
    "lookahead_batches": "lookahead",
    "replacement_interval": "interval",
}


def told(change: Change) -> str:
    """Such as `capacity 1,200, lookahead 48`; `keep` where nothing changes."""
    parts = [
        f"{short} {value:,}"
        for name, short in _SHORT.items()
        if (value := getattr(change, name)) is not None
    ]
    if (targets := change.fetch_targets) is not None:
        parts.append(f"fetch {targets.source} {targets.row_budget:,}")
    if change.replace_now:
        parts.append("replace now")
    return ", ".join(parts) or "keep"


def fate(decision: Decision) -> str:
    """What critic and guard made of a plan: `kept`, `approved`, `trimmed to ...`, `refused`."""
    verdict, guard = decision.verdict, decision.guard
    if verdict is None:
        return "kept"
    if guard is not None and not guard.allowed:
        return f"refused by {guard.rule}"
    if verdict.decision == "trim":
        return f"trimmed to {told(verdict.change)}"
    return {"approve": "approved", "refuse": "refused"}[verdict.decision]
