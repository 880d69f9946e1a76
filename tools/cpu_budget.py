"""How much of a core a controller may take: it shares its host with the trainers it helps."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass

MAX_CORE_FRACTION = 0.05
CALM_CORE_FRACTION = 0.002
"""While the trainer waits for nothing, decisions have little to win: a controller is to take less
than 0.3 % of a core then, and a third of that goes to its windows."""
INITIAL_SECONDS = 1.0
"""For the first decisions that help a trainer, which bring most."""
CALM_SECONDS = 0.2
"""Of these for the first decisions on a trainer that waits for nothing."""


class CpuBudget:
    """CPU seconds of this process that it may still spend on decisions, for all of its trainers."""

    def __init__(
        self,
        *,
        fraction: float = MAX_CORE_FRACTION,
        calm_fraction: float = CALM_CORE_FRACTION,
        initial_seconds: float = INITIAL_SECONDS,
    ) -> None:
        """Begin; what was spent before, on imports, does not count."""
        self._needed_fraction, self._calm_fraction = fraction, calm_fraction
        self._reserve, self._is_needed = initial_seconds, True
        self.begin()

    def begin(self) -> None:
        """From now on; what was spent so far does not count."""
        self._earned = 0.0
        self._spent_before = time.process_time()

    def earn(self, seconds: float, *, is_needed: bool) -> None:
        """A trainer has trained for so long; is_needed: whether it waits for rows, so that
        decisions may help it. Nothing is earned while it does something else."""
        self._is_needed = is_needed
        self._earned += seconds * (self._needed_fraction if is_needed else self._calm_fraction)

    @property
    def left_seconds(self) -> float:
        """What may be spent now; below 0 where too much was."""
        reserve = self._reserve if self._is_needed else min(self._reserve, CALM_SECONDS)
        return reserve + self._earned - (time.process_time() - self._spent_before)

    @property
    def has_left(self) -> bool:
        """Whether a decision may begin."""
        return self.left_seconds > 0


@dataclass(frozen=True)
class ProcessShare:
    """What one trainer's controller has of its process; budget: None, one of its own."""

    budget: CpuBudget | None = None
    num_trainers: int = 1

    @property
    def cpu_seconds(self) -> float:
        """An equal part of the processor time so far."""
        return time.process_time() / self.num_trainers

    @property
    def peak_rss_bytes(self) -> int:
        """An equal part of the largest resident memory so far."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // self.num_trainers


ALONE = ProcessShare()
"""Of a process with one trainer."""
