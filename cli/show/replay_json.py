"""Replays as JSON for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rudder.agents.replay.compare import Decision
from rudder.agents.replay.other import Alternative
from rudder.agents.replay.recorded import Replayed
from rudder.agents.replay.what_if import Outlook, WhatIfs
from rudder.memory.records import Episode
from rudder.training.settings import Change


def recorded_json(replayed: Sequence[Replayed]) -> str:
    """Counts of results, and the decisions that did not come out equal."""
    counts = Counter(each.result for each in replayed)
    return _text(
        {
            "decisions": len(replayed),
            "equal": counts["equal"],
            "different": [
                {**_where(each.episode), "fields": [asdict(found) for found in each.differences]}
                for each in replayed
                if each.result == "different"
            ],
            "not_replayable": [
                {**_where(each.episode), "reason": each.reason}
                for each in replayed
                if each.result == "not replayable"
            ],
        }
    )


def alternatives_json(alternatives: Sequence[Alternative]) -> str:
    """An object for each decision."""
    return _text(
        [
            {
                **_where(each.episode),
                "same": each.is_same,
                "stored": _decision(each.stored),
                "other": _decision(each.other) if each.other else None,
                "reason": each.reason,
            }
            for each in alternatives
        ]
    )


def what_ifs_json(found: Sequence[WhatIfs]) -> str:
    """An object for each decision, with its outlooks."""
    return _text(
        [
            {
                **_where(each.episode),
                "reason": each.reason,
                "outlooks": [
                    {**_outlook(outlook), "best": outlook is each.best} for outlook in each.outlooks
                ],
            }
            for each in found
        ]
    )


def _where(episode: Episode) -> dict[str, Any]:
    return {
        "episode_id": episode.episode_id,
        "rank": episode.rank,
        "number": episode.number,
        "step": episode.observation.step,
    }


def _decision(decision: Decision) -> dict[str, Any]:
    verdict, guard = decision.verdict, decision.guard
    return {
        "planner": decision.plan.planner,
        "plan": _change(decision.plan.change),
        "reason": decision.plan.reason,
        "verdict": verdict.decision if verdict else None,
        "guard": guard.model_dump(mode="json") if guard else None,
        "change": _change(decision.change),
    }


def _outlook(outlook: Outlook) -> dict[str, Any]:
    return {
        "kind": outlook.kind,
        "change": None if outlook.change is None else _change(outlook.change),
        "capacity_rows": outlook.capacity_rows,
        **outlook.effect.model_dump(mode="json"),
    }


def _change(change: Change) -> dict[str, Any]:
    return change.model_dump(mode="json", exclude_defaults=True)


def _text(value: object) -> str:
    return json.dumps(value, indent=2)
