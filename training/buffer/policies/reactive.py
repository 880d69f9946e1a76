"""What the policies share that learn from each batch as it is planned, and not before.

A policy of this kind says what a hit does, how newcomers get in, and which rows go first.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.directory import make_directory
from rudder.training.buffer.memory import zeros
from rudder.training.buffer.policy import IntArray, Plan, Resize, after_another
from rudder.training.buffer.prefetch import AHEAD, prefetch
from rudder.training.buffer.records import Records
from rudder.training.buffer.scratch import Scratch
from rudder.training.buffer.targets import choose_all, refusal_of_targets
from rudder.training.buffer.vip import InclusionProbability
from rudder.training.compiled import compiled
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings, Change, FetchTargets

NODE = np.dtype([("slot", np.int32), ("uses", np.uint32), ("mark", np.int32)])
"""Of each remote node seen: 1 + the buffer row it is in, 0: in none; the batches that used it; and
a mark of the policy's own. All zero at first. Loops work on the numbers of records (seen.py)."""

_SETTINGS = ("capacity_rows", "eviction_threshold", "lookahead_batches", "replacement_interval")


@compiled
def split(
    records: IntArray, max_mark: int, nodes: Records, hits: IntArray, hit_slots: IntArray,
    misses: IntArray, missed: IntArray,
) -> int:  # fmt: skip
    """Tell hits from misses and count the uses; a hit raises the node's mark up to `max_mark`.

    records: int64[n]; nodes: NODE[..]. Fills hits, hit_slots, misses and missed (their records;
    all int64[n]) and returns how many hits there are.
    """
    num_hits = 0
    num_misses = 0
    for i in range(records.shape[0]):
        prefetch(nodes, records[min(i + AHEAD, records.shape[0] - 1)])
        node = records[i]
        nodes[node].uses += np.uint32(1)
        slot = nodes[node].slot
        if slot > 0:
            if nodes[node].mark < max_mark:
                nodes[node].mark += 1
            hits[num_hits] = i
            hit_slots[num_hits] = slot - 1
            num_hits += 1
        else:
            misses[num_misses] = i
            missed[num_misses] = node
            num_misses += 1
    return num_hits


@compiled
def find_admitted(records: IntArray, nodes: Records, admitted: IntArray, slots: IntArray) -> int:
    """Fill admitted with the positions of records that have a slot, and slots; returns how many."""
    count = 0
    for j in range(records.shape[0]):
        slot = nodes[records[j]].slot
        if slot > 0:
            admitted[count] = j
            slots[count] = slot - 1
            count += 1
    return count


