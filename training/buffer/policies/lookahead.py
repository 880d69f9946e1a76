"""Rudder's own policy: keep what is used next, as far as the sampler has looked ahead.

Inside the window of observed batches the next use of a row is known; beyond it, rows are ranked by
their decayed count of uses (heat). A batch's misses are admitted for free, for their rows are in
hand; they displace the rows worth least, and only while those are worth less. Eager fetches
happen on request only. An on-line form of Belady's OPT with bypass (1966): with an endless window
it is OPT. Cost: O(batch) a batch, O(nodes seen) a change of settings or an eager fetch.
"""

from __future__ import annotations

import numpy as np

from rudder.training.buffer.directory import make_directory
from rudder.training.buffer.memory import zeros
from rudder.training.buffer.policies import lookahead_kernels as kernels
from rudder.training.buffer.policies.ranks import HEAT_RANKS
from rudder.training.buffer.policy import IntArray, Plan, Resize, after_another
from rudder.training.buffer.records import LOOKAHEAD_NODE, Records
from rudder.training.buffer.scratch import Scratch
from rudder.training.buffer.stacks import drain, make_stacks
from rudder.training.buffer.targets import choose_all, refusal_of_targets
from rudder.training.buffer.vip import InclusionProbability
from rudder.training.buffer.window import LookaheadWindow
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings, Change, FetchTargets

HALF_LIFE_BATCHES = 4096.0
"""Batches after which a use counts half: long against an epoch, short against a long run."""
MAX_WEIGHT = 2.0**10
"""Heat of one use at which all heat is scaled down: a row used in every batch then stays below
ranks.HIGHEST_HEAT, and heat within float32's precision."""
_MIN_RING = 4


