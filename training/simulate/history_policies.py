"""Policies for comparison only: LRU, SIEVE and S3-FIFO. The simulator has them, runs do not.

All three admit every miss and go by past accesses alone. They are queues of node ids, without
rows or slots: `held` are the ids, `capacity` is set by the queue's buffer. Within a batch, hits
count first, in the batch's order; then the misses are inserted.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, deque

import numpy as np

from rudder.training.buffer.policy import BatchPlan, IntArray, Policy
from rudder.training.errors import ConfigError
from rudder.training.settings import BufferSettings, Change


class Lru:
    """The least recently used node leaves first."""

    capacity = 0

    def __init__(self) -> None:
        self.held = OrderedDict[int, None]()

    def hit(self, node: int) -> None:
        """Move the node to the young end."""
        self.held.move_to_end(node)

    def insert(self, node: int) -> None:
        """Add the node at the young end."""
        self.held[node] = None

    def evict(self) -> None:
        """Remove the node at the old end."""
        self.held.popitem(last=False)


class Sieve:
    """Zhang et al., NSDI 2024, algorithm 1: nodes in order of arrival, and a hand.

    The hand moves from old to young, spares each visited node once, and removes the first other
    one. `passed` holds the nodes older than the hand, `ahead` all others.
    """

    capacity = 0

    def __init__(self) -> None:
        self.held: dict[int, bool] = {}
        """Whether each node was visited since the hand passed it."""
        self._passed = deque[int]()
        self._ahead = deque[int]()

    def hit(self, node: int) -> None:
        """Mark the node as visited."""
        self.held[node] = True

    def insert(self, node: int) -> None:
        """Add the node as the youngest."""
        self.held[node] = False
        self._ahead.append(node)

    def evict(self) -> None:
        """Move the hand to the next node that was not visited, and remove it."""
        while True:
            node = self._ahead.popleft()
            was_visited = self.held[node]
            if was_visited:
                self.held[node] = False
                self._passed.append(node)
            if not self._ahead:
                self._ahead, self._passed = self._passed, self._ahead
            if not was_visited:
                del self.held[node]
                return


class S3Fifo:
    """Yang et al., SOSP 2023, algorithm 1: a small queue, a main queue, and ghosts.

    The small queue has a tenth of the capacity. Ghosts are nodes that left it lately, as many as
    the main queue may hold, counted by evictions (section 4.2), including those that came back.
    """

    capacity = 0

    def __init__(self) -> None:
        self.held: dict[int, int] = {}
        """Hits of each node since it was inserted or last spared, at most 3."""
        self._small = deque[int]()
        self._main = deque[int]()
        self._num_ghosts = 0
        self._ghosts: dict[int, int] = {}

    def hit(self, node: int) -> None:
        """Count the hit."""
        self.held[node] = min(self.held[node] + 1, 3)

    def insert(self, node: int) -> None:
        """Add a ghost to the main queue, any other node to the small one."""
        self.held[node] = 0
        num_later = self._num_ghosts - self._ghosts.pop(node, -self.capacity)
        is_ghost = num_later < self.capacity - max(self.capacity // 10, 1)
        (self._main if is_ghost else self._small).append(node)

    def evict(self) -> None:
        """Remove a node; those of the small queue with two hits move to the main one."""
        held, small, main = self.held, self._small, self._main
        while True:
            is_small = len(small) >= max(self.capacity // 10, 1) or not main
            queue, most_hits = (small, 1) if is_small else (main, 0)
            while queue:
                node = queue.popleft()
                hits = held[node]
                if hits <= most_hits:
                    del held[node]
                    if is_small:
                        self._num_ghosts += 1
                        self._ghosts[node] = self._num_ghosts
                    return
                held[node] = 0 if is_small else hits - 1
                main.append(node)


Queue = Lru | S3Fifo | Sieve
QUEUES: dict[str, type[Queue]] = {"lru": Lru, "s3fifo": S3Fifo, "sieve": Sieve}


class HistoryBuffer(Policy):
    """A buffer policy over one of these queues. Its plans say what hits, and name no slots."""

    def __init__(self, name: str, settings: BufferSettings, *, num_remote: int) -> None:
        """Begin empty; raises ConfigError where no queue has that name."""
        if name not in QUEUES:
            raise ConfigError.for_field("policy", value=name, allowed=", ".join(QUEUES))
        super().__init__(settings)
        self._name, self._num_remote = name, num_remote
        self._queue = QUEUES[name]()
        self._set_capacity(settings.capacity_rows)

    @property
    def num_buffered(self) -> int:
        """Nodes held after the last plan."""
        return len(self._queue.held)

    @property
    def num_bytes(self) -> int:
        """Memory of the table of held nodes."""
        return sys.getsizeof(self._queue.held)

    def plan(self, nodes: IntArray) -> BatchPlan:
        """Count the hits, then admit every miss."""
        queue, ids = self._queue, nodes.tolist()
        is_hit = np.fromiter(map(queue.held.__contains__, ids), dtype=bool, count=len(ids))
        hits, misses = np.flatnonzero(is_hit), np.flatnonzero(~is_hit)
        for node in nodes[hits].tolist():
            queue.hit(node)
        num_free = queue.capacity - len(queue.held)
        for node in nodes[misses].tolist() if queue.capacity else ():
            if num_free:
                num_free -= 1
            else:
                queue.evict()
            queue.insert(node)
        return BatchPlan(hits=hits, hit_slots=np.empty(0, dtype=np.int64), misses=misses)

    def refusal(self, change: Change) -> str | None:
        """Only capacity and lookahead can be changed."""
        allowed = {"capacity_rows": None, "lookahead_batches": None}
        if change.model_copy(update=allowed).is_empty:
            return None
        return f"the policy `{self._name}` is simulated; only capacity and lookahead can change"

    def apply(self, change: Change) -> None:
        """Make a change from the next plan on; a smaller capacity evicts at once."""
        super().apply(change)
        self._set_capacity(self._settings.capacity_rows)

    def _set_capacity(self, capacity: int) -> None:
        size = min(capacity, self._num_remote)
        while len(self._queue.held) > size:
            self._queue.evict()
        self._queue.capacity = size
