"""Rudder's own policy: keep what is used next, as far as the sampler has looked ahead.

Inside the window of observed batches the next use of a row is known; beyond it, rows are ranked by
their decayed count of uses (heat). A batch's misses are admitted for free, for their rows are in
hand; they displace the rows worth least, and only while those are worth less. Eager fetches
happen on request only. An on-line form of Belady's OPT with bypass (1966): with an endless window
it is OPT. Cost: O(batch) a batch, O(remote nodes) a change of settings or an eager fetch.
"""

from __future__ import annotations

import numpy as np

from rudder.training.buffer import lookahead_kernels as kernels
from rudder.training.buffer.memory import zeros
from rudder.training.buffer.policy import IntArray, Plan, Resize, after_another
from rudder.training.buffer.ranks import HEAT_RANKS
from rudder.training.buffer.records import LOOKAHEAD_NODE, LOOKAHEAD_SLOT
from rudder.training.buffer.targets import choose_targets, refusal_of_targets
from rudder.training.buffer.vip import InclusionProbability
from rudder.training.buffer.window import Window
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
        self._nodes = zeros(view.num_remote, LOOKAHEAD_NODE)
        self._nodes["slot"] = kernels.NOWHERE
        self._nodes["place"] = kernels.NOWHERE
        self._window = Window()
        self._planned = 0
        self._weight = 1.0
        self._growth = 2.0 ** (1.0 / half_life_batches)
        self._total_weight = 0.0
        self._pending: list[FetchTargets] = []
        self._resize: Resize | None = None
        self._num_free = 0
        self._make_slots(settings.capacity_rows, ring=_MIN_RING)

    @property
    def settings(self) -> BufferSettings:
        """The settings in force for the next plan."""
        return self._settings

    @property
    def num_buffered(self) -> int:
        """Rows in the buffer after the last plan."""
        return len(self._slots) - self._num_free

    @property
    def num_bytes(self) -> int:
        """Memory of node, slot and window state."""
        arrays = (self._nodes, self._slots, self._heads, self._free)
        return sum(array.nbytes for array in arrays) + self._window.num_bytes

    def observe(self, nodes: IntArray) -> None:
        """Link the batch into the window: O(len(nodes))."""
        window = self._window
        self._make_ring()
        window.make_room(len(nodes), self._nodes)
        kernels.observe(
            nodes, self._planned + len(window), np.float32(self._weight), self._ring,
            self._nodes, self._slots, self._heads,
            window.tail, window.length, window.users, window.next_use,
        )  # fmt: skip
        window.append(len(nodes))
        self._total_weight += self._weight
        self._weight *= self._growth
        if self._weight > MAX_WEIGHT:
            self._cool()

    def plan(self, nodes: IntArray) -> Plan:
        """Split into hits and misses, and admit the misses that are worth a slot."""
        hits, hit_slots, misses, ranks = self._split(nodes)
        missed = nodes[misses]
        targets, target_ranks = self._take_targets(missed)
        admitted, slots = self._admit(
            np.concatenate([missed, targets]), np.concatenate([ranks, target_ranks])
        )
        is_miss = admitted < len(misses)
        chosen = admitted[~is_miss] - len(misses)
        self._nodes["heat"][targets[chosen]] += np.float32(self._weight)
        resize, self._resize = self._resize, None
        self._end_batch()
        return Plan(
            hits=hits,
            hit_slots=hit_slots,
            misses=misses,
            admitted=admitted[is_miss],
            admitted_slots=slots[is_miss],
            targets=targets[chosen],
            target_slots=slots[~is_miss],
            resize=resize,
        )

    def skip(self, nodes: IntArray) -> None:
        """Pass over the oldest observed batch: its uses count, nothing is admitted."""
        self._split(nodes)
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
            self._relink()
        if change.fetch_targets is not None:
            self._pending.append(change.fetch_targets)
        if change.replace_now and self._settings.capacity_rows:
            self._pending.append(
                FetchTargets(source="observed", row_budget=self._settings.capacity_rows)
            )

    # -- one batch ----------------------------------------------------------------------

    def _split(self, nodes: IntArray) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        window, size = self._window, len(nodes)
        window.check_oldest(size)
        hits, hit_slots, misses, ranks = (np.empty(size, dtype=np.int64) for _ in range(4))
        num_hits = kernels.split(
            nodes, self._planned, self._ring, self._nodes, self._slots, self._heads, window.tail,
            window.next_use, hits, hit_slots, misses, ranks,
        )  # fmt: skip
        num_misses = size - num_hits
        return hits[:num_hits], hit_slots[:num_hits], misses[:num_misses], ranks[:num_misses]

    def _end_batch(self) -> None:
        self._window.pop()
        self._planned += 1

    def _admit(self, newcomers: IntArray, ranks: IntArray) -> tuple[IntArray, IntArray]:
        admitted, slots = (np.empty(len(newcomers), dtype=np.int64) for _ in range(2))
        threshold = self._settings.eviction_threshold
        threshold_heat = np.inf if threshold >= 1 else threshold * self._total_weight
        count, self._num_free = kernels.admit(
            newcomers, ranks, self._planned, self._ring, np.float32(threshold_heat),
            self._nodes, self._slots, self._heads, self._free, self._num_free, admitted, slots,
        )  # fmt: skip
        return admitted[:count], slots[:count]

    def _take_targets(self, missed: IntArray) -> tuple[IntArray, IntArray]:
        """Remote numbers wanted eagerly, neither buffered nor missed by this batch; their ranks."""
        targets = np.empty(0, dtype=np.int64)
        pending, self._pending = self._pending, []
        if pending:
            absent = self._nodes["slot"] == kernels.NOWHERE
            absent[missed] = False
        for wanted in pending:
            more = choose_targets(
                wanted, self._view, heat=self._nodes["heat"], absent=absent, vip=self._vip
            )
            absent[more] = False
            targets = np.concatenate([targets, more])
        ranks = np.empty(len(targets), dtype=np.int64)
        if len(targets):
            window = self._window
            kernels.target_ranks(
                targets, np.float32(self._weight), self._planned, window.widths, self._ring,
                self._nodes, window.tail, window.users, ranks,
            )  # fmt: skip
        return targets, ranks

    # -- slots --------------------------------------------------------------------------

    def _make_slots(self, capacity: int, *, ring: int) -> None:
        """Empty slots; no more than there are nodes to fill them."""
        size = min(capacity, self._view.num_remote)
        self._slots = zeros(size, LOOKAHEAD_SLOT)
        self._free = np.arange(size - 1, -1, -1, dtype=np.int32)
        self._num_free = size
        self._make_heads(ring)

    def _make_heads(self, ring: int) -> None:
        self._ring = ring
        self._heads = np.full(HEAT_RANKS + 2 * ring, kernels.NOWHERE, dtype=np.int32)

    def _used_slots(self) -> IntArray:
        is_used = np.ones(len(self._slots), dtype=bool)
        is_used[self._free[: self._num_free]] = False
        return np.flatnonzero(is_used)

    def _first_uses(self, slots: IntArray) -> IntArray:
        """Next known batch of each used slot, NEVER where there is none."""
        ranks = self._slots["rank"][slots].astype(np.int64)
        ahead = (ranks - HEAT_RANKS - self._planned) % self._ring
        return np.where(ranks < HEAT_RANKS, kernels.NEVER, self._planned + ahead)

    def _link_all(self, slots: IntArray, first_uses: IntArray) -> None:
        kernels.relink(slots, first_uses, self._ring, self._nodes, self._slots, self._heads)

    def _relink(self) -> None:
        slots = self._used_slots()
        self._link_all(slots, self._first_uses(slots))

    def _make_ring(self) -> None:
        """Let the ranks tell the batches of the window from one batch more."""
        if len(self._window) + 2 <= self._ring:
            return
        slots = self._used_slots()
        first_uses = self._first_uses(slots)
        self._make_heads(2 * self._ring)
        self._link_all(slots, first_uses)

    def _set_capacity(self, capacity: int) -> None:
        if min(capacity, self._view.num_remote) == len(self._slots):
            return
        kept = self._used_slots()
        if len(kept) > capacity:
            dropped = np.empty(len(kept) - capacity, dtype=np.int64)
            kernels.worst_slots(self._planned, self._ring, self._slots, self._heads, dropped)
            self._nodes["slot"][self._slots["node"][dropped]] = kernels.NOWHERE
            kept = np.setdiff1d(kept, dropped, assume_unique=True)
        first_uses = self._first_uses(kept)
        owners = self._slots["node"][kept]
        self._make_slots(capacity, ring=self._ring)
        targets = np.arange(len(kept), dtype=np.int64)
        self._slots["node"][targets] = owners
        self._nodes["slot"][owners] = targets
        self._num_free -= len(kept)
        self._link_all(targets, first_uses)
        self._resize = after_another(self._resize, Resize(len(self._slots), kept, targets))

    def _cool(self) -> None:
        self._nodes["heat"] /= np.float32(self._weight)
        self._total_weight /= self._weight
        self._weight = 1.0
        self._relink()
