"""A history whose first accesses are kept no more, only their sums."""

from __future__ import annotations

from rudder.memory.pruned_uses import PrunedUses
from rudder.tools.history import History
from rudder.tools.past_uses import PastUses
from rudder.training.metrics import Window
from rudder.training.workload import Workload


class ResumedHistory(History):
    """From the first window that still has its accesses on: the uses before are known by their
    sums. Once as many batches have come as a history keeps, it is what it was then."""

    def __init__(self, workload: Workload, *, pruned: PrunedUses | None) -> None:
        """pruned: None where all accesses are still there."""
        super().__init__(workload)
        self._pruned = pruned

    def add(self, window: Window) -> None:
        """Take in the next window."""
        if self._pruned is not None and window.accesses is not None:
            self._rate, self._past = self._pruned.rate, _Resumed(self._pruned)
            self._pruned = None
        super().add(window)


class _Resumed(PastUses):
    def __init__(self, pruned: PrunedUses) -> None:
        super().__init__()
        nodes, sums = pruned.nodes.tolist(), pruned.sums.tolist()
        self._weights = dict(zip(nodes, sums, strict=True))
        self._total, self._weight = pruned.total, pruned.weight
