"""The three agents. Each has an embedded implementation (plain code) and one that asks an LLM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rudder.memory.journal import Recalled
from rudder.memory.records import Observation, Plan, Verdict
from rudder.tools.toolbox import Toolbox


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
        """A plan; its calls are staged in the toolbox, never carried out here."""


class Critic(Protocol):
    """Approves, trims or refuses a plan; never sends it back."""

    @property
    def name(self) -> str:
        """For the record."""

    async def review(
        self, observation: Observation, recalled: Sequence[Recalled], plan: Plan, toolbox: Toolbox
    ) -> Verdict:
        """The verdict, with a reason."""
