"""Rudder's own policy: keep the rows that are used next, as far as the sampler has looked ahead.

Within the window of observed batches the next use of a row is known. Beyond it, rows are ranked by
their decayed count of uses (heat). Misses are admitted without extra traffic, because their rows
were fetched anyway; they displace the rows worth least, as long as those are worth less. Eager
fetches happen on request only. This is an on-line form of Belady's OPT with bypass (1966): with an
infinite window it is OPT. Cost: O(batch) per batch, O(nodes seen) per change of settings or eager
fetch.
"""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.policies import lookahead_kernels as kernels
from rudder.training.buffer.policies.slots import SlotBuffer
from rudder.training.buffer.policy import HALF_LIFE_BATCHES, BatchPlan, IntArray
from rudder.training.buffer.records import Int32s
from rudder.training.buffer.stacks import drain, make_stacks
from rudder.training.buffer.targets import InclusionProbability
from rudder.training.errors import MachineError
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings, Change, FetchTargets

_MIN_SIZE = 16
_MAX_SIZE = 2**31
"""Places are numbered by uint32; a ring of this size takes 16 GiB."""
MAX_WEIGHT = 2.0**10
"""When one use adds this much heat, all heat is scaled down. Then a row that every batch uses stays
below HIGHEST_HEAT, and heat stays within the precision of float32."""
_MIN_RING = 4


class LookaheadWindow:
    """The batches that are observed and not yet planned, oldest first.

    next_use, records: int32[size], size a power of two; place p is stored at p % size. It holds the
    number of the next batch that uses the same node (0: none is known) and the node's record.
    Places are never reset, so they stay valid when the ring grows.
    """

    def __init__(self) -> None:
        self.next_use: Int32s = np.empty(_MIN_SIZE, dtype=np.int32)
        self.records: Int32s = np.empty(_MIN_SIZE, dtype=np.int32)
        self.tail = 0
        self.head = 0
        self._widths: deque[int] = deque()

    def __len__(self) -> int:
        """Batches."""
        return len(self._widths)

    @property
    def num_bytes(self) -> int:
        """Memory of the ring."""
        return self.next_use.nbytes + self.records.nbytes

    def make_room(self, width: int) -> None:
        """Make room for `width` more nodes from place `head` on.

        Raises MachineError if the ring would become too large.
        """
        wanted = self.head - self.tail + width
        size = len(self.next_use)
        if wanted <= size:
            return
        if wanted > _MAX_SIZE:
            raise MachineError(
                f"a lookahead of {len(self)} batches has {wanted} remote nodes,"
                f" more than {_MAX_SIZE}",
                remedy="lower lookahead_batches or the batch size",
            )
        places = np.arange(self.tail, self.head)
        grown_size = 1 << (wanted - 1).bit_length()
        for name in ("next_use", "records"):
            grown = np.empty(grown_size, dtype=np.int32)
            grown[places % grown_size] = getattr(self, name)[places % size]
            setattr(self, name, grown)

    def append(self, width: int) -> None:
        """Add the newest batch, whose nodes are already written."""
        self.head += width
        self._widths.append(width)

    def pop(self) -> None:
        """Remove the oldest batch."""
        self.tail += self._widths.popleft()

    def check_oldest(self, width: int) -> None:
        """Raise ValueError unless the oldest batch has `width` nodes."""
        if not self._widths or self._widths[0] != width:
            raise ValueError(
                f"the batch to plan has {width} nodes, but the oldest observed batch has"
                f" {self._widths[0] if self._widths else 'none'}"
            )


