"""S3-FIFO: rows prove themselves in a small queue before they get into the main one.

Yang et al., SOSP 2023, algorithm 1. A miss enters the small queue (a tenth of the capacity), or
the main queue where it left the small one not long ago (it is in the ghost queue, which remembers
as many nodes as the main queue may hold). Rows leave the small queue for the main one when they
were hit twice or more, else they go. Rows of the main queue go round once per hit, three at most.
Every miss is admitted for free. Ghosts are told by the number of their eviction, as in the paper's
section 4.2, so that nodes which came back take up room in it, too.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from rudder.training.buffer.policies.reactive import ReactiveBuffer
from rudder.training.buffer.policy import IntArray
from rudder.training.buffer.prefetch import AHEAD, prefetch
from rudder.training.buffer.records import Int32s, Records
from rudder.training.buffer.vip import InclusionProbability
from rudder.training.compiled import compiled, inlined
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings

_NO_ROUNDS = "it admits every miss at once and has no rounds"
START, LENGTH = 0, 1
NUM_FREE, NUM_GHOSTS, MAX_SMALL = 0, 1, 2
"""Fields of a queue's `ends`, and of the `state`."""


@inlined
def _push(queue: IntArray, ends: IntArray, node: int) -> None:
    place = ends[START] + ends[LENGTH]
    queue[place - queue.shape[0] if place >= queue.shape[0] else place] = node
    ends[LENGTH] += 1


@inlined
def _pop(queue: IntArray, ends: IntArray) -> int:
    node: int = queue[ends[START]]
    ends[START] = ends[START] + 1 if ends[START] + 1 < queue.shape[0] else 0
    ends[LENGTH] -= 1
    return node


@inlined
def _soon(queue: IntArray, ends: IntArray) -> int:
    """A node that leaves the queue some steps later, or the last place's."""
    node: int = queue[min(ends[START] + min(AHEAD, ends[LENGTH]), queue.shape[0] - 1)]
    return node


@compiled
def evict(
    count: int, nodes: Records, free: Int32s, state: IntArray, small: IntArray,
    small_ends: IntArray, main: IntArray, main_ends: IntArray,
) -> None:  # fmt: skip
    """Free so many slots. small, main: int64[capacity] queues; *_ends: their start and length."""
    wanted = state[NUM_FREE] + count
    while state[NUM_FREE] < wanted:
        before = state[NUM_FREE]
        is_small = small_ends[LENGTH] >= max(state[MAX_SMALL], 1) or main_ends[LENGTH] == 0
        while state[NUM_FREE] == before and (not is_small or small_ends[LENGTH] > 0):
            node = _pop(small, small_ends) if is_small else _pop(main, main_ends)
            soon = _soon(small, small_ends) if is_small else _soon(main, main_ends)
            prefetch(nodes, soon)
            mark = nodes[node].mark
            if mark > (1 if is_small else 0):
                nodes[node].mark = 0 if is_small else mark - 1
                _push(main, main_ends, node)
                continue
            if is_small:
                state[NUM_GHOSTS] += 1
            nodes[node].mark = np.int32(state[NUM_GHOSTS]) if is_small else np.int32(0)
            free[state[NUM_FREE]] = nodes[node].slot - 1
            state[NUM_FREE] += 1
            nodes[node].slot = 0


@compiled
def admit(
    newcomers: IntArray, num_missed: int, nodes: Records, owners: IntArray, free: Int32s,
    state: IntArray, small: IntArray, small_ends: IntArray, main: IntArray, main_ends: IntArray,
) -> None:  # fmt: skip
    """Let all in, one after another; those after the first `num_missed` into the main queue."""
    for j in range(newcomers.shape[0]):
        node = newcomers[j]
        if state[NUM_FREE] == 0:
            evict(1, nodes, free, state, small, small_ends, main, main_ends)
        state[NUM_FREE] -= 1
        slot = free[state[NUM_FREE]]
        owners[slot] = node
        nodes[node].slot = slot + 1
        since = np.uint32(state[NUM_GHOSTS]) - np.uint32(nodes[node].mark)
        is_ghost = nodes[node].mark != 0 and since < owners.shape[0] - state[MAX_SMALL]
        nodes[node].mark = 0
        if is_ghost or j >= num_missed:
            _push(main, main_ends, node)
        else:
            _push(small, small_ends, node)


class S3FifoBuffer(ReactiveBuffer):
    """Rows that are fetched eagerly enter the main queue: somebody vouches for them."""

    name: ClassVar[str] = "s3fifo"
    max_mark: ClassVar[int] = 3
    without_meaning: ClassVar[dict[str, str]] = {
        "eviction_threshold": "rows have a few hits or none, and no uses are predicted",
        "replacement_interval": _NO_ROUNDS,
        "replace_now": _NO_ROUNDS,
    }

    def __init__(
        self,
        view: PartitionView,
        settings: BufferSettings,
        *,
        vip: InclusionProbability | None = None,
    ) -> None:
        super().__init__(view, settings, vip=vip)
        self._num_ghosts = 0
        nothing = np.empty(0, dtype=np.int64)
        self._make_queues(nothing, nothing)

    def _admit(self, missed: IntArray, targets: IntArray) -> None:
        if not len(self._owners):
            return
        newcomers = np.concatenate([missed, targets]) if len(targets) else missed
        state = self._state()
        admit(
            newcomers, len(missed), self._nodes, self._owners, self._free, state,
            self._small, self._small_ends, self._main, self._main_ends,
        )  # fmt: skip
        self._num_free, self._num_ghosts = int(state[NUM_FREE]), int(state[NUM_GHOSTS])

    def _evict(self, count: int) -> None:
        state = self._state()
        evict(
            count, self._nodes, self._free, state,
            self._small, self._small_ends, self._main, self._main_ends,
        )  # fmt: skip
        self._num_free, self._num_ghosts = int(state[NUM_FREE]), int(state[NUM_GHOSTS])

    def _state(self) -> IntArray:
        return np.array([self._num_free, self._num_ghosts, max(len(self._owners) // 10, 1)])

    def _resized(self, kept: IntArray) -> None:
        self._make_queues(
            _in_order(self._small, self._small_ends), _in_order(self._main, self._main_ends)
        )

    def _make_queues(self, small: IntArray, main: IntArray) -> None:
        size = len(self._owners)
        self._small, self._main = (np.empty(size, dtype=np.int64) for _ in range(2))
        self._small[: len(small)] = small
        self._main[: len(main)] = main
        self._small_ends, self._main_ends = np.array([0, len(small)]), np.array([0, len(main)])


def _in_order(queue: IntArray, ends: IntArray) -> IntArray:
    places = np.arange(ends[START], ends[START] + ends[LENGTH])
    return np.asarray(queue[places % max(len(queue), 1)])
