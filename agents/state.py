"""What one decision knows, as it passes through the graph of agents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from rudder.memory.journal import Recalled
from rudder.memory.records import GuardResult, Observation, Plan, SetAside, Verdict
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import Applied


class DecisionState(TypedDict, total=False):
    """Grows from node to node; what a node did not get to is absent.

    episode_id: of the decision, the only thing that is there at the start; proposal: the
    planner's plan; set_aside: the one before it, once another planner has proposed a change in its
    place; ruling: the guard's, None: of a plan that was set aside since; applied: the trainer's
    answer.
    """

    episode_id: str
    observation: Observation
    recalled: Sequence[Recalled]
    proposal: Plan
    set_aside: SetAside
    verdict: Verdict
    ruling: GuardResult | None
    applied: Applied


@dataclass(frozen=True)
class Surroundings:
    """What a decision may look at and use, the same for all nodes, and never part of the state."""

    toolbox: Toolbox
