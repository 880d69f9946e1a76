"""Decisions as they are compared, and the fields in which two of them differ."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from rudder.agents.roles import DecisionState
from rudder.memory.records import Episode, GuardResult, Observation, Plan, Verdict
from rudder.training.settings import Change

_REL = 1e-9
"""By which figures may differ: the last digits of a sum depend on the processor."""


@dataclass(frozen=True)
class Decision:
    """A decision from the observation to the guard's ruling; None: it ended before that."""

    observation: Observation
    recalled: tuple[str, ...]
    plan: Plan
    verdict: Verdict | None
    guard: GuardResult | None

    @classmethod
    def of_episode(cls, episode: Episode) -> Self:
        """The stored one."""
        return cls(
            episode.observation, episode.recalled, episode.plan, episode.verdict, episode.guard
        )

    @classmethod
    def of_state(cls, state: DecisionState) -> Self:
        """The one that the graph has made."""
        return cls(
            state["observation"],
            tuple(each.episode.episode_id for each in state["recalled"]),
            state["proposal"],
            state.get("verdict"),
            state.get("ruling"),
        )

    @property
    def change(self) -> Change:
        """The change that would have been made; empty where critic or guard refused it."""
        if self.verdict is None or self.guard is None or not self.guard.allowed:
            return Change()
        return self.verdict.change


@dataclass(frozen=True)
class Difference:
    """One field, such as plan.change.capacity_rows, as it was stored and as it came out."""

    field: str
    stored: Any
    replayed: Any


def differences(stored: Decision, replayed: Decision) -> list[Difference]:
    """All fields that are not equal, as far as the stored decision has them.

    Reasons do not count, for a later version may put them in other words; nor do the times of
    estimates, which earlier versions did not tell, the tool calls of a planner in plain code, which
    earlier versions made, nor the ids of a model's calls.
    """
    known = stored.observation.model_fields_set
    return list(_differences("", _plain(stored, known), _plain(replayed, known)))


def _plain(decision: Decision, known: set[str]) -> dict[str, Any]:
    """known: fields of an observation that count."""
    is_model = decision.plan.planner.startswith("llm:")
    calls: Any = {"__all__": {"call_id"}} if is_model else True
    unsaid: Any = {"reason": True, "expected": {"times"}}
    plan = decision.plan.model_dump(mode="json", exclude={**unsaid, "calls": calls})
    verdict, guard = decision.verdict, decision.guard
    return {
        "observation": decision.observation.model_dump(mode="json", include=known),
        "recalled": list(decision.recalled),
        "plan": plan,
        "verdict": verdict.model_dump(mode="json", exclude=unsaid) if verdict else None,
        "guard": guard.model_dump(mode="json", exclude={"reason"}) if guard else None,
    }


def _differences(field: str, one: Any, other: Any) -> Iterator[Difference]:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted(one.keys() | other.keys()):
            inner = f"{field}.{name}" if field else name
            yield from _differences(inner, one.get(name), other.get(name))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (mine, yours) in enumerate(zip(one, other, strict=True)):
            yield from _differences(f"{field}.{number}", mine, yours)
    elif not _is_equal(one, other):
        yield Difference(field, one, other)


def _is_equal(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_REL, abs_tol=_REL)
    return type(one) is type(other) and bool(one == other)
