"""Carries a policy's plans out on real rows, as the loader does, next to a naive model of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

import numpy as np

from rudder.training.buffer.policies.lookahead import LookaheadBuffer
from rudder.training.buffer.policy import BatchPlan, IntArray, Policy
from rudder.training.buffer.rows import BufferRows, Words
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings, Change, FetchTargets

ROW_BYTES = 24
NUM_REMOTE = 16
NO_AGEING = 1e30


def view_of(num_remote: int, *, num_inner: int = 3) -> PartitionView:
    """The middle one of three partitions; every second remote node is halo.

    Remote number r has r % 5 edges into it where it is halo, and r < num_remote // 2 belong to
    partition 0, the others to partition 2.
    """
    before = num_remote // 2
    starts = np.array([0, before, before + num_inner, num_remote + num_inner])
    remote = np.arange(0, num_remote, 2)
    indices = np.repeat(num_inner + np.arange(len(remote)), remote % 5)
    return PartitionView(
        part=1,
        starts=starts,
        indptr=np.array([0, *[len(indices)] * num_inner]),
        indices=indices,
        halo=np.where(remote < before, remote, remote + num_inner),
    )


def array(nodes: Collection[int]) -> IntArray:
    return np.array(sorted(nodes), dtype=np.int64)


def rows_of(nodes: IntArray) -> Words:
    """uint64[n, 3]: rows that tell one node from another."""
    wide = nodes.astype(np.uint64)
    return np.stack([wide, wide * np.uint64(0x9E3779B97F4A7C15), ~wide], axis=1)


def buffer_of(
    capacity: int,
    *,
    threshold: float = 1.0,
    half_life: float = NO_AGEING,
    view: PartitionView | None = None,
) -> LookaheadBuffer:
    settings = BufferSettings(capacity_rows=capacity, eviction_threshold=threshold)
    return LookaheadBuffer(view or view_of(NUM_REMOTE), settings, half_life_batches=half_life)


def player_of(capacity: int, *, threshold: float = 1.0, half_life: float = NO_AGEING) -> Player:
    return Player(buffer_of(capacity, threshold=threshold, half_life=half_life))


def observe_all(player: Player, *batches: set[int]) -> None:
    for nodes in batches:
        player.observe(array(nodes))


def change(player: Player, **values: object) -> None:
    asked = Change.model_validate(values)
    assert player.policy.refusal(asked) is None
    player.policy.apply(asked)


def targets_by_id(*nodes: int) -> FetchTargets:
    ids = view_of(NUM_REMOTE).to_global(array(nodes)).tolist()
    return FetchTargets(source="ids", row_budget=NUM_REMOTE, ids=tuple(ids))


class Player:
    """Observes, plans and carries out; asserts what must always hold (docs: buffer.md, 6)."""

    def __init__(self, policy: Policy, *, may_fetch_twice: bool = False) -> None:
        self.policy = policy
        self._may_fetch_twice = may_fetch_twice
        self.waiting: deque[IntArray] = deque()
        self.held: dict[int, int] = {}
        self.rows_fetched = 0
        self.hits = 0
        self._buffer = BufferRows(policy.settings.capacity_rows, ROW_BYTES)

    @property
    def buffered(self) -> set[int]:
        return set(self.held.values())

    def observe(self, nodes: IntArray) -> None:
        self.waiting.append(nodes)
        self.policy.observe(nodes)

    def skip(self) -> None:
        self.policy.skip(self.waiting.popleft())

    def plan(self) -> BatchPlan:
        nodes = self.waiting.popleft()
        plan = self.policy.plan(nodes)
        self._resize(plan)
        self._check(plan, nodes)
        self._carry_out(plan, nodes)
        self.hits += len(plan.hits)
        self.rows_fetched += len(plan.misses) + len(plan.targets)
        assert self.policy.num_buffered == len(self.held) <= self.policy.settings.capacity_rows
        return plan

    def fetch(self, most_rows: int) -> BatchPlan:
        """Carry out an eager fetch without a batch."""
        plan = self.policy.fetch(most_rows)
        self._resize(plan)
        self._check(plan, array(()))
        self._carry_out(plan, array(()))
        assert self.policy.num_buffered == len(self.held) <= self.policy.settings.capacity_rows
        return plan

    def play(self, batches: Collection[IntArray], *, ahead: int) -> None:
        """Plan all batches, each with `ahead` later ones observed."""
        for number, nodes in enumerate(batches):
            self.observe(nodes)
            if number >= ahead:
                self.plan()
        while self.waiting:
            self.plan()

    def _resize(self, plan: BatchPlan) -> None:
        self._buffer.resize(plan)
        if plan.resize is None:
            return
        sources, targets = plan.resize.sources.tolist(), plan.resize.targets.tolist()
        assert len(set(targets)) == len(targets)
        assert all(0 <= slot < plan.resize.capacity for slot in targets)
        self.held = {
            target: self.held[source] for source, target in zip(sources, targets, strict=True)
        }

    def _check(self, plan: BatchPlan, nodes: IntArray) -> None:
        assert sorted([*plan.hits, *plan.misses]) == list(range(len(nodes)))
        hit_slots = plan.hit_slots.tolist()
        assert [self.held[slot] for slot in hit_slots] == nodes[plan.hits].tolist()
        missed = set(nodes[plan.misses].tolist())
        assert not missed & self.buffered
        targets = plan.targets.tolist()
        assert len(set(targets)) == len(targets)
        held_back = set() if self._may_fetch_twice else missed
        assert not set(targets) & (held_back | self.buffered)
        assert len(set(plan.admitted.tolist())) == len(plan.admitted)
        slots = [*plan.admitted_slots.tolist(), *plan.target_slots.tolist()]
        assert len(set(slots)) == len(slots) == len(plan.admitted) + len(targets)
        assert all(0 <= slot < self.policy.settings.capacity_rows for slot in slots)

    def _carry_out(self, plan: BatchPlan, nodes: IntArray) -> None:
        out = np.zeros((len(nodes), ROW_BYTES // 8), dtype=np.uint64)
        self._buffer.read(plan.hit_slots, out, plan.hits)
        fetched = rows_of(nodes[plan.misses])
        out[plan.misses] = fetched
        assert np.array_equal(out, rows_of(nodes))
        self._buffer.store(fetched, plan.admitted, plan.admitted_slots)
        self._buffer.store(rows_of(plan.targets), np.arange(len(plan.targets)), plan.target_slots)
        admitted = nodes[plan.misses[plan.admitted]]
        self.held |= dict(zip(plan.admitted_slots.tolist(), admitted.tolist(), strict=True))
        self.held |= dict(zip(plan.target_slots.tolist(), plan.targets.tolist(), strict=True))
        assert len(self.buffered) == len(self.held)
