"""Planners that installed packages add: entry points of the group `rudder.planners`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from rudder.agents.planners.proposals import propose
from rudder.agents.roles import Planner
from rudder.memory.journal import Recalled
from rudder.memory.records import Observation, Plan
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import Change
from rudder.training.steering_options import OWN_PLANNERS, SteeringOptions

__all__ = ["Change", "Observation", "Plan", "Planner", "Recalled", "Toolbox"]

OWN = "own:"
"""Before the name of such a planner, in records."""


@dataclass(frozen=True)
class OwnPlanner:
    """Asks a package's planner, and records it by the name that a person chose it by."""

    name: str
    planner: Planner

    @classmethod
    def of(cls, options: SteeringOptions) -> Self:
        """Raises ConfigError where no package has it, or it cannot be made."""
        made = OWN_PLANNERS.make(options.planner, options)
        if not hasattr(made, "plan"):
            returned = f"its function returned {type(made).__name__}, which has no method plan"
            raise OWN_PLANNERS.failure(options.planner, returned)
        return cls(f"{OWN}{options.planner}", made)

    async def plan(
        self, observation: Observation, recalled: Sequence[Recalled], toolbox: Toolbox
    ) -> Plan:
        """Its plan; if that says nothing of what the change brings, what the estimate says."""
        plan = await self.planner.plan(observation, recalled, toolbox)
        if plan.expected is not None or plan.change.is_empty:
            return plan.model_copy(update={"planner": self.name})
        return propose(self.name, plan.change, whatif=toolbox.whatif, reason=plan.reason)
