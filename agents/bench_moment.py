"""Something that happens once in a benchmark: when all ranks have done a round's last epoch."""

from __future__ import annotations

from collections.abc import Callable

from rudder.training.bench.plan import BenchPlan
from rudder.training.events import EpochDone, Event


class AtEndOfRound:
    """Listens to a job's events, and calls `action` at the end of round `number` (0: warm-up)."""

    def __init__(
        self, plan: BenchPlan, number: int, *, num_ranks: int, action: Callable[[], None]
    ) -> None:
        last = [turn for turn in plan.turns if turn.round == number][-1]
        self._epoch = last.epochs[-1]
        self._missing = set(range(num_ranks))
        self._action = action

    def __call__(self, rate: str, event: Event) -> None:
        """Take in an event."""
        if not isinstance(event, EpochDone) or event.metrics.epoch != self._epoch:
            return
        self._missing.discard(event.rank)
        if not self._missing:
            self._action()
