"""Rudder's own policy: keep what is used next, as far as the sampler has looked ahead.

Inside the window of observed batches the next use of a row is known; beyond it, rows are ranked by
their decayed count of uses (heat). A batch's misses are admitted for free, for their rows are in
hand; they displace the rows worth least, and only while those are worth less. Eager fetches
happen on request only. An on-line form of Belady's OPT with bypass (1966): with an endless window
it is OPT. Cost: O(batch) a batch, O(capacity) a change of settings.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer import lookahead_kernels as kernels
from rudder.training.buffer.policy import IntArray, Plan, Resize
from rudder.training.buffer.targets import choose_targets
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings, Change, FetchTargets

HALF_LIFE_BATCHES = 4096.0
"""Batches after which a use counts half: long against an epoch, short against a long run."""
_MAX_WEIGHT = 2.0**20
_MIN_RING = 4
_MIN_WIDTH = 1024


class LookaheadBuffer:
    """Belady's choice inside the window, least heat first beyond it."""

    def __init__(self, view: PartitionView, settings: BufferSettings) -> None:
        self._view = view
        self._settings = settings
        self._nodes = np.zeros(view.num_remote, dtype=kernels.NODE)
        self._nodes["slot"] = kernels.NOWHERE
        self._nodes["batch"] = kernels.NEVER
        self._observed = 0
        self._planned = 0
        self._weight = 1.0
        self._total_weight = 0.0
        self._pending: FetchTargets | None = None
        self._resize: Resize | None = None
        self._next_use = np.empty((_MIN_RING, _MIN_WIDTH), dtype=np.int32)
        self._make_slots(settings.capacity_rows)

    @property
    def settings(self) -> BufferSettings:
        """The settings in force for the next plan."""
        return self._settings

    @property
    def num_buffered(self) -> int:
        """Rows in the buffer after the last plan."""
        return self._settings.capacity_rows - self._num_free

    @property
    def num_bytes(self) -> int:
        """Memory of node, slot and window state."""
        arrays = (self._nodes, self._slots, self._heads, self._free, self._next_use)
        return sum(array.nbytes for array in arrays)

    @property
    def buffered(self) -> IntArray:
        """int64: remote numbers of all buffered nodes, in no order."""
        return np.flatnonzero(self._nodes["slot"] != kernels.NOWHERE)

    def slots_of(self, nodes: IntArray) -> NDArray[np.int32]:
        """Buffer row of each remote number, -1 where it is not buffered."""
        return np.asarray(self._nodes["slot"][nodes])

    def observe(self, nodes: IntArray) -> None:
        """Link the batch into the window: O(len(nodes))."""
        self._make_room(len(nodes))
        kernels.observe(
            nodes, self._observed, self._planned, np.float32(self._weight), self._nodes,
            self._slots, self._heads, self._next_use,
        )  # fmt: skip
        self._observed += 1
        self._total_weight += self._weight
        self._weight *= 2.0 ** (1.0 / HALF_LIFE_BATCHES)
        if self._weight > _MAX_WEIGHT:
            self._cool()

    def plan(self, nodes: IntArray) -> Plan:
        """Split into hits and misses, and admit the misses that are worth a slot."""
        size = len(nodes)
        hits, hit_slots, misses, ranks = (np.empty(size, dtype=np.int64) for _ in range(4))
        num_hits = kernels.split(
            nodes, self._planned, self._nodes, self._slots, self._heads, self._next_use,
            hits, hit_slots, misses, ranks,
        )  # fmt: skip
        misses = misses[: size - num_hits]
        admitted, admitted_slots = self._admit(nodes, misses, ranks[: len(misses)])
        targets, target_slots = self._fetch_targets(nodes[misses])
        stays = ~np.isin(admitted_slots, target_slots)
        resize, self._resize = self._resize, None
        self._planned += 1
        return Plan(
            hits=hits[:num_hits],
            hit_slots=hit_slots[:num_hits],
            misses=misses,
            admitted=admitted[stays],
            admitted_slots=admitted_slots[stays],
            targets=targets,
            target_slots=target_slots,
            resize=resize,
        )

    def skip(self, nodes: IntArray) -> None:
        """Pass over the oldest observed batch: its uses count, nothing is admitted."""
        size = len(nodes)
        unused = [np.empty(size, dtype=np.int64) for _ in range(4)]
        kernels.split(
            nodes, self._planned, self._nodes, self._slots, self._heads, self._next_use, *unused
        )
        self._planned += 1

    def refusal(self, change: Change) -> str | None:
        """Everything can be steered, as long as the targets exist."""
        targets = change.fetch_targets
        if targets is None:
            return None
        if targets.source == "owner":
            parts = len(self._view.starts) - 1
            if targets.owner is None or targets.owner >= parts or targets.owner == self._view.part:
                return (
                    f"fetch_targets.owner = {targets.owner} is not another partition;"
                    f" allowed: 0 to {parts - 1} but {self._view.part}"
                )
        if targets.source == "ids":
            wrong = [node for node in targets.ids if not self._is_remote(node)]
            if wrong or not targets.ids:
                return f"fetch_targets.ids must be remote nodes of this graph; not so: {wrong[:3]}"
        return None

    def apply(self, change: Change) -> None:
        """Make a change from the next plan on; a smaller capacity drops the rows worth least."""
        if change.fetch_targets is not None:
            self._pending = change.fetch_targets
        elif change.replace_now:
            budget = max(1, change.capacity_rows or self._settings.capacity_rows)
            self._pending = FetchTargets(source="observed", row_budget=budget)
        if change.capacity_rows is not None:
            self._set_capacity(change.capacity_rows)
        values = {"eviction_threshold", "lookahead_batches", "capacity_rows"}
        update = {name: value for name in values if (value := getattr(change, name)) is not None}
        self._settings = self._settings.model_copy(update=update)

    def _is_remote(self, node: int) -> bool:
        return 0 <= node < self._view.num_nodes and not self._view.first <= node < self._view.last

    def _admit(
        self, nodes: IntArray, places: IntArray, ranks: IntArray
    ) -> tuple[IntArray, IntArray]:
        admitted = np.empty(len(places), dtype=np.int64)
        slots = np.empty(len(places), dtype=np.int64)
        threshold = self._settings.eviction_threshold
        threshold_heat = np.inf if threshold >= 1 else threshold * self._total_weight
        count, self._num_free = kernels.admit(
            nodes, places, ranks, self._planned, np.float32(threshold_heat), self._ring,
            self._nodes, self._slots, self._heads, self._free, self._num_free, admitted, slots,
        )  # fmt: skip
        return admitted[:count], slots[:count]

    def _fetch_targets(self, missed: IntArray) -> tuple[IntArray, IntArray]:
        wanted, self._pending = self._pending, None
        if wanted is None or self._settings.capacity_rows == 0:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        absent = self._nodes["slot"] == kernels.NOWHERE
        absent[missed] = False
        targets = choose_targets(wanted, self._view, heat=self._nodes["heat"], absent=absent)
        self._nodes["heat"][targets] += np.float32(self._weight)
        ranks = kernels.ranks_of(targets, self._planned + 1, self._nodes, self._ring)
        admitted, slots = self._admit(targets, np.arange(len(targets)), ranks)
        return targets[admitted], slots

    @property
    def _ring(self) -> int:
        return len(self._next_use)

    def _make_slots(self, capacity: int) -> None:
        self._slots = np.zeros(capacity, dtype=kernels.SLOT)
        self._heads = np.full(kernels.HEAT_RANKS + self._ring, kernels.NOWHERE, dtype=np.int32)
        self._free = np.arange(capacity - 1, -1, -1, dtype=np.int32)
        self._num_free = capacity

    def _first_uses(self, slots: IntArray) -> IntArray:
        """Next known batch of each used slot, NEVER where there is none."""
        ranks = self._slots["rank"][slots].astype(np.int64)
        ahead = (ranks - kernels.HEAT_RANKS - self._planned) % self._ring
        return np.where(ranks < kernels.HEAT_RANKS, kernels.NEVER, self._planned + ahead)

    def _used_slots(self) -> IntArray:
        return self._nodes["slot"][self.buffered].astype(np.int64)

    def _set_capacity(self, capacity: int) -> None:
        kept = self._used_slots()
        first_uses = self._first_uses(kept)
        if len(kept) > capacity:
            dropped = np.empty(len(kept) - capacity, dtype=np.int64)
            kernels.worst_slots(
                len(dropped), self._planned, self._ring, self._slots, self._heads, dropped
            )
            self._nodes["slot"][self._slots["node"][dropped]] = kernels.NOWHERE
            stays = ~np.isin(kept, dropped)
            kept, first_uses = kept[stays], first_uses[stays]
        owners = self._slots["node"][kept]
        self._make_slots(capacity)
        targets = np.arange(len(kept), dtype=np.int64)
        self._slots["node"][targets] = owners
        self._nodes["slot"][owners] = targets
        self._num_free = capacity - len(kept)
        self._relink(targets, first_uses)
        self._resize = _after(self._resize, Resize(capacity, kept, targets))

    def _relink(self, slots: IntArray, first_uses: IntArray) -> None:
        kernels.relink(
            slots, self._nodes, self._slots, self._heads, self._next_use, first_uses
        )  # fmt: skip

    def _make_room(self, width: int) -> None:
        """Let the window hold one batch more, of `width` nodes."""
        ring, old_width = self._next_use.shape
        waiting = self._observed - self._planned
        if waiting + 2 <= ring and width <= old_width:
            return
        new_ring = ring if waiting + 2 <= ring else 2 * ring
        slots = self._used_slots()
        first_uses = self._first_uses(slots)
        old, batches = self._next_use, np.arange(self._planned, self._observed)
        new_width = max(old_width, int(width * 1.25))
        self._next_use = np.empty((new_ring, new_width), dtype=np.int32)
        self._next_use[batches % new_ring, :old_width] = old[batches % ring]
        self._heads = np.full(kernels.HEAT_RANKS + new_ring, kernels.NOWHERE, dtype=np.int32)
        self._relink(slots, first_uses)

    def _cool(self) -> None:
        factor = 1.0 / self._weight
        slots = self._used_slots()
        first_uses = self._first_uses(slots)
        kernels.cool(self._nodes, np.float32(factor))
        self._weight = 1.0
        self._total_weight *= factor
        self._relink(slots, first_uses)


def _after(earlier: Resize | None, later: Resize) -> Resize:
    """Two resizes before one batch, as one."""
    if earlier is None:
        return later
    origin = np.full(earlier.capacity, -1, dtype=np.int64)
    origin[earlier.targets] = earlier.sources
    return Resize(later.capacity, origin[later.sources], later.targets)