class LookaheadBuffer:
    """Belady's choice inside the window, least heat first beyond it."""

    def __init__(
        self,
        view: PartitionView,
        settings: BufferSettings,
        *,
        half_life_batches: float = HALF_LIFE_BATCHES,
        vip: InclusionProbability | None = None,
    ) -> None:
        self._view = view
        self._vip = vip
        self._settings = settings
        self._directory = make_directory(view.num_remote)
        self._nodes = zeros(view.num_remote, LOOKAHEAD_NODE)
        self._window = LookaheadWindow()
        self._scratch = Scratch()
        self._batch = 1
        self._weight = 1.0
        self._growth = 2.0 ** (1.0 / half_life_batches)
        self._total_weight = 0.0
        self._pending: list[FetchTargets] = []
        self._resize: Resize | None = None
        self._num_free = 0
        self._ring = _MIN_RING
        self._make_slots(settings.capacity_rows)

    @property
    def settings(self) -> BufferSettings:
        """The settings in force for the next plan."""
        return self._settings

    @property
    def num_buffered(self) -> int:
        """Rows in the buffer after the last plan."""
        return len(self._free) - self._num_free

    @property
    def num_bytes(self) -> int:
        """Memory of node, slot and window state; of the records, those in use."""
        in_slots = self._free.nbytes + self._stacks.num_bytes
        passing = self._window.num_bytes + self._scratch.num_bytes
        return self._directory.num_bytes + self._records().nbytes + in_slots + passing

    def observe(self, nodes: IntArray) -> None:
        """Link the batch into the window: O(len(nodes))."""
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

    def plan(self, nodes: IntArray) -> Plan:
        """Split into hits and misses, and admit the misses that are worth a slot."""
        hits, hit_slots, misses, missed, ranks = self._split(len(nodes))
        targets = self._take_targets(missed)
        if len(targets):
            ranks = np.concatenate([ranks, self._ranks_of(targets)])
        newcomers = np.concatenate([missed, targets]) if len(targets) else missed
        admitted, slots = self._admit(newcomers, ranks)
        is_target = admitted >= len(misses) if len(targets) else np.zeros(0, dtype=bool)
        targets, target_slots = targets[admitted[is_target] - len(misses)], slots[is_target]
        if len(is_target):
            self._nodes["heat"][targets] += np.float32(self._weight)
            admitted, slots = admitted[~is_target], slots[~is_target]
        resize, self._resize = self._resize, None
        self._end_batch()
        return Plan(
            hits=hits,
            hit_slots=hit_slots,
            misses=misses,
            admitted=admitted,
            admitted_slots=slots,
            targets=self._directory.nodes_of(targets),
            target_slots=target_slots,
            resize=resize,
        )

    def skip(self, nodes: IntArray) -> None:
        """Pass over the oldest observed batch: its uses count, nothing is admitted."""
        self._split(len(nodes))
        self._end_batch()

    def refusal(self, change: Change) -> str | None:
        """All but rounds can be steered, as long as the targets exist and there is a buffer."""
        if change.replacement_interval is not None:
            return (
                "replacement_interval means nothing to the policy `lookahead`:"
                " it replaces rows in every batch"
            )
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
        """Make a change from the next plan on; a smaller capacity drops the rows worth least."""
        values = {"eviction_threshold", "lookahead_batches", "capacity_rows"}
        update = {name: value for name in values if (value := getattr(change, name)) is not None}
        self._settings = self._settings.model_copy(update=update)
        if change.capacity_rows is not None:
            self._set_capacity(change.capacity_rows)
        if change.eviction_threshold is not None:
            self._restack(ring=self._ring)
        if change.fetch_targets is not None:
            self._pending.append(change.fetch_targets)
        if change.replace_now and self._settings.capacity_rows:
            self._pending.append(
                FetchTargets(source="observed", row_budget=self._settings.capacity_rows)
            )

    # -- one batch ----------------------------------------------------------------------

    def _split(self, size: int) -> tuple[IntArray, IntArray, IntArray, IntArray, IntArray]:
        """Of the oldest batch: hits and their slots; misses, their records and ranks."""
        window = self._window
        window.check_oldest(size)
        moved, stacks, hits, hit_slots, *of_misses = (self._scratch.empty(size) for _ in range(7))
        misses, missed, ranks = of_misses
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
        order, admitted, slots = (self._scratch.empty(len(newcomers)) for _ in range(3))
        threshold = self._settings.eviction_threshold
        threshold_heat = np.inf if threshold >= 1 else threshold * self._total_weight
        count, self._num_free = kernels.admit(
            newcomers, ranks, self._batch, self._ring, np.float32(threshold_heat), self._nodes,
            self._stacks.chunks, self._stacks.tops, self._free, self._num_free,
            order, admitted, slots,
        )  # fmt: skip
        return admitted[:count], slots[:count]

    def _take_targets(self, missed: IntArray) -> IntArray:
        """Records of rows wanted eagerly, neither buffered nor missed by this batch."""
        if not self._pending:
            return np.empty(0, dtype=np.int64)
        pending, self._pending = self._pending, []
        records = self._records()
        blocked = records["slot"] != 0
        blocked[missed] = True
        return choose_all(
            pending,
            self._view,
            self._directory,
            heat=records["heat"],
            blocked=blocked,
            vip=self._vip,
        )

    def _records(self) -> Records:
        """The records in use."""
        return self._nodes[: len(self._directory)]

    def _ranks_of(self, targets: IntArray) -> IntArray:
        ranks = np.empty(len(targets), dtype=np.int64)
        kernels.target_ranks(
            targets, np.float32(self._weight), self._batch, self._ring, self._nodes, ranks
        )
        return ranks

    # -- slots --------------------------------------------------------------------------

    def _make_slots(self, capacity: int) -> None:
        """Empty slots; no more than there are nodes to fill them."""
        size = min(capacity, self._view.num_remote)
        self._free = np.arange(size - 1, -1, -1, dtype=np.int32)
        self._num_free = size
        self._make_stacks()

    def _make_stacks(self) -> None:
        self._stacks = make_stacks(HEAT_RANKS + 2 * self._ring, room=len(self._free))

    def _buffered(self) -> IntArray:
        """int64: all buffered records, which are in no stack any more."""
        buffered = np.empty(self.num_buffered, dtype=np.int64)
        drain(self._stacks.chunks, self._stacks.tops, buffered)
        return buffered

    def _stack_all(self, buffered: IntArray) -> None:
        kernels.stack_all(
            buffered, self._batch, self._ring, self._nodes, self._stacks.chunks, self._stacks.tops
        )

    def _restack(self, *, ring: int) -> None:
        """Put all buffered nodes where they belong by now; ring: ranks of known next uses."""
        buffered = self._buffered()
        self._ring = ring
        self._make_stacks()
        self._stack_all(buffered)

    def _set_capacity(self, capacity: int) -> None:
        size = min(capacity, self._view.num_remote)
        if size == len(self._free):
            return
        self._restack(ring=self._ring)
        dropped = np.empty(max(self.num_buffered - size, 0), dtype=np.int64)
        kernels.take_worst(
            dropped, self._batch, self._ring, self._nodes, self._stacks.chunks, self._stacks.tops
        )
        self._nodes["slot"][dropped] = 0
        self._num_free += len(dropped)
        kept = self._buffered()
        kept = kept[np.argsort(self._nodes["slot"][kept])]
        sources = self._nodes["slot"][kept].astype(np.int64) - 1
        targets = np.arange(len(kept), dtype=np.int64)
        self._make_slots(capacity)
        self._nodes["slot"][kept] = targets + 1
        self._num_free -= len(kept)
        self._stack_all(kept)
        self._resize = after_another(self._resize, Resize(size, sources, targets))

    def _cool(self) -> None:
        self._records()["heat"] /= np.float32(self._weight)
        self._total_weight /= self._weight
        self._weight = 1.0
        self._restack(ring=self._ring)
