"""A simulated trainer: the real policy over a stream of accesses, with a model of time.

As in the live loader, three things run at the same time: the trainer computes, the loader thread
samples and assembles, and the network carries one pull after another, each of which takes
`pull_ms + rows * row_ms`. Its windows are those of a live trainer, so that decisions can be tried
in seconds, without a cluster and without a clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rudder.bench.simulated.access_traces import AccessTrace, IntArray
from rudder.training.buffer.policy import Policy
from rudder.training.buffer.registry import make_policy
from rudder.training.control.messages import (
    FULL_ATTENTION,
    MAX_WINDOW_STEPS,
    WINDOW_STEPS,
    Attention,
)
from rudder.training.metrics import (
    AccessSlice,
    OwnerTraffic,
    RowCounts,
    RowsFetched,
    Seconds,
    Window,
)
from rudder.training.partition_view import PartitionView
from rudder.training.settings import Applied, BufferSettings, Change
from rudder.training.turn import RankTurn
from rudder.training.workload import Knob, RefusedKnob, Workload

READY_BATCHES = 2
AHEAD_BATCHES = 6
"""Batches that are ready for the trainer at most, and those with the batches under way."""
START_MS = 300.0
"""For which the link idles before the first batch."""
_LEAST_IDLE_ROWS = 16
_SAMPLED_NODES = 8192
_OBSERVED_AT_ONCE = 4
_PROBES: dict[Knob, Change] = {
    "replacement_interval": Change(replacement_interval=16),
    "eviction_threshold": Change(eviction_threshold=0.5),
    "lookahead_batches": Change(lookahead_batches=8),
    "replace_now": Change(replace_now=True),
}


@dataclass(frozen=True)
class Costs:
    """Milliseconds: compute, sampling and assembling a step; a pull; and a fetched row.

    noise: relative spread of compute and pull times.
    """

    compute_ms: float = 20.0
    sample_ms: float = 4.0
    assemble_ms: float = 2.0
    pull_ms: float = 1.0
    row_ms: float = 0.02
    noise: float = 0.03


@dataclass
class _Sums:
    """The sums of a window so far."""

    first_step: int
    began_ms: float
    rows: RowCounts = field(default_factory=RowCounts)
    seconds: Seconds = field(default_factory=Seconds)
    pull_ms: float = 0.0
    accesses: list[NDArray[np.int32]] = field(default_factory=list)


class SimulatedTrainer:
    """One rank; time passes only in `window`, or in `step` and `wait_until`. `costs` may be changed
    at any time."""

    def __init__(
        self,
        stream: AccessTrace,
        *,
        settings: BufferSettings,
        costs: Costs = Costs(),
        policy: str = "lookahead",
        steps: int = 1600,
        row_bytes: int = 400,
        max_buffer_rows: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
    ) -> None:
        self.costs, self._rank = costs, rank
        self._stream, self._row_bytes = stream, row_bytes
        self._policy = _policy_of(policy, stream.num_remote, settings)
        self._since = 0
        self._rng = np.random.default_rng(seed)
        rate = min(1.0, _SAMPLED_NODES / stream.num_remote)
        self._rate = rate
        self._is_sampled = np.random.default_rng(seed + 1).random(stream.num_remote) < rate
        self._waiting: deque[IntArray] = deque()
        self._step = 0
        self._asked_ms = self._loaded_ms = 0.0
        self._taken_ms: deque[float] = deque([0.0] * AHEAD_BATCHES, AHEAD_BATCHES)
        self._done_ms = 0.0
        self._num_windows = 0
        self._attention = FULL_ATTENTION
        workload = _workload(
            self._policy, policy, steps, stream.num_remote, row_bytes, max_buffer_rows
        )
        self.workload = workload.model_copy(update={"rank": rank, "world_size": world_size})
        self._sums = _Sums(first_step=0, began_ms=0.0)

    @property
    def seconds(self) -> float:
        """Simulated time since the start."""
        return self._done_ms / 1000

    @property
    def settings(self) -> BufferSettings:
        """The settings in force."""
        return self._policy.settings

    async def send(self, change: Change, *, issued_at_step: int | None) -> Applied:
        """Apply a change at once, or refuse it, as a live trainer would."""
        reason = self._policy.refusal(change)
        if reason is None:
            self._policy.apply(change)
            self._since = self._step
        return Applied(
            command_id=f"step-{self._step}",
            outcome="applied" if reason is None else "refused",
            rank=self._rank,
            step=self._step,
            settings=self._policy.settings,
            reason=reason,
        )

    async def attend(self, attention: Attention) -> None:
        """Show what is asked for from the next window on."""
        self._attention = attention

    async def write_turn(self, turn: RankTurn, *, instead_of: RankTurn | None) -> RankTurn | None:
        """There are no others to agree with."""
        return None

    def window(
        self,
        before: Callable[[int], None] = lambda number: None,
        *,
        most_steps: int = MAX_WINDOW_STEPS,
    ) -> Window:
        """Train for a window's steps; before: called with its number before each 16 of them."""
        for _ in range(min(self._attention.window_steps, most_steps)):
            if self._step % WINDOW_STEPS == 0:
                before(self._step // WINDOW_STEPS)
            self.step()
        return self.end_window()

    def step(self) -> float:
        """Train for one step; when it ends, in milliseconds from the start."""
        self._train_one(self._sums)
        return self._done_ms

    def wait_until(self, done_ms: float) -> None:
        """Have the step end then, as ranks wait for the slowest of them."""
        waited = (done_ms - self._done_ms) / 1000
        self._sums.seconds += Seconds(compute=waited, blocked=waited)
        self._done_ms = done_ms

    @property
    def has_window(self) -> bool:
        """Whether as many steps are done as its window is to have."""
        return self._step - self._sums.first_step >= self._attention.window_steps

    def end_window(self) -> Window:
        """The window of the steps since the last one."""
        window = self._window_of(self._sums)
        self._sums = _Sums(first_step=self._step, began_ms=self._done_ms)
        return window

    # -- one step -----------------------------------------------------------------------

    def _train_one(self, sums: _Sums) -> None:
        self._fetch_idle(sums)
        self._look_ahead()
        nodes = self._waiting.popleft()
        plan = self._policy.plan(nodes)
        sums.rows += RowCounts(
            input_rows=2 * len(nodes),
            remote_rows=len(nodes),
            halo_rows=len(nodes),
            hits=len(plan.hits),
            halo_hits=len(plan.hits),
            rows_fetched=RowsFetched(miss=len(plan.misses), target=len(plan.targets)),
            bytes_fetched=(len(plan.misses) + len(plan.targets)) * self._row_bytes,
        )
        sums.accesses.append(nodes[self._is_sampled[nodes]].astype(np.int32))
        self._pass_time(len(plan.misses) + len(plan.targets), sums)
        self._step += 1

    def _fetch_idle(self, sums: _Sums) -> None:
        """Let the link carry rows that the policy wants until the next batch asks for its own."""
        if not self._policy.wants_rows:
            return
        costs = self.costs
        asks_ms = max(self._asked_ms, self._taken_ms[0]) + costs.sample_ms + costs.assemble_ms
        idle_ms = asks_ms - self._loaded_ms if self._step else START_MS
        rows = int(max(idle_ms - costs.pull_ms, 0.0) / max(costs.row_ms, 1e-6))
        if rows < _LEAST_IDLE_ROWS:
            return
        fetched = len(self._policy.fetch(rows).targets)
        if self._step:
            self._loaded_ms += costs.pull_ms + fetched * costs.row_ms
        sums.rows += RowCounts(
            rows_fetched=RowsFetched(idle=fetched), bytes_fetched=fetched * self._row_bytes
        )

    def _look_ahead(self) -> None:
        """Show the policy batches up to its lookahead, at most _OBSERVED_AT_ONCE more a step."""
        wanted = self._policy.settings.lookahead_batches + 1
        most = max(1, len(self._waiting) + _OBSERVED_AT_ONCE)
        while len(self._waiting) < min(wanted, most):
            self._waiting.append(self._stream.batch(self._step + len(self._waiting)))
            self._policy.observe(self._waiting[-1])

    def _pass_time(self, rows: int, sums: _Sums) -> None:
        costs = self.costs
        spread = 1 + costs.noise * self._rng.standard_normal(2).clip(-3, 3)
        pull = (costs.pull_ms + rows * costs.row_ms) * spread[0]
        compute = costs.compute_ms * spread[1]
        may_ask = max(self._asked_ms, self._taken_ms[0])
        self._asked_ms = may_ask + costs.sample_ms + costs.assemble_ms
        idle = max(self._loaded_ms + pull - self._asked_ms, 0.0)
        self._loaded_ms = max(self._loaded_ms, self._asked_ms) + pull
        taken = max(self._loaded_ms, self._done_ms)
        wait = taken - self._done_ms
        self._taken_ms.append(taken)
        self._done_ms = taken + compute
        sums.pull_ms += self._loaded_ms - self._asked_ms
        sums.seconds += Seconds(
            sample=costs.sample_ms / 1000,
            pull=min(pull, idle) / 1000,
            assemble=costs.assemble_ms / 1000,
            exposed_wait=wait / 1000,
            compute=compute / 1000,
        )

    def _window_of(self, sums: _Sums) -> Window:
        self._num_windows += 1
        num_steps = self._step - sums.first_step
        fetched = sums.rows.rows_fetched.of_batches
        return Window(
            rank=self._rank,
            index=self._num_windows - 1,
            epoch=sums.first_step // self.workload.batches_per_epoch,
            first_step=sums.first_step,
            num_steps=num_steps,
            rows=sums.rows,
            seconds=sums.seconds,
            settings=self._policy.settings,
            settings_since=self._since,
            buffered_rows=self._policy.num_buffered,
            waiting_batches=READY_BATCHES if sums.seconds.exposed_wait < 1e-4 else 0,
            wall_seconds=(self._done_ms - sums.began_ms) / 1000,
            owners=(
                OwnerTraffic(part=1, rows=fetched, pulls=num_steps, seconds=sums.pull_ms / 1000),
            ),
            accesses=(
                AccessSlice.of(sums.accesses, rate=self._rate) if self._attention.accesses else None
            ),
        )


def _policy_of(name: str, num_remote: int, settings: BufferSettings) -> Policy:
    """A policy for two partitions: one inner node, and all others in its halo by one edge each."""
    view = PartitionView(
        part=0,
        starts=np.array([0, 1, num_remote + 1]),
        indptr=np.array([0, num_remote]),
        indices=np.arange(1, num_remote + 1),
        halo=np.arange(1, num_remote + 1),
    )
    return make_policy(name, view, settings)


def _workload(
    policy: Policy,
    name: str,
    steps: int,
    num_remote: int,
    row_bytes: int,
    max_buffer_rows: int | None,
) -> Workload:
    refusals = {knob: policy.refusal(change) for knob, change in _PROBES.items()}
    return Workload(
        run_key="5" * 32,
        rank=0,
        world_size=1,
        part=0,
        num_parts=2,
        num_inner=1,
        num_halo=num_remote,
        num_remote=num_remote,
        row_bytes=row_bytes,
        batch_size=1000,
        batches_per_epoch=WINDOW_STEPS * 5,
        epochs=max(1, steps // (WINDOW_STEPS * 5)),
        fanouts=None,
        policy=name,
        defaults=policy.settings,
        max_buffer_rows=num_remote if max_buffer_rows is None else max_buffer_rows,
        refused_knobs=tuple(
            RefusedKnob(knob=knob, reason=reason) for knob, reason in refusals.items() if reason
        ),
    )
