"""A line per turn of a benchmark, while it goes on."""

from __future__ import annotations

from collections.abc import Callable

from rudder.agents import figures
from rudder.training.bench.plan import BenchPlan
from rudder.training.events import EpochDone, Event


class BenchProgress:
    """Listens to the events of a benchmark's jobs; a turn is told when all ranks have done it."""

    def __init__(self, plan: BenchPlan, *, num_ranks: int, say: Callable[[str], None]) -> None:
        self._plan, self._num_ranks, self._say = plan, num_ranks, say
        self._seconds: dict[int, list[float]] = {}

    def __call__(self, rate: str, event: Event) -> None:
        """Take in an event of the job at this rate."""
        if not isinstance(event, EpochDone):
            return
        epoch = event.metrics.epoch
        self._seconds.setdefault(epoch, []).append(event.metrics.seconds_total)
        turn = self._plan.turn_of(epoch)
        of_turn = [self._seconds.get(number, []) for number in turn.epochs]
        if any(len(ranks) < self._num_ranks for ranks in of_turn):
            return
        mean = sum(max(ranks) for ranks in of_turn) / len(of_turn)
        for number in turn.epochs:
            del self._seconds[number]
        name = f"repeat {turn.round}/{self._plan.repeats}" if turn.round else "warm-up"
        self._say(f"rate {rate}, {name}, {turn.variant.text}: {figures.seconds(mean)} s an epoch")
