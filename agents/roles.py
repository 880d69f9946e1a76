"""The three agents. Each has an embedded implementation (plain code) and one that asks an LLM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict

from rudder.memory.journal import Recalled
from rudder.memory.records import GuardResult, Observation, Plan, Rejected, Verdict
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import Applied


class DecisionState(TypedDict, total=False):
    """Grows from node to node; what a node did not get to is absent.

    episode_id: of the decision, the only thing that is there at the start; proposal: the
    planner's plan; rejected: the one before it, once another planner has proposed a change in its
    place; ruling: the guard's, None: of a plan that was rejected since; applied: the trainer's
    answer.
    """

    episode_id: str
    observation: Observation
    recalled: Sequence[Recalled]
    proposal: Plan
    rejected: Rejected
    verdict: Verdict
    ruling: GuardResult | None
    applied: Applied


@dataclass(frozen=True)
class Context:
    """What a decision may look at and use, the same for all nodes, and never part of the state."""

    toolbox: Toolbox


class Observer(Protocol):
    """Makes an observation of the last windows."""

    @property
    def name(self) -> str:
        """For the record."""

    async def observe(self, toolbox: Toolbox) -> Observation:
        """What is going on, read through the toolbox's read tools."""


class Planner(Protocol):
    """Proposes one change, or to keep things."""

    @property
    def name(self) -> str:
        """For the record, with model and version where there are some."""

    async def plan(
        self, observation: Observation, recalled: Sequence[Recalled], toolbox: Toolbox
    ) -> Plan:
        """A plan; nothing is carried out here."""


class Critic(Protocol):
    """Approves, trims or refuses a plan; never sends it back."""

    @property
    def name(self) -> str:
        """For the record."""

    async def review(
        self, observation: Observation, recalled: Sequence[Recalled], plan: Plan, toolbox: Toolbox
    ) -> Verdict:
        """The verdict, with a reason."""
