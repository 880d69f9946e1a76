"""A set of rows that is chosen once and kept; each is admitted when a batch first misses it.

The set is chosen by in-degree, by the analytic inclusion probability (VIP), or by counting the uses
in one epoch (presample). While it counts, the buffer admits every miss until it is full.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from rudder.training.buffer.policies.slots import ReactiveBuffer
from rudder.training.buffer.policy import IntArray
from rudder.training.buffer.records import Records
from rudder.training.buffer.targets import FloatArray, InclusionProbability, halo_worth
from rudder.training.compiled import compiled
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings, Change

StaticSource = Literal["degree", "presample", "vip"]
CHOSEN = 1
"""Mark of the nodes in the set."""


@compiled
def admit(
    newcomers: IntArray, room: int, nodes: Records, owners: IntArray, num_slots: int, num_free: int,
    spare: IntArray, num_spare: int,
) -> tuple[int, int, int]:  # fmt: skip
    """Admit the newcomers in the set, and add others to the set while it has room.

    spare: slots of rows outside the set, which are evicted when slots are needed; free and spare
    slots suffice for all of the set that is not buffered. Returns (free slots, spare slots, room).
    """
    for j in range(newcomers.shape[0]):
        node = newcomers[j]
        if nodes[node].mark != CHOSEN:
            if room == 0:
                continue
            room -= 1
            nodes[node].mark = CHOSEN
        if num_free > 0:
            num_free -= 1
            slot = num_slots - 1 - num_free
        else:
            num_spare -= 1
            slot = spare[num_spare]
            nodes[owners[slot]].slot = 0
        owners[slot] = node
        nodes[node].slot = slot + 1
    return num_free, num_spare, room


class StaticBuffer(ReactiveBuffer):
    """Its set changes on request only: with the capacity, by fetch targets, or by a new choice."""

    name: ClassVar[str] = "static"
    without_meaning: ClassVar[dict[str, str]] = {
        "eviction_threshold": "its rows are not displaced",
        "replacement_interval": "it has no rounds",
    }

    def __init__(
        self,
        view: PartitionView,
        settings: BufferSettings,
        *,
        source: StaticSource = "presample",
        epoch_batches: int = 100,
        vip: InclusionProbability | None = None,
    ) -> None:
        """Choose the set, or start to count; source vip needs `vip`.

        epoch_batches: batches in one epoch; presample counts that many.
        """
        super().__init__(view, settings, vip=vip)
        self._source = source
        self._is_counting = source == "presample"
        self._counts_until = epoch_batches
        self._room = len(self._owners)
        self._spare, self._num_spare = np.empty(0, dtype=np.int64), 0
        if not self._is_counting:
            self._choose()

    def refusal(self, change: Change) -> str | None:
        """A round chooses a new set; only with presample can it differ from the old one."""
        if change.replace_now and self._source != "presample":
            return (
                "replace_now means nothing to the policy `static` with source"
                f" {self._source}: the choice would be the same"
            )
        return super().refusal(change)

    def _admit(self, missed: IntArray, targets: IntArray) -> None:
        self._pin(targets)
        newcomers = np.concatenate([targets, missed]) if len(targets) else missed
        room = self._room if self._is_counting else 0
        self._num_free, self._num_spare, room = admit(
            newcomers, room, self._nodes, self._owners, self._num_slots, self._num_free,
            self._spare, self._num_spare,
        )  # fmt: skip
        if self._is_counting:
            self._room = room
            self._is_counting = self._batches < self._counts_until
            if not self._is_counting:
                self._choose()

    def _replace_now(self) -> None:
        if not self._is_counting:
            self._choose()

    # -- the set ------------------------------------------------------------------------

    def _choose(self) -> None:
        """Make a set of the nodes worth most, as many as there are slots."""
        nodes, worth = self._ranking()
        size = len(self._owners)
        if len(nodes) > size:
            best = np.argsort(-worth, kind="stable")[:size]
            nodes = nodes[best]
        self._records()["mark"] = 0
        self._nodes["mark"][self._directory.find(nodes)] = CHOSEN
        self._room = size - len(nodes)
        self._note_spare()

    def _ranking(self) -> tuple[IntArray, FloatArray]:
        """Nodes worth more than nothing, in ascending order, and their worth."""
        if self._source == "presample":
            used = np.flatnonzero(self._records()["uses"])
            used = used[np.argsort(self._directory.nodes_of(used))]
            return self._directory.nodes_of(used), self._nodes["uses"][used].astype(np.float64)
        worth = halo_worth(self._source, self._view, self._vip)
        useful = worth > 0
        return self._view.to_remote(self._view.halo)[useful], worth[useful]

    def _pin(self, targets: IntArray) -> None:
        """Add records to the set, in place of those worth least."""
        fresh = targets[self._nodes["mark"][targets] != CHOSEN]
        if not len(fresh):
            return
        excess = len(fresh) - self._room
        if excess > 0:
            self._unpin(self._worth_least(excess, but=targets))
        self._nodes["mark"][fresh] = CHOSEN
        self._room -= len(fresh)

    def _worth_least(self, count: int, *, but: IntArray) -> IntArray:
        chosen = np.flatnonzero(self._records()["mark"] == CHOSEN)
        chosen = chosen[~np.isin(chosen, but)]
        chosen = chosen[np.argsort(self._directory.nodes_of(chosen))]
        return np.asarray(chosen[np.argsort(self._worth()[chosen], kind="stable")[:count]])

    def _worth(self) -> FloatArray:
        """float64[records]."""
        worth = np.zeros(len(self._directory))
        nodes, of_nodes = self._ranking()
        is_seen = self._directory.is_seen(nodes)
        worth[self._directory.find(nodes[is_seen])] = of_nodes[is_seen]
        return worth

    def _unpin(self, records: IntArray) -> None:
        self._nodes["mark"][records] = 0
        self._room += len(records)
        self._note_spare()

    def _note_spare(self) -> None:
        used = self._used_slots()
        self._spare = used[self._nodes["mark"][self._owners[used]] != CHOSEN]
        self._num_spare = len(self._spare)

    # -- capacity -----------------------------------------------------------------------

    def _worst(self, count: int) -> IntArray:
        """Rows outside the set first, then those worth least."""
        owners = self._owners[self._used_slots()]
        if not count:
            return owners[:0]
        order = np.lexsort((self._worth()[owners], self._nodes["mark"][owners] == CHOSEN))
        return np.asarray(owners[order[:count]])

    def _resized(self, kept: IntArray, sources: IntArray) -> None:
        super()._resized(kept, sources)
        if not self._is_counting:
            self._choose()
            return
        self._records()["mark"] = 0
        self._nodes["mark"][kept] = CHOSEN
        self._room = len(self._owners) - len(kept)
        self._note_spare()
