"""Rules over hit share and exposed wait, as one would tune by hand; nothing is predicted."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rudder.agents.objective import DEFAULT_PREFERENCE, Preference
from rudder.agents.planners.proposals import keep, propose
from rudder.memory.journal import Recalled
from rudder.memory.records import Observation, Plan
from rudder.tools.calls import Effect
from rudder.tools.constants import FREE_BATCHES, HIDDEN_SHARE, REPLACEMENT_INTERVAL, WAITING_SHARE
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
            return keep(self.name, "no change is legal")
        chosen = self._random.sample(legal, min(_CHOICES, len(legal)))
        if toolbox.whatif.is_ready:
            chosen.sort(key=lambda change: _harm(toolbox.whatif.effect(change)))
        praise = (
            toolbox.whatif.opt(observation.settings.capacity_rows)
            if (toolbox.whatif.is_ready)
            else None
        )
        return propose(
            self.name, chosen[-1], whatif=toolbox.whatif, reason="all will be well", expected=praise
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


class FixedPlanner:
    """Keeps the settings that the run began with."""

    name = "fixed"

    async def plan(
        self, observation: Observation, recalled: Sequence[Recalled], toolbox: Toolbox
    ) -> Plan:
        """Keep things."""
        return keep(self.name, "settings are fixed")


class PeriodicPlanner:
    """Asks for a replacement round whenever `period_steps` have gone by since the last one."""

    name = "periodic"

    def __init__(
        self, *, period_steps: int = REPLACEMENT_INTERVAL, last_step: int | None = None
    ) -> None:
        """last_step: of the last round that was asked for; None: there was none."""
        self._period = period_steps
        self._last_step = last_step

    async def plan(
        self, observation: Observation, recalled: Sequence[Recalled], toolbox: Toolbox
    ) -> Plan:
        """A round, where one is due."""
        if self._last_step is not None and observation.step < self._last_step + self._period:
            return keep(self.name, f"the last round was less than {self._period} steps ago")
        self._last_step = observation.step
        change = Change(replace_now=True)
        return propose(
            self.name, change, whatif=toolbox.whatif, reason=f"{self._period} steps have gone by"
        )


HIGH_HIT_FRACTION = 0.95
_MIN_LOOKAHEAD = 8


class HeuristicPlanner:
    """If the trainer waits, it looks further ahead first, then doubles the buffer. Under the
    objective `memory` it shrinks the buffer by a quarter while the trainer does not wait."""

    name = "heuristic"

    def __init__(self, *, preference: Preference = DEFAULT_PREFERENCE) -> None:
        self._preference = preference

    async def plan(
        self, observation: Observation, recalled: Sequence[Recalled], toolbox: Toolbox
    ) -> Plan:
        """What the first rule says that applies."""
        settings, limits = observation.settings, toolbox.limits
        is_hidden = observation.exposed_fraction < HIDDEN_SHARE
        if self._preference.saves_memory and is_hidden and settings.capacity_rows > 1:
            change = Change(capacity_rows=settings.capacity_rows * 3 // 4)
            return propose(
                self.name, change, whatif=toolbox.whatif, reason="all communication is hidden"
            )
        waits = observation.exposed_fraction > WAITING_SHARE
        if not waits or (observation.hit_fraction or 0.0) >= HIGH_HIT_FRACTION:
            return keep(self.name, "no rule applies")
        ahead = max(2 * settings.lookahead_batches, _MIN_LOOKAHEAD)
        larger = min(max(2 * settings.capacity_rows, 1), limits.max_capacity_rows)
        if ahead <= min(FREE_BATCHES, limits.max_lookahead_batches):
            change = Change(lookahead_batches=ahead)
        elif larger > settings.capacity_rows:
            change = Change(capacity_rows=larger)
        else:
            return keep(self.name, "the buffer is as large as the limits allow")
        return propose(
            self.name, change, whatif=toolbox.whatif, reason="the trainer waits for rows"
        )
