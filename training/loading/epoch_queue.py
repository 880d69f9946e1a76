"""Which epochs a loader's thread has seeds of, and which it may run ahead into."""

from __future__ import annotations

from rudder.training.loading.loader_thread import LoaderThread
from rudder.training.loading.seed_order import SeedOrder


class EpochQueue:
    """Gives a thread the batches of one epoch after the other.

    Where the number of epochs is known, later ones are given early: as many as the lookahead
    reaches from the end of the epoch that begins.
    """

    def __init__(
        self,
        order: SeedOrder,
        thread: LoaderThread,
        *,
        epochs: int | None,
        first_epoch: int = 0,
        skipped: int = 0,
    ) -> None:
        """epochs: how many there will be in all, None: not known; first_epoch: the number of the
        first one that is wanted; skipped: batches of it that are left out."""
        self._order = order
        self._thread = thread
        self._left = None if epochs is None else max(epochs - first_epoch, 0)
        self._queued = 0
        self._next_epoch = first_epoch
        self._skipped = skipped

    def begin(self) -> None:
        """An epoch is wanted now."""
        if self._queued == 0:
            self._add()
        while self._left is not None and self._left > 0 and not self._is_far_enough:
            self._add()

    def end(self, *, finished: bool) -> None:
        """It is over; one that was left early takes the batches queued after it along."""
        self._queued -= 1
        if finished:
            return
        self._thread.drop_all()
        self._next_epoch -= self._queued
        if self._left is not None:
            self._left += self._queued
        self._queued = 0

    def expect(self, epochs: int) -> None:
        """So many more will follow."""
        self._left = epochs - self._queued

    @property
    def _is_far_enough(self) -> bool:
        ahead = self._queued - 1
        return ahead >= 1 and ahead * len(self._order) >= self._thread.settings.lookahead_batches

    def _add(self) -> None:
        self._thread.add(self._order.epoch(self._next_epoch)[self._skipped :])
        self._skipped = 0
        self._next_epoch += 1
        self._queued += 1
        if self._left is not None:
            self._left -= 1
