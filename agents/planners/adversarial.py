"""A planner that wants harm: fault injection for the critic, the guard and the trial."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rudder.agents.planners.proposals import keep, propose
from rudder.memory.journal import Recalled
from rudder.memory.records import Observation, Plan
from rudder.tools.effects import Effect
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import BufferSettings, Change, FetchTargets

_CHOICES = 4
"""Candidates whose harm is estimated before one is proposed."""


class AdversarialPlanner:
    """Proposes the legal change that should do most harm, and lies about what it brings."""

    name = "adversarial"

    def __init__(self, *, seed: int = 0) -> None:
        self._random = random.Random(seed)

    async def plan(
        self, observation: Observation, recalled: Sequence[Recalled], toolbox: Toolbox
    ) -> Plan:
        """The worst of a few legal changes; a random one where nothing is known yet."""
        legal = [
            change
            for change in _harmful(observation.settings)
            if toolbox.limits.problem(change) is None
        ]
        if not legal:
            return keep(self.name, toolbox, observation=observation, reason="no change is legal")
        chosen = self._random.sample(legal, min(_CHOICES, len(legal)))
        if toolbox.whatif.is_ready:
            chosen.sort(key=lambda change: _harm(toolbox.whatif.effect(change)))
        praise = (
            toolbox.whatif.opt(observation.settings.capacity_rows)
            if (toolbox.whatif.is_ready)
            else None
        )
        return propose(
            self.name,
            chosen[-1],
            toolbox,
            observation=observation,
            reason="all will be well",
            expected=praise,
        )


def _harm(effect: Effect) -> tuple[float, float]:
    return effect.exposed_wait_ms.mid, effect.rows_fetched.mid


def _harmful(settings: BufferSettings) -> list[Change]:
    """Less of everything that helps, and eager fetches of what was not asked for."""
    rows = settings.capacity_rows
    budget = max(rows, 1)
    return [
        Change(capacity_rows=0),
        Change(capacity_rows=rows // 4),
        Change(capacity_rows=rows // 2),
        Change(capacity_rows=rows // 4, lookahead_batches=0),
        Change(lookahead_batches=0),
        Change(lookahead_batches=settings.lookahead_batches // 4),
        Change(eviction_threshold=0.0),
        Change(eviction_threshold=1e-6),
        Change(replacement_interval=1),
        Change(replace_now=True),
        Change(fetch_targets=FetchTargets(source="observed", row_budget=budget)),
        Change(fetch_targets=FetchTargets(source="degree", row_budget=budget)),
    ]
