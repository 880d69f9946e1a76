"""What an eviction policy of one's own is made from: a base class, and the facts of the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.policies.slots import ReactiveBuffer
from rudder.training.buffer.policy import BatchPlan, IntArray
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings

__all__ = ["NewBuffer", "OwnBuffer"]

_WORTH_ALONE = "it evicts the rows of least worth, and has neither a threshold nor rounds"


@dataclass(frozen=True)
class NewBuffer:
    """What a policy is made from.

    view: this trainer's partition; settings: capacity and lookahead at the start; fanouts: input
    layer first, None where they are not known; batch_size, epoch_batches: of this trainer; seed:
    of random choices.
    """

    view: PartitionView
    settings: BufferSettings
    fanouts: tuple[int, ...] | None = None
    batch_size: int = 1
    epoch_batches: int = 100
    seed: int = 0


class OwnBuffer(ReactiveBuffer):
    """Keeps the rows of most worth; a sub-class says in `worth` what a row is worth.

    Each batch, rows that were missed take the free slots, and then the slots of rows that are worth
    less. Nodes are numbered from 0, below `num_nodes`, and keep their numbers. The numbers may be
    others than those in `view`. A batch costs time in proportion to the rows in the buffer.
    """

    name: ClassVar[str] = "own"
    """For messages."""
    without_meaning: ClassVar[dict[str, str]] = dict.fromkeys(
        ("eviction_threshold", "replacement_interval", "replace_now"), _WORTH_ALONE
    )

    def __init__(self, buffer: NewBuffer) -> None:
        self.num_nodes = buffer.view.num_remote
        super().__init__(buffer.view, buffer.settings)

    def use(self, nodes: IntArray) -> None:
        """Take note of a batch that uses these remote nodes, int64[n], each once; it is called
        before the rows of the batch enter the buffer."""

    def worth(self, nodes: IntArray) -> NDArray[Any]:
        """What it is worth to keep the rows of these nodes, int64[n]; a number for each, and more
        is better."""
        raise NotImplementedError

    def plan(self, nodes: IntArray) -> BatchPlan:
        """Note the uses, then as any policy that admits what it has missed."""
        self.use(self._directory.find(nodes))
        return super().plan(nodes)

    def _admit(self, missed: IntArray, targets: IntArray) -> None:
        newcomers = np.concatenate([missed, targets])
        newcomers = newcomers[self._by_worth(newcomers)[::-1]]
        used = self._num_slots - self._num_free
        entering = newcomers[: self._num_free]
        self._put(entering, np.arange(used, used + len(entering)))
        self._num_free -= len(entering)
        rest = newcomers[len(entering) :][:used]
        if not len(rest):
            return
        slots = self._by_worth(self._owners[:used], first=len(rest))
        better = self.worth(rest) > self.worth(self._owners[slots])
        self._nodes["slot"][self._owners[slots[better]]] = 0
        self._put(rest[better], slots[better])

    def _put(self, nodes: IntArray, slots: IntArray) -> None:
        self._owners[slots] = nodes
        self._nodes["slot"][nodes] = slots + 1

    def _by_worth(self, nodes: IntArray, *, first: int | None = None) -> IntArray:
        """Positions of nodes, from the least worth up; first: of so many only."""
        worth = self.worth(nodes)
        if first is None or first >= len(nodes):
            return np.argsort(worth, kind="stable")
        least = np.argpartition(worth, first - 1)[:first]
        return np.asarray(least[np.argsort(worth[least], kind="stable")])

    def _worst(self, count: int) -> IntArray:
        buffered = self._buffered()
        return np.asarray(buffered[self._by_worth(buffered)[:count]])
