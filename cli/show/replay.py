"""Replays as tables for people, and as values for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table

from rudder.agents.replay.compare import Decision
from rudder.agents.replay.other import Alternative
from rudder.agents.replay.recorded import Replayed
from rudder.agents.replay.what_if import Outlook, WhatIfs
from rudder.cli.show import figures
from rudder.cli.show.changes import change_text
from rudder.memory.records import Episode
from rudder.training.settings import Change
from rudder.training.versions import own_version


def fate(decision: Decision) -> str:
    """What critic and guard made of a plan: `kept`, `approved`, `trimmed to ...`, `refused`."""
    verdict, guard = decision.verdict, decision.guard
    if verdict is None:
        return "kept"
    if guard is not None and not guard.allowed:
        return f"refused by {guard.rule}"
    if verdict.decision == "trim":
        return f"trimmed to {change_text(verdict.change)}"
    return {"approve": "approved", "refuse": "refused"}[verdict.decision]


_ID = 12
"""Characters of an episode's id that are shown; the beginning of one is enough everywhere."""
_MAX_VALUE = 60


def difference_table(replayed: Sequence[Replayed]) -> Table:
    """A line for each field that came out otherwise, and for each decision that cannot be made."""
    rows: list[tuple[str, ...]] = []
    for each in replayed:
        where = _where(each.episode)
        if each.reason is not None:
            rows.append((*where, "not replayable", each.reason, ""))
        rows += [
            (*where, found.field, _value(found.stored), _value(found.replayed))
            for found in each.differences
        ]
    names = ("episode", "step", "field", "stored", "replayed")
    return figures.table(names, rows, text=("episode", *names[2:]))


def recorded_lines(replayed: Sequence[Replayed]) -> str:
    """How many decisions came out equal, by the version of Rudder that made them."""
    made, equal = _by_version(replayed), _by_version(replayed, only="equal")
    own, unknown = own_version(), sum(each.result == "not replayable" for each in replayed)
    lines = [
        f"made by {version}, replayed by {own}: {equal[version]} of {count} decisions equal"
        + "; differences are expected, as versions decide by different rules"
        * (version != own and equal[version] < count)
        for version, count in made.items()
    ] or ["0 of 0 decisions equal"]
    lines[-1] += f", no socket opened{f'; {unknown} cannot be replayed' if unknown else ''}"
    return "\n".join(lines)


def recorded_values(replayed: Sequence[Replayed]) -> dict[str, Any]:
    """Counts, and the decisions that did not come out equal."""
    made, equal = _by_version(replayed), _by_version(replayed, only="equal")
    return {
        "replayed_by": own_version(),
        "made_by": {name: {"decisions": n, "equal": equal[name]} for name, n in made.items()},
        "decisions": len(replayed),
        "equal": equal.total(),
        "different": [
            {**_place(each.episode), "made_by": each.version, "fields": each.differences}
            for each in replayed
            if each.result == "different"
        ],
        "not_replayable": [
            {**_place(each.episode), "reason": each.reason}
            for each in replayed
            if each.result == "not replayable"
        ],
    }


def _by_version(replayed: Sequence[Replayed], *, only: str | None = None) -> Counter[str]:
    """Decisions that could be replayed, or only those with this result."""
    return Counter(
        each.version
        for each in replayed
        if each.version is not None and each.reason is None and only in (None, each.result)
    )


def alternative_table(alternatives: Sequence[Alternative]) -> Table:
    """A line for each decision: what was proposed and what became of it, then and now."""
    rows: list[tuple[str, ...]] = []
    for each in alternatives:
        begin = (*_where(each.episode), change_text(each.stored.plan.change), fate(each.stored))
        if each.other is None:
            rows.append((*begin, "not replayable", each.reason or "", figures.ABSENT))
            continue
        now = (change_text(each.other.plan.change), fate(each.other))
        is_same = each.is_same and now[1] == begin[-1]
        rows.append((*begin, *(("same", "") if is_same else now), _expected(each.other)))
    names = ("episode", "step", "stored plan", "fate", "other plan", "fate", "rows a step")
    return figures.table(names, rows, text=("episode", *names[2:6]))


def alternative_values(alternatives: Sequence[Alternative]) -> list[dict[str, Any]]:
    """An object for each decision."""
    return [
        {
            **_place(each.episode),
            "same": each.is_same,
            "stored": _decision(each.stored),
            "other": _decision(each.other) if each.other else None,
            "reason": each.reason,
        }
        for each in alternatives
    ]


def what_if_table(found: Sequence[WhatIfs]) -> Table:
    """A line for each choice of settings, as the accesses then tell; `*` the best of the legal."""
    rows: list[tuple[str, ...]] = []
    for each in found:
        where = _where(each.episode)
        if each.reason is not None:
            rows.append((*where, "not known", each.reason, "", "", ""))
        for number, outlook in enumerate(each.outlooks):
            best = outlook is each.best
            rows.append((*(where if number == 0 else ("", "")), *_outlook(outlook, best=best)))
    names = ("episode", "step", "what", "settings", "rows a step", "wait ms", "buffer")
    return figures.table(names, rows, text=("episode", "what", "settings"))


def what_if_values(found: Sequence[WhatIfs]) -> list[dict[str, Any]]:
    """An object for each decision, with its outlooks."""
    return [
        {
            **_place(each.episode),
            "reason": each.reason,
            "outlooks": [
                {
                    "kind": outlook.kind,
                    "change": None if outlook.change is None else _change(outlook.change),
                    "capacity_rows": outlook.capacity_rows,
                    **outlook.effect.model_dump(mode="json"),
                    "best": outlook is each.best,
                }
                for outlook in each.outlooks
            ],
        }
        for each in found
    ]


def _outlook(outlook: Outlook, *, best: bool) -> Iterator[str]:
    effect, change = outlook.effect, outlook.change
    yield f"{outlook.kind} *" if best else outlook.kind
    yield change_text(change) if change is not None else f"capacity {outlook.capacity_rows:,}"
    yield f"{effect.rows_fetched.mid:,.0f}"
    yield f"{effect.exposed_wait_ms.mid:.2f}"
    yield figures.mebibytes(effect.buffer_bytes)


def _expected(decision: Decision) -> str:
    """Rows that critic, else planner, expects."""
    verdict = decision.verdict
    effect = verdict.expected if verdict is not None else None
    effect = effect or decision.plan.expected
    return figures.ABSENT if effect is None else f"{effect.rows_fetched.mid:,.0f}"


def _place(episode: Episode) -> dict[str, Any]:
    step = episode.observation.step
    return {**episode.model_dump(include={"episode_id", "rank", "number"}), "step": step}


def _decision(decision: Decision) -> dict[str, Any]:
    return {
        "planner": decision.plan.planner,
        "plan": _change(decision.plan.change),
        "reason": decision.plan.reason,
        "verdict": decision.verdict and decision.verdict.decision,
        "guard": decision.guard,
        "change": _change(decision.change),
    }


def _change(change: Change) -> dict[str, Any]:
    return change.model_dump(mode="json", exclude_defaults=True)


def _where(episode: Episode) -> tuple[str, str]:
    return episode.episode_id[:_ID], figures.count(episode.observation.step)


def _value(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _MAX_VALUE else text[: _MAX_VALUE - 4] + " ..."
