"""What all policies with a buffer share: settings, slots, fetch targets and changes of capacity."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.directory import make_directory
from rudder.training.buffer.hot_set import MAX_HOT_ROWS, HotSet
from rudder.training.buffer.policy import BatchPlan, IntArray, Policy, Resize, after_another
from rudder.training.buffer.records import Records, zeros
from rudder.training.buffer.rows import MemoryPool
from rudder.training.buffer.targets import InclusionProbability, choose_all, refusal_of_targets
from rudder.training.compiled import AHEAD, compiled, prefetch
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings, Change, FetchTargets

_MAX_BLOCKS = 16
"""Blocks of memory for the arrays of plans, a few per plan: more than a loader has under way."""


class SlotBuffer(Policy):
    """Keeps a record of each remote node, with the buffer slot that it is in.

    A sub-class says what its records hold, which rows to evict, and what each batch does.
    """

    name: ClassVar[str]
    node: ClassVar[np.dtype[Any]]
    """The record of a node; its field `slot` is 1 + the buffer slot, 0: not buffered."""
    without_meaning: ClassVar[dict[str, str]] = {}
    """Settings that are refused, and why."""
    fetches_without_batch: ClassVar[bool] = True
    """Otherwise rows for idle times are fetched with the next batch."""

    def __init__(
        self,
        view: PartitionView,
        settings: BufferSettings,
        *,
        vip: InclusionProbability | None = None,
    ) -> None:
        super().__init__(settings)
        self._view = view
        self._vip = vip
        self._directory = make_directory(view.num_remote)
        self._pool = MemoryPool(max_blocks=_MAX_BLOCKS)
        self._nodes: Records = zeros(view.num_remote, self.node)
        self._pending: list[FetchTargets] = []
        self._for_idle: FetchTargets | None = None
        self._idle_records = np.empty(0, dtype=np.int64)
        self._resize: Resize | None = None
        self._make_slots(settings.capacity_rows)

    @property
    def num_buffered(self) -> int:
        """Rows in the buffer after the last plan."""
        return self._num_slots - self._num_free

    @property
    def num_bytes(self) -> int:
        """Memory of the policy's own state; of the records, only those in use."""
        arrays = [array for array in vars(self).values() if isinstance(array, np.ndarray)]
        used = sum(array.nbytes for array in arrays) - self._nodes.nbytes + self._records().nbytes
        return used + self._directory.num_bytes + self._pool.num_bytes

    @property
    def wants_rows(self) -> bool:
        """Whether rows are to be fetched while the loader is idle."""
        return self._for_idle is not None or len(self._idle_records) > 0

    def hot_set(self) -> HotSet:
        """The nodes used most so far, buffered or not."""
        heat = self._heat()
        used = np.flatnonzero(heat > 0)
        hottest = used[np.argsort(-heat[used], kind="stable")[:MAX_HOT_ROWS]]
        nodes = self._view.to_global(self._directory.nodes_of(hottest))
        return HotSet(nodes, heat[hottest] / np.float32(self._use_weight))

    def refusal(self, change: Change) -> str | None:
        """Why a change has no meaning here, or cannot be made; None if it can."""
        for name, reason in self.without_meaning.items():
            if getattr(change, name) != getattr(Change(), name):
                return f"{name} means nothing to the policy `{self.name}`: {reason}"
        targets = change.fetch_targets
        capacity = change.over(self._settings).capacity_rows
        if capacity == 0 and (targets is not None or change.replace_now):
            return "capacity_rows = 0: there is no buffer that rows could be fetched into"
        if targets is None:
            return None
        return refusal_of_targets(targets, self._view, vip=self._vip)

    def apply(self, change: Change) -> None:
        """Make a change from the next plan on; a smaller capacity evicts at once."""
        super().apply(change)
        if change.capacity_rows is not None:
            self._set_capacity(change.capacity_rows)
        if (targets := change.fetch_targets) is not None:
            if targets.while_idle and self.fetches_without_batch:
                self._for_idle = targets
            else:
                self._pending.append(targets)
        if change.replace_now:
            self._replace_now()

    # -- what a policy decides ----------------------------------------------------------

    def _worst(self, count: int) -> IntArray:
        """`count` records to drop, of at least as many that are buffered."""
        raise NotImplementedError

    def _resized(self, kept: IntArray, sources: IntArray) -> None:
        """Called after records `kept` moved from slots `sources` to slots 0, 1, ..."""

    def _replace_now(self) -> None:
        """Called when a replacement round is requested."""

    def _heat(self) -> NDArray[np.float32]:
        """float32[records]: how much each node that is not buffered was used."""
        raise NotImplementedError

    @property
    def _use_weight(self) -> float:
        """What the latest use adds to a node's heat."""
        return 1.0

    # -- records, targets and slots -----------------------------------------------------

    def _records(self) -> Records:
        """The records in use."""
        return self._nodes[: len(self._directory)]

    def _buffered(self) -> IntArray:
        """int64: the records in the buffer, ordered by slot."""
        found = np.flatnonzero(self._records()["slot"])
        return np.asarray(found[np.argsort(self._nodes["slot"][found])])

    def _take_targets(self, missed: IntArray) -> IntArray:
        """Records of the rows to fetch eagerly: not buffered, and not missed by this batch."""
        if not self._pending:
            return np.empty(0, dtype=np.int64)
        pending, self._pending = self._pending, []
        return self._chosen(pending, missed)

    def _take_idle(self, most_rows: int) -> IntArray:
        """The next records to fetch while the loader is idle; they are chosen once per request."""
        if self._for_idle is not None:
            self._idle_records = self._chosen([self._for_idle], self._idle_records[:0])
            self._for_idle = None
        still_out = self._idle_records[self._nodes["slot"][self._idle_records] == 0]
        self._idle_records = still_out[most_rows:]
        return np.asarray(still_out[:most_rows])

    def _chosen(self, wanted: list[FetchTargets], missed: IntArray) -> IntArray:
        blocked = self._records()["slot"] != 0
        blocked[missed] = True
        return choose_all(
            wanted, self._view, self._directory, heat=self._heat(), blocked=blocked, vip=self._vip
        )

    def _take_resize(self) -> Resize | None:
        """The changes of capacity since the last plan, as one."""
        resize, self._resize = self._resize, None
        return resize

    def _make_slots(self, capacity: int) -> None:
        """Make empty slots, no more than there are nodes to fill them.

        Slots are filled in order, and one that a row leaves is filled at once: the free ones are
        the last ones.
        """
        self._num_slots = self._num_free = min(capacity, self._view.num_remote)

    def _set_capacity(self, capacity: int) -> None:
        size = min(capacity, self._view.num_remote)
        if size == self._num_slots:
            return
        self._nodes["slot"][self._worst(max(self.num_buffered - size, 0))] = 0
        kept = self._buffered()
        sources = self._nodes["slot"][kept].astype(np.int64) - 1
        targets = np.arange(len(kept), dtype=np.int64)
        self._make_slots(capacity)
        self._nodes["slot"][kept] = targets + 1
        self._num_free -= len(kept)
        self._resized(kept, sources)
        self._resize = after_another(self._resize, Resize(size, sources, targets))


