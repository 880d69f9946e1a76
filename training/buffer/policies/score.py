"""The published policy: scores that decay, and replacement rounds that fetch eagerly.

Rudder (arXiv 2602.23556) on MassiveGNN (arXiv 2410.22697). A slot's eviction score S_E is
multiplied by gamma = 1 - alpha in every batch that does not use it; a remote node's access score
S_A is the number of batches that missed it. A round swaps slots with S_E below the threshold
(gamma ** interval) against the nodes with the highest S_A, whose rows are fetched with the misses
of that batch. Misses are never admitted otherwise, as published. Unlike the published code, a round
compares the lowest S_E with the highest S_A and swaps only while S_A is higher. Without that, and
because S_A never decays, evicted rows come straight back (up to 5 times the traffic of no buffer).

No score is updated in every batch: S_E = gamma ** (key + batches so far), and a use lowers the key
of the slot by one. Cost: O(batch); in a round also O(capacity + nodes missed so far) and the
sorting of the rows that are swapped.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.policies.slots import ReactiveBuffer
from rudder.training.buffer.policy import BatchPlan, IntArray
from rudder.training.buffer.records import Records
from rudder.training.buffer.targets import FloatArray, InclusionProbability
from rudder.training.compiled import AHEAD, compiled, prefetch
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings

StartContents = Literal["empty", "degree", "random"]
DEFAULT_INTERVAL = 32
_ROUNDING = 1e-9

NODE = np.dtype([("slot", np.int32), ("access", np.float64)])
"""The record of a node: 1 + its slot, 0: not buffered; and S_A, 0 while it is buffered."""


@compiled
def split(
    records: IntArray, counts: bool, countable: NDArray[np.bool_], nodes: Records,
    keys: FloatArray, scored: IntArray, num_scored: int, hits: IntArray, hit_slots: IntArray,
    misses: IntArray, missed: IntArray,
) -> tuple[int, int]:  # fmt: skip
    """Tell hits from misses, score both, and append nodes with a first S_A to `scored`.

    records: int64[n]; counts: whether misses raise S_A; countable: bool[n], which of them do, or
    bool[0]: all. Fills hits, hit_slots, misses and missed (their records); returns (number of
    hits, length of `scored`).
    """
    num_hits = 0
    num_misses = 0
    for i in range(records.shape[0]):
        prefetch(nodes, records[min(i + AHEAD, records.shape[0] - 1)])
        node = records[i]
        slot = nodes[node].slot
        if slot > 0:
            keys[slot - 1] -= 1.0
            hits[num_hits] = i
            hit_slots[num_hits] = slot - 1
            num_hits += 1
            continue
        misses[num_misses] = i
        missed[num_misses] = node
        num_misses += 1
        if counts and (countable.shape[0] == 0 or countable[i]):
            if nodes[node].access == 0:
                scored[num_scored] = node
                num_scored += 1
            nodes[node].access += 1.0
    return num_hits, num_scored


def highest(values: FloatArray, numbers: IntArray, count: int) -> IntArray:
    """Positions of the `count` highest values; among equals (to 9 decimals), the lower numbers."""
    count = min(count, len(values))
    values = np.round(values, 9)
    if count in (0, len(values)):
        return np.arange(count)
    last = np.partition(values, len(values) - count)[len(values) - count]
    above, ties = np.flatnonzero(values > last), np.flatnonzero(values == last)
    missing = count - len(above)
    if missing < len(ties):
        ties = ties[np.argpartition(numbers[ties], missing - 1)[:missing]]
    return np.concatenate([above, ties])


class ScoreBuffer(ReactiveBuffer):
    """Swaps slots with low S_E against nodes with high S_A, in rounds."""

    name: ClassVar[str] = "score"
    node: ClassVar[np.dtype[Any]] = NODE
    fetches_without_batch: ClassVar[bool] = False

    def __init__(
        self,
        view: PartitionView,
        settings: BufferSettings,
        *,
        alpha: float = 0.05,
        start: StartContents = "degree",
        faithful: bool = False,
        seed: int = 0,
        vip: InclusionProbability | None = None,
    ) -> None:
        """Start with an empty buffer; the start rows are fetched with the first batch.

        settings: if the eviction threshold is not set, it is gamma ** interval, as published
        (interval 0, rounds on request only, counts as 1); faithful: with the bugs of the published
        code: the threshold has 3 decimals, misses of a batch with victims are not counted, only
        halo nodes are counted, victims are taken in the order of their ids and never compared with
        the newcomers, and a row that is both missed and chosen is fetched twice.
        """
        if settings.replacement_interval is None:
            settings = settings.model_copy(update={"replacement_interval": DEFAULT_INTERVAL})
        self._log_gamma = math.log1p(-alpha)
        if "eviction_threshold" not in settings.model_fields_set:
            threshold = (1 - alpha) ** max(settings.replacement_interval or 0, 1)
            threshold = round(threshold, 3) if faithful else threshold
            settings = settings.model_copy(update={"eviction_threshold": threshold})
        self._faithful = faithful
        self._start = start
        self._random = np.random.default_rng(seed)
        self._is_asked = False
        self._scored = np.empty(16, dtype=np.int64)
        self._num_scored = 0
        super().__init__(view, settings, vip=vip)
        self._keys = np.zeros(len(self._owners))
        self._countable = np.zeros(view.num_remote if faithful else 0, dtype=bool)
        if faithful:
            self._countable[view.to_remote(view.halo)] = True

    def plan(self, nodes: IntArray) -> BatchPlan:
        """Score the batch; in a round, also swap slots and fetch the entering rows."""
        self._batches += 1
        is_round, self._is_asked = self._is_round, False
        may_lose_counts = self._faithful and is_round
        records = self._directory.find(nodes)
        hits, hit_slots, misses, missed = self._split_and_score(records, counts=not may_lose_counts)
        if may_lose_counts and not len(self._victims()):
            self._split_and_score(missed, counts=True)
        entering, slots = self._swap(missed, is_round=is_round)
        positions = self._positions(entering, missed)
        is_missed = positions >= 0
        return BatchPlan(
            hits=hits,
            hit_slots=hit_slots,
            misses=misses,
            admitted=positions[is_missed],
            admitted_slots=slots[is_missed],
            targets=self._directory.nodes_of(entering[~is_missed]),
            target_slots=slots[~is_missed],
            resize=self._take_resize(),
        )

    def eviction_scores(self) -> dict[int, float]:
        """S_E of each buffered node, by remote number."""
        used = self._used_slots()
        scores = self._scores(used)
        nodes = self._nodes_in(used)
        return dict(zip(nodes.tolist(), scores.tolist(), strict=True))

    @property
    def _is_round(self) -> bool:
        interval = self._settings.replacement_interval
        return self._is_asked or (bool(interval) and self._batches % (interval or 1) == 0)

    def _replace_now(self) -> None:
        self._is_asked = True

    def _heat(self) -> NDArray[np.float32]:
        return self._records()["access"].astype(np.float32)

    def _split_and_score(
        self, records: IntArray, *, counts: bool
    ) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        size = len(records)
        self._make_room(size)
        hits, hit_slots, misses = self._pool.take_ids(3, size)  # for the plan, which lives longer
        missed = self._pool.take_ids(1, size)[0]
        countable = self._countable
        if self._faithful:
            countable = countable[self._directory.nodes_of(records)]
        num_hits, self._num_scored = split(
            records, counts, countable, self._nodes, self._keys, self._scored, self._num_scored,
            hits, hit_slots, misses, missed,
        )  # fmt: skip
        left = size - num_hits
        return hits[:num_hits], hit_slots[:num_hits], misses[:left], missed[:left]

    # -- a round ------------------------------------------------------------------------

    def _swap(self, missed: IntArray, *, is_round: bool) -> tuple[IntArray, IntArray]:
        """Entering records and their slots: start rows, requested rows, and those of a round."""
        wanted = self._wanted(missed)
        if not (is_round or len(wanted)):
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        victims = self._victims()
        room = self._num_free + len(victims)
        wanted = wanted[:room]
        chosen = wanted[:0]
        if is_round:
            chosen = self._candidates(room - len(wanted), but=wanted)
            chosen = chosen[: self._num_worthwhile(chosen, victims, self._num_free - len(wanted))]
        entering = np.concatenate([wanted, chosen])
        scores = self._nodes["access"][entering]
        scores[: len(wanted)] = np.maximum(scores[: len(wanted)], 1.0)
        slots = self._vacate(len(scores), victims)
        self._owners[slots] = entering
        self._keys[slots] = np.log(scores) / self._log_gamma - self._batches
        self._nodes["slot"][entering] = slots + 1
        self._nodes["access"][entering] = 0
        self._forget_buffered()
        return entering, slots

    def _wanted(self, missed: IntArray) -> IntArray:
        """The start rows, and the rows requested since the last batch."""
        start = self._start_rows() if self._batches == 1 else np.empty(0, dtype=np.int64)
        asked = self._take_targets(missed)
        return np.concatenate([start, asked[~np.isin(asked, start)]])

    def _start_rows(self) -> IntArray:
        view, count = self._view, len(self._owners)
        halo = view.to_remote(view.halo)
        if self._start == "random":
            return self._directory.find(self._random.permutation(halo)[:count])
        if self._start == "degree":
            return self._directory.find(halo[np.argsort(-view.halo_degree, kind="stable")[:count]])
        return halo[:0]

    def _candidates(self, count: int, *, but: IntArray) -> IntArray:
        """Records outside the buffer with the highest S_A > 0, best first, then by node."""
        scored = self._scored[: self._num_scored]
        if len(but):
            scored = scored[~np.isin(scored, but)]
        nodes_of, access = self._directory.nodes_of, self._nodes["access"]
        chosen = scored[highest(access[scored], nodes_of(scored), count)]
        order = np.lexsort((nodes_of(chosen), -np.round(access[chosen], 9)))
        return np.asarray(chosen[order])

    def _num_worthwhile(self, chosen: IntArray, victims: IntArray, num_free: int) -> int:
        """How many of `chosen` may enter: into free slots, or with S_A above the victim's S_E.

        num_free: slots that need no victim; if negative, so many victims are already taken.
        """
        if self._faithful:
            return len(chosen)
        compared = chosen[max(num_free, 0) :]
        leaving = np.sort(self._scores(victims))[max(-num_free, 0) :][: len(compared)]
        loses = self._nodes["access"][compared] <= leaving * (1 + _ROUNDING)
        return len(chosen) - len(compared) + int(np.argmax(np.append(loses, True)))

    def _victims(self) -> IntArray:
        """Used slots with S_E below the threshold."""
        used = self._used_slots()
        threshold = self._settings.eviction_threshold
        limit = math.log(threshold) / self._log_gamma if threshold > 0 else math.inf
        return used[self._keys[used] + self._batches > limit + _ROUNDING]

    def _vacate(self, count: int, victims: IntArray) -> IntArray:
        """`count` slots: free ones first, then those of victims."""
        taken = min(count, self._num_free)
        self._num_free -= taken
        free = self._num_slots - 1 - np.arange(self._num_free, self._num_free + taken)
        if self._faithful:
            left = victims[np.argsort(self._nodes_in(victims))][: count - taken]
        else:
            left = victims[highest(self._keys[victims], self._nodes_in(victims), count - taken)]
        self._leave(left)
        return np.concatenate([free, left])

    def _leave(self, slots: IntArray) -> None:
        """The nodes in these slots leave; their S_E becomes their S_A."""
        nodes = self._owners[slots]
        self._nodes["slot"][nodes] = 0
        scores = self._scores(slots)
        self._nodes["access"][nodes] = scores
        remembered = nodes[scores > 0]
        self._make_room(len(remembered))
        self._scored[self._num_scored : self._num_scored + len(remembered)] = remembered
        self._num_scored += len(remembered)

    def _nodes_in(self, slots: IntArray) -> IntArray:
        return self._directory.nodes_of(self._owners[slots])

    def _scores(self, slots: IntArray) -> FloatArray:
        return np.asarray(np.exp((self._keys[slots] + self._batches) * self._log_gamma))

    def _positions(self, entering: IntArray, missed: IntArray) -> IntArray:
        """Position in `missed` of each entering record; -1: its row must be fetched."""
        found = np.full(len(entering), -1, dtype=np.int64)
        if self._faithful or not len(entering) or not len(missed):
            return found
        order = np.argsort(missed)
        places = np.minimum(np.searchsorted(missed, entering, sorter=order), len(missed) - 1)
        is_missed = missed[order[places]] == entering
        found[is_missed] = order[places][is_missed]
        return found

    # -- slots and memory ---------------------------------------------------------------

    def _worst(self, count: int) -> IntArray:
        used = self._used_slots()
        dropped = used[highest(self._keys[used], self._nodes_in(used), count)]
        self._leave(dropped)
        return np.asarray(self._owners[dropped])

    def _resized(self, kept: IntArray, sources: IntArray) -> None:
        super()._resized(kept, sources)
        keys = np.zeros(len(self._owners))
        keys[: len(kept)] = self._keys[sources]
        self._keys = keys

    def _forget_buffered(self) -> None:
        scored = self._scored[: self._num_scored]
        scored = scored[self._nodes["slot"][scored] == 0]
        self._num_scored = len(scored)
        self._scored[: len(scored)] = scored

    def _make_room(self, more: int) -> None:
        wanted = self._num_scored + more
        if wanted > len(self._scored):
            self._scored = np.append(self._scored, np.empty(wanted, dtype=np.int64))
