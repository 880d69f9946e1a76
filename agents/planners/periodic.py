"""The published static schedule (MassiveGNN, arXiv 2410.22697): a round every Delta batches."""

from __future__ import annotations

from collections.abc import Sequence

from rudder.agents.planners.proposals import keep, propose
from rudder.memory.journal import Recalled
from rudder.memory.records import Observation, Plan
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import Change

DEFAULT_PERIOD_STEPS = 32


class PeriodicPlanner:
    """Asks for a replacement round whenever `period_steps` have gone by since the last one."""

    name = "periodic"

    def __init__(
        self, *, period_steps: int = DEFAULT_PERIOD_STEPS, last_step: int | None = None
    ) -> None:
        """last_step: of the last round that was asked for; None: there was none."""
        self._period = period_steps
        self._last_step = last_step

    async def plan(
        self, observation: Observation, recalled: Sequence[Recalled], toolbox: Toolbox
    ) -> Plan:
        """A round, where one is due."""
        if self._last_step is not None and observation.step < self._last_step + self._period:
            return keep(
                self.name,
                toolbox,
                observation=observation,
                reason=f"the last round was less than {self._period} steps ago",
            )
        self._last_step = observation.step
        change = Change(replace_now=True)
        return propose(
            self.name,
            change,
            toolbox,
            observation=observation,
            reason=f"{self._period} steps have gone by",
        )
