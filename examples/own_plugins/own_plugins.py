"""A buffer policy and a planner of one's own: `pip install ./examples/own_plugins`, and

rudder train --policy faded:200 --planner doubling:4 --buffer 0.05
"""

from __future__ import annotations

import numpy as np

from rudder import (
    Change,
    NewBuffer,
    Observation,
    OwnBuffer,
    Plan,
    Planner,
    Recalled,
    SteeringOptions,
    Toolbox,
)


class Faded(OwnBuffer):
    """Keeps the rows used most; a use counts half after `half_life` batches."""

    name = "faded"

    def __init__(self, buffer: NewBuffer, *, half_life: float) -> None:
        super().__init__(buffer)
        self._half_life = half_life
        self._batch = 0
        self._uses = np.zeros(self.num_nodes, dtype=np.float32)  # as of the batch in _last
        self._last = np.zeros(self.num_nodes, dtype=np.int32)

    def use(self, nodes: np.ndarray) -> None:
        self._batch += 1
        self._uses[nodes] = self.worth(nodes) + 1
        self._last[nodes] = self._batch

    def worth(self, nodes: np.ndarray) -> np.ndarray:
        return self._uses[nodes] * 0.5 ** ((self._batch - self._last[nodes]) / self._half_life)


def faded(argument: str, buffer: NewBuffer) -> OwnBuffer:
    return Faded(buffer, half_life=float(argument or buffer.epoch_batches))


class Doubling:
    """Multiplies the buffer while the trainer waits for more than a tenth of the step."""

    def __init__(self, factor: float) -> None:
        self._factor = factor

    async def plan(
        self, observation: Observation, recalled: list[Recalled], toolbox: Toolbox
    ) -> Plan:
        now = observation.settings.capacity_rows
        larger = min(round(self._factor * max(now, 1)), toolbox.limits.max_capacity_rows)
        if observation.exposed_fraction <= 0.1 or larger <= now:
            return Plan(
                planner="doubling", change=Change(), expected=None, reason="no need or no room"
            )
        change = Change(capacity_rows=larger)
        return Plan(planner="doubling", change=change, expected=None, reason="the trainer waits")


def doubling(argument: str, options: SteeringOptions) -> Planner:
    return Doubling(float(argument or 2))
