"""Rules over hit share and exposed wait, as one would tune by hand; nothing is predicted."""

from __future__ import annotations

from collections.abc import Sequence

from rudder.agents.planners.proposals import keep, propose
from rudder.agents.preference import WAITING_FRACTION
from rudder.memory.journal import Recalled
from rudder.memory.records import Observation, Plan
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import MAX_LOOKAHEAD_BATCHES, Change

HIDDEN_FRACTION = 0.005
HIGH_HIT_FRACTION = 0.95
_MIN_LOOKAHEAD = 8


class HeuristicPlanner:
    """Waits: first look further ahead, then double the buffer. Never waits: shrink it a quarter."""

    name = "heuristic"

    async def plan(
        self, observation: Observation, recalled: Sequence[Recalled], toolbox: Toolbox
    ) -> Plan:
        """The first rule that applies and is within bounds."""
        for change, reason in _rules(observation):
            if toolbox.limits.problem(change) is None:
                return propose(self.name, change, toolbox, observation=observation, reason=reason)
        return keep(self.name, toolbox, observation=observation, reason="no rule applies")


def _rules(observation: Observation) -> list[tuple[Change, str]]:
    settings = observation.settings
    if observation.exposed_fraction > WAITING_FRACTION:
        if (observation.hit_fraction or 0.0) >= HIGH_HIT_FRACTION:
            return []
        rules = []
        if settings.lookahead_batches < _MIN_LOOKAHEAD:
            rules.append((Change(lookahead_batches=_MIN_LOOKAHEAD), "it looks ahead too little"))
        elif settings.lookahead_batches * 2 <= MAX_LOOKAHEAD_BATCHES // 16:
            further = settings.lookahead_batches * 2
            rules.append((Change(lookahead_batches=further), "the trainer waits for rows"))
        larger = max(2 * settings.capacity_rows, 1)
        return [*rules[:1], (Change(capacity_rows=larger), "the trainer waits for rows")]
    if observation.exposed_fraction < HIDDEN_FRACTION and settings.capacity_rows > 1:
        smaller = settings.capacity_rows * 3 // 4
        return [(Change(capacity_rows=smaller), "all communication is hidden")]
    return []