NODE = np.dtype([("slot", np.int32), ("uses", np.uint32), ("mark", np.int32)])
"""The record of each remote node seen: 1 + its buffer slot, 0: not buffered; the number of batches
that used it; and a mark for the policy's own purposes. All are zero at first."""


@compiled
def split(
    records: IntArray, nodes: Records, hits: IntArray, hit_slots: IntArray, misses: IntArray,
    missed: IntArray,
) -> int:  # fmt: skip
    """Tell hits from misses and count the uses.

    records: int64[n]; nodes: NODE[..]. Fills hits, hit_slots, misses and missed (their records;
    all int64[n]) and returns the number of hits.
    """
    num_hits = 0
    num_misses = 0
    for i in range(records.shape[0]):
        prefetch(nodes, records[min(i + AHEAD, records.shape[0] - 1)])
        node = records[i]
        nodes[node].uses += np.uint32(1)
        slot = nodes[node].slot
        if slot > 0:
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


class ReactiveBuffer(SlotBuffer):
    """Learns from each batch when it is planned, not before; a sub-class decides which misses get a
    slot and which rows leave.

    Knows the record in each slot (`_owners`) and the number of batches so far.
    """

    node = NODE
    _batches = 0

    def plan(self, nodes: IntArray) -> BatchPlan:
        """Tell hits from misses, and give slots to the misses that the policy admits."""
        self._batches += 1
        hits, hit_slots, misses, missed = self._split(self._directory.find(nodes))
        targets = self._take_targets(missed)
        return self._planned(hits, hit_slots, misses, missed, targets)

    def fetch(self, most_rows: int) -> BatchPlan:
        """Plan an eager fetch without a batch, into slots that the policy gives to such rows."""
        none = np.empty(0, dtype=np.int64)
        targets = self._take_idle(most_rows)[: self._num_slots]
        return self._planned(none, none, none, none, targets)

    def _planned(
        self, hits: IntArray, hit_slots: IntArray, misses: IntArray, missed: IntArray,
        targets: IntArray,
    ) -> BatchPlan:  # fmt: skip
        self._admit(missed, targets)
        admitted, slots = self._admitted(missed)
        chosen, target_slots = self._admitted(targets)
        return BatchPlan(
            hits=hits,
            hit_slots=hit_slots,
            misses=misses,
            admitted=admitted,
            admitted_slots=slots,
            targets=self._directory.nodes_of(targets[chosen]),
            target_slots=target_slots,
            resize=self._take_resize(),
        )

    def _admit(self, missed: IntArray, targets: IntArray) -> None:
        """Give slots to some of a batch's misses, and to some of the rows to fetch eagerly."""
        raise NotImplementedError

    def _heat(self) -> NDArray[np.float32]:
        return self._records()["uses"].astype(np.float32)

    def _split(self, records: IntArray) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        """Positions of hits, their slots, positions of misses, and their records."""
        size = len(records)
        hits, hit_slots, misses = self._pool.take_ids(3, size)  # for the plan, which lives longer
        missed = self._pool.take_ids(1, size)[0]
        count = split(records, self._nodes, hits, hit_slots, misses, missed)
        left = size - count
        return hits[:count], hit_slots[:count], misses[:left], missed[:left]

    def _admitted(self, records: IntArray) -> tuple[IntArray, IntArray]:
        """Positions of the records that have a slot by now, and their slots."""
        admitted, slots = self._pool.take_ids(2, len(records))
        count = find_admitted(records, self._nodes, admitted, slots)
        return admitted[:count], slots[:count]

    def _take_targets(self, missed: IntArray) -> IntArray:
        """As SlotBuffer does, but no more than there are slots."""
        return super()._take_targets(missed)[: self._num_slots]

    # -- slots --------------------------------------------------------------------------

    def _make_slots(self, capacity: int) -> None:
        super()._make_slots(capacity)
        self._owners = np.zeros(self._num_slots, dtype=np.int64)

    def _used_slots(self) -> IntArray:
        return np.arange(self._num_slots - self._num_free)

    def _resized(self, kept: IntArray, sources: IntArray) -> None:
        self._owners[: len(kept)] = kept