class LookaheadBuffer(SlotBuffer):
    """Evicts the row with the furthest next use; beyond the window, the one with the least heat."""

    name: ClassVar[str] = "lookahead"
    node: ClassVar[np.dtype[Any]] = kernels.NODE
    without_meaning: ClassVar[dict[str, str]] = {
        "replacement_interval": "it replaces rows in every batch"
    }

    def __init__(
        self,
        view: PartitionView,
        settings: BufferSettings,
        *,
        half_life_batches: float = HALF_LIFE_BATCHES,
        vip: InclusionProbability | None = None,
    ) -> None:
        self._window = LookaheadWindow()
        self._batch = 1
        self._weight = 1.0
        self._growth = 2.0 ** (1.0 / half_life_batches)
        self._total_weight = 0.0
        self._ring = _MIN_RING
        super().__init__(view, settings, vip=vip)

    @property
    def num_bytes(self) -> int:
        """Memory of the policy's own state; of the records, only those in use."""
        return super().num_bytes + self._stacks.num_bytes + self._window.num_bytes

    def observe(self, nodes: IntArray) -> None:
        """Add the batch to the window: O(len(nodes))."""
        window = self._window
        window.make_room(len(nodes))
        kernels.observe(
            self._directory.find(nodes), self._batch + len(window), np.float32(self._weight),
            self._nodes, window.next_use, window.records, window.head,
        )  # fmt: skip
        window.append(len(nodes))
        self._total_weight += self._weight
        self._weight *= self._growth
        if len(window) + 2 > self._ring:
            self._restack(ring=2 * self._ring)
        if self._weight > MAX_WEIGHT:
            self._cool()

    def plan(self, nodes: IntArray) -> BatchPlan:
        """Tell hits from misses, and admit the misses that are worth a slot."""
        hits, hit_slots, misses, missed, ranks = self._split(len(nodes))
        plan = self._planned(hits, hit_slots, misses, missed, ranks, self._take_targets(missed))
        self._end_batch()
        return plan

    def fetch(self, most_rows: int) -> BatchPlan:
        """Plan an eager fetch without a batch, of rows that are worth a slot."""
        none = np.empty(0, dtype=np.int64)
        return self._planned(none, none, none, none, none, self._take_idle(most_rows))

    def _planned(
        self, hits: IntArray, hit_slots: IntArray, misses: IntArray, missed: IntArray,
        ranks: IntArray, targets: IntArray,
    ) -> BatchPlan:  # fmt: skip
        if len(targets):
            ranks = np.concatenate([ranks, self._ranks_of(targets)])
        newcomers = np.concatenate([missed, targets]) if len(targets) else missed
        admitted, slots = self._admit(newcomers, ranks)
        is_target = admitted >= len(misses) if len(targets) else np.zeros(0, dtype=bool)
        targets, target_slots = targets[admitted[is_target] - len(misses)], slots[is_target]
        if len(is_target):
            self._nodes["heat"][targets] += np.float32(self._weight)
            admitted, slots = admitted[~is_target], slots[~is_target]
        return BatchPlan(
            hits=hits,
            hit_slots=hit_slots,
            misses=misses,
            admitted=admitted,
            admitted_slots=slots,
            targets=self._directory.nodes_of(targets),
            target_slots=target_slots,
            resize=self._take_resize(),
        )

    def skip(self, nodes: IntArray) -> None:
        """Drop the oldest observed batch: its uses count, but nothing is admitted."""
        self._split(len(nodes))
        self._end_batch()

    def apply(self, change: Change) -> None:
        """Make a change from the next plan on; a smaller capacity drops the rows worth least."""
        super().apply(change)
        if change.eviction_threshold is not None:
            self._restack(ring=self._ring)

    def _replace_now(self) -> None:
        """Fetch the most used rows; admission keeps those that are worth more than others."""
        if capacity := self._settings.capacity_rows:
            self._pending.append(FetchTargets(source="observed", row_budget=capacity))

    # -- one batch ----------------------------------------------------------------------

    def _split(self, size: int) -> tuple[IntArray, IntArray, IntArray, IntArray, IntArray]:
        """Of the oldest batch: hits and their slots; misses, their records and ranks."""
        window = self._window
        window.check_oldest(size)
        hits, hit_slots, misses = self._pool.take_ids(3, size)  # for the plan, which lives longer
        moved, stacks, missed, ranks = self._pool.take_ids(4, size)
        num_hits = kernels.split(
            size, self._batch, self._ring, self._nodes, window.next_use, window.records,
            window.tail, hits, hit_slots, misses, missed, ranks,
        )  # fmt: skip
        kernels.restack_used(
            self._batch, self._ring, self._nodes, self._stacks.chunks, self._stacks.tops, moved,
            stacks,
        )  # fmt: skip
        left = size - num_hits
        return hits[:num_hits], hit_slots[:num_hits], misses[:left], missed[:left], ranks[:left]

    def _end_batch(self) -> None:
        self._window.pop()
        self._batch += 1

    def _admit(self, newcomers: IntArray, ranks: IntArray) -> tuple[IntArray, IntArray]:
        admitted, slots = self._pool.take_ids(2, len(newcomers))
        order = self._pool.take_ids(1, len(newcomers))[0]
        threshold = self._settings.eviction_threshold
        threshold_heat = np.inf if threshold >= 1 else threshold * self._total_weight
        count, self._num_free = kernels.admit(
            newcomers, ranks, self._batch, self._ring, np.float32(threshold_heat), self._nodes,
            self._stacks.chunks, self._stacks.tops, self._num_slots, self._num_free,
            order, admitted, slots,
        )  # fmt: skip
        return admitted[:count], slots[:count]

    def _heat(self) -> NDArray[np.float32]:
        return np.asarray(self._records()["heat"])

    @property
    def _use_weight(self) -> float:
        return self._weight

    def _ranks_of(self, targets: IntArray) -> IntArray:
        ranks = np.empty(len(targets), dtype=np.int64)
        kernels.target_ranks(
            targets, np.float32(self._weight), self._batch, self._ring, self._nodes, ranks
        )
        return ranks

    # -- slots --------------------------------------------------------------------------

    def _make_slots(self, capacity: int) -> None:
        super()._make_slots(capacity)
        self._make_stacks()

    def _make_stacks(self) -> None:
        self._stacks = make_stacks(kernels.HEAT_RANKS + 2 * self._ring, room=self._num_slots)

    def _stack_all(self, buffered: IntArray) -> None:
        kernels.stack_all(
            buffered, self._batch, self._ring, self._nodes, self._stacks.chunks, self._stacks.tops
        )

    def _restack(self, *, ring: int) -> None:
        """Put all buffered nodes on the stacks of their present ranks, with `ring` batches."""
        buffered = np.empty(self.num_buffered, dtype=np.int64)
        drain(self._stacks.chunks, self._stacks.tops, buffered)
        self._ring = ring
        self._make_stacks()
        self._stack_all(buffered)

    def _worst(self, count: int) -> IntArray:
        """The records worth least, however hot; they leave their stacks."""
        self._restack(ring=self._ring)
        dropped = np.empty(count, dtype=np.int64)
        kernels.take_worst(
            dropped, self._batch, self._ring, self._nodes, self._stacks.chunks, self._stacks.tops
        )
        return dropped

    def _resized(self, kept: IntArray, sources: IntArray) -> None:
        self._stack_all(kept)

    def _cool(self) -> None:
        self._records()["heat"] /= np.float32(self._weight)
        self._total_weight /= self._weight
        self._weight = 1.0
        self._restack(ring=self._ring)