class ReactiveBuffer:
    """Slots, settings, targets and resizes; sub-classes rank the rows."""

    name: ClassVar[str]
    without_meaning: ClassVar[dict[str, str]] = {}
    """Settings that are refused, and why."""
    max_mark: ClassVar[int] = 0
    node: ClassVar[np.dtype[Any]] = NODE

    def __init__(
        self,
        view: PartitionView,
        settings: BufferSettings,
        *,
        vip: InclusionProbability | None = None,
    ) -> None:
        self._view = view
        self._settings = settings
        self._vip = vip
        self._batches = 0
        self._directory = make_directory(view.num_remote)
        self._scratch = Scratch()
        self._nodes = zeros(view.num_remote, self.node)
        self._pending: list[FetchTargets] = []
        self._resize: Resize | None = None
        self._make_slots(settings.capacity_rows)

    @property
    def settings(self) -> BufferSettings:
        """The settings in force for the next plan."""
        return self._settings

    @property
    def num_buffered(self) -> int:
        """Rows in the buffer after the last plan."""
        return len(self._owners) - self._num_free

    @property
    def num_bytes(self) -> int:
        """Memory of the policy's own state; of the records, those in use."""
        arrays = [array for array in vars(self).values() if isinstance(array, np.ndarray)]
        used = sum(array.nbytes for array in arrays) - self._nodes.nbytes + self._records().nbytes
        return used + self._directory.num_bytes + self._scratch.num_bytes

    def observe(self, nodes: IntArray) -> None:
        """Nothing is learned from the future."""

    def skip(self, nodes: IntArray) -> None:
        """Nothing is learned from a batch that does not happen."""

    def plan(self, nodes: IntArray) -> Plan:
        """Split into hits and misses, and let the misses in that the policy wants."""
        self._batches += 1
        hits, hit_slots, misses, missed = self._split(self._directory.find(nodes))
        targets = self._take_targets(missed)
        self._admit(missed, targets)
        admitted, slots = self._admitted(missed)
        chosen, target_slots = self._admitted(targets)
        resize, self._resize = self._resize, None
        return Plan(
            hits=hits,
            hit_slots=hit_slots,
            misses=misses,
            admitted=admitted,
            admitted_slots=slots,
            targets=self._directory.nodes_of(targets[chosen]),
            target_slots=target_slots,
            resize=resize,
        )

    def refusal(self, change: Change) -> str | None:
        """What means nothing to this policy is refused, and targets that do not exist."""
        for name, reason in self.without_meaning.items():
            if getattr(change, name) != getattr(Change(), name):
                return f"{name} means nothing to the policy `{self.name}`: {reason}"
        targets = change.fetch_targets
        capacity = change.capacity_rows
        if capacity is None:
            capacity = self._settings.capacity_rows
        if capacity == 0 and (targets is not None or change.replace_now):
            return "capacity_rows = 0: there is no buffer that rows could be fetched into"
        if targets is None:
            return None
        return refusal_of_targets(targets, self._view, vip=self._vip)

    def apply(self, change: Change) -> None:
        """Make a change from the next plan on; a smaller capacity evicts at once."""
        update = {name: value for name in _SETTINGS if (value := getattr(change, name)) is not None}
        self._settings = self._settings.model_copy(update=update)
        if change.capacity_rows is not None:
            self._set_capacity(change.capacity_rows)
        if change.fetch_targets is not None:
            self._pending.append(change.fetch_targets)
        if change.replace_now:
            self._replace_now()

    # -- what a policy decides ----------------------------------------------------------

    def _admit(self, missed: IntArray, targets: IntArray) -> None:
        """Give slots to some of a batch's misses, and to some of the rows wanted eagerly."""
        raise NotImplementedError

    def _evict(self, count: int) -> None:
        """Free `count` slots; so many are in use."""
        raise NotImplementedError

    def _resized(self, kept: IntArray) -> None:
        """Called after the used slots `kept` became slots 0, 1, ... of the new capacity."""

    def _replace_now(self) -> None:
        """Called on request of a replacement round."""

    def _heat(self) -> NDArray[np.float32]:
        """float32[records]: how much used each node is that is not buffered."""
        return self._records()["uses"].astype(np.float32)

    def _split(self, records: IntArray) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        """Positions of hits, their slots, positions of misses, and their records."""
        size = len(records)
        hits, hit_slots, misses, missed = (self._scratch.empty(size) for _ in range(4))
        count = split(records, self.max_mark, self._nodes, hits, hit_slots, misses, missed)
        left = size - count
        return hits[:count], hit_slots[:count], misses[:left], missed[:left]

    def _admitted(self, records: IntArray) -> tuple[IntArray, IntArray]:
        """Positions of the records that have a slot by now, and their slots."""
        admitted, slots = (self._scratch.empty(len(records)) for _ in range(2))
        count = find_admitted(records, self._nodes, admitted, slots)
        return admitted[:count], slots[:count]

    def _records(self) -> Records:
        """The records in use."""
        return self._nodes[: len(self._directory)]

    # -- targets and slots --------------------------------------------------------------

    def _take_targets(self, missed: IntArray) -> IntArray:
        """Records of rows wanted eagerly: not buffered, not missed, no more than the capacity."""
        if not self._pending:
            return np.empty(0, dtype=np.int64)
        pending, self._pending = self._pending, []
        blocked = self._records()["slot"] != 0
        blocked[missed] = True
        targets = choose_all(
            pending, self._view, self._directory, heat=self._heat(), blocked=blocked, vip=self._vip
        )
        return targets[: len(self._owners)]

    def _make_slots(self, capacity: int) -> None:
        """Empty slots; no more than there are nodes to fill them."""
        size = min(capacity, self._view.num_remote)
        self._owners = np.zeros(size, dtype=np.int64)
        self._free = np.arange(size - 1, -1, -1, dtype=np.int32)
        self._num_free = size

    def _used_slots(self) -> IntArray:
        is_used = np.ones(len(self._owners), dtype=bool)
        is_used[self._free[: self._num_free]] = False
        return np.flatnonzero(is_used)

    def _set_capacity(self, capacity: int) -> None:
        size = min(capacity, self._view.num_remote)
        if size == len(self._owners):
            return
        self._evict(max(self.num_buffered - size, 0))
        kept = self._used_slots()
        owners = self._owners[kept]
        self._make_slots(capacity)
        targets = np.arange(len(kept), dtype=np.int64)
        self._owners[targets] = owners
        self._nodes["slot"][owners] = targets + 1
        self._num_free -= len(kept)
        self._resized(kept)
        self._resize = after_another(self._resize, Resize(size, kept, targets))
