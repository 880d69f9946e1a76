"""The planner that never changes anything: what the others are compared with."""

from __future__ import annotations

from collections.abc import Sequence

from rudder.agents.planners.proposals import keep
from rudder.memory.journal import Recalled
from rudder.memory.records import Observation, Plan
from rudder.tools.toolbox import Toolbox


class FixedPlanner:
    """Keeps the settings that the run began with."""

    name = "fixed"

    async def plan(
        self, observation: Observation, recalled: Sequence[Recalled], toolbox: Toolbox
    ) -> Plan:
        """Keep things."""
        return keep(self.name, toolbox, observation=observation, reason="settings are fixed")
