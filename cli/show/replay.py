"""Replays as tables for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from rich.table import Table

from rudder.agents.replay.compare import Decision
from rudder.agents.replay.other import Alternative
from rudder.agents.replay.recorded import Replayed
from rudder.agents.replay.what_if import Outlook, WhatIfs
from rudder.cli.show import figures
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


_ID = 12
"""Characters of an episode's id that are shown; the beginning of one is enough everywhere."""
_MAX_VALUE = 60


def difference_table(replayed: Sequence[Replayed]) -> Table:
    """A line for each field that came out otherwise, and for each decision that cannot be made."""
    table = _table("episode", "step", "field", "stored", "replayed", right=("step",))
    for each in replayed:
        where = _where(each.episode.episode_id, each.episode.observation.step)
        if each.reason is not None:
            table.add_row(*where, "not replayable", each.reason, "")
        for found in each.differences:
            table.add_row(*where, found.field, _value(found.stored), _value(found.replayed))
    return table


def alternative_table(alternatives: Sequence[Alternative]) -> Table:
    """A line for each decision: what was proposed and what became of it, then and now."""
    table = _table(
        "episode", "step", "stored plan", "fate", "other plan", "fate", "rows/step", right=(
            "step", "rows/step"))  # fmt: skip
    for each in alternatives:
        where = _where(each.episode.episode_id, each.episode.observation.step)
        stored = (told(each.stored.plan.change), fate(each.stored))
        if each.other is None:
            table.add_row(*where, *stored, "not replayable", each.reason or "", figures.ABSENT)
        elif each.is_same and fate(each.other) == fate(each.stored):
            table.add_row(*where, *stored, "same", "", _expected(each.other))
        else:
            other = (told(each.other.plan.change), fate(each.other))
            table.add_row(*where, *stored, *other, _expected(each.other))
    return table


def what_if_table(found: Sequence[WhatIfs]) -> Table:
    """A line for each choice of settings, as the accesses then tell; `*` the best of the legal."""
    names = ("episode", "step", "what", "settings", "rows/step", "wait ms", "buffer")
    table = _table(*names, right=("step", *names[4:]))
    for each in found:
        where = _where(each.episode.episode_id, each.episode.observation.step)
        if each.reason is not None:
            table.add_row(*where, "not known", each.reason)
        for number, outlook in enumerate(each.outlooks):
            best = outlook is each.best
            table.add_row(*(where if number == 0 else ("", "")), *_outlook(outlook, best=best))
    return table


def _outlook(outlook: Outlook, *, best: bool) -> Iterator[str]:
    effect, change = outlook.effect, outlook.change
    yield f"{outlook.kind} *" if best else outlook.kind
    yield told(change) if change is not None else f"capacity {outlook.capacity_rows:,}"
    yield f"{effect.rows_fetched.mid:,.0f}"
    yield f"{effect.exposed_wait_ms.mid:.2f}"
    yield figures.mebibytes(effect.buffer_bytes)


def _expected(decision: Decision) -> str:
    """Rows that critic, else planner, expects."""
    verdict = decision.verdict
    effect = verdict.expected if verdict is not None else None
    effect = effect or decision.plan.expected
    return figures.ABSENT if effect is None else f"{effect.rows_fetched.mid:,.0f}"


def _where(episode_id: str, step: int) -> tuple[str, str]:
    return episode_id[:_ID], figures.count(step)


def _value(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _MAX_VALUE else text[: _MAX_VALUE - 1] + "…"


def _table(*names: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for name in names:
        is_number = name in right
        table.add_column(name, justify="right" if is_number else "left", no_wrap=is_number)
    return table
