"""Memory pressure on a trainer's host, answered as a cut of the memory budget."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from rudder.training.host_memory import HostMemory

LOOK_S = 5.0
"""Seconds between two looks, each of which takes up to 3 ms."""
CUT_PAUSE_S = 20.0
"""Seconds between two cuts: the kernel's mean over 10 s still knows of what the last one ended."""
CALM_S = 300.0
"""Seconds without a shortage before memory that was given back may be taken again."""
KEPT_SHARE = 0.5
"""Of what the buffers hold: what a cut leaves them."""
WORTH_SHARE = 0.001
"""Of the limit: buffers that hold less are not what the host runs short of."""
ROOM = 2
"""Times what was given back: so much must be left before it may be taken again."""


class MemoryWatch:
    """While the host runs short of memory its buffers are to give half of what they hold back, and
    half again. Once it has been calm for long, and much is left, the cut is undone.

    budget_bytes: of all buffers of the host, None: as it was; reason: of the cut, None: there is
    none.
    """

    def __init__(
        self,
        *,
        look: Callable[[], HostMemory] = HostMemory.now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look, self._clock = look, clock
        self._next_look = self._next_cut = -math.inf
        self.forget()

    def forget(self) -> None:
        """Undo the cut, as when somebody sets a budget."""
        self.budget_bytes: int | None = None
        self.reason: str | None = None
        self._held_before = 0
        self._calm_since: float | None = None

    def refresh(self, *, held_bytes: int) -> None:
        """Look at the host, if it is time to; held_bytes: by all buffers of the host."""
        now = self._clock()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_S
        try:
            memory = self._look()
        except (OSError, ValueError, KeyError):
            return  # this kernel does not tell
        shortage = memory.shortage
        if shortage is not None:
            self._calm_since = None
            if now >= self._next_cut and held_bytes >= WORTH_SHARE * memory.limit_bytes:
                self._cut(shortage, held_bytes)
                self._next_cut = now + CUT_PAUSE_S
        elif self.budget_bytes is not None:
            self._calm_since = now if self._calm_since is None else self._calm_since
            given_back = self._held_before - self.budget_bytes
            if now - self._calm_since >= CALM_S and memory.left_bytes >= ROOM * given_back:
                self.forget()

    def _cut(self, shortage: str, held_bytes: int) -> None:
        self._held_before = max(self._held_before, held_bytes)
        self.budget_bytes = int(KEPT_SHARE * held_bytes)
        self.reason = f"the host runs short of memory: {shortage}"
