"""Synthetic runs: streams of remote nodes, the run's own policy over them, and its windows."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rudder.tools.calls import Argument, ToolCall
from rudder.tools.constants import LOOKAHEAD_GROWTH
from rudder.tools.estimate.history import History
from rudder.tools.estimate.whatif import WhatIf
from rudder.training.buffer.policy import IntArray
from rudder.training.metrics import (
    AccessSlice,
    OwnerTraffic,
    RowCounts,
    RowsFetched,
    Seconds,
    Window,
)
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings, Change
from rudder.training.simulate.study import make_simulated
from rudder.training.workload import PolicyName, RefusedKnob, Workload

WINDOW_STEPS = 16
NUM_REMOTE = 12_000
ROW_BYTES = 400
_SECONDS = Seconds(sample=0.08, pull=0.08, assemble=0.0, compute=0.32)
ROUNDS = RefusedKnob(knob="replacement_interval", reason="it replaces rows in every batch")


def workload(
    *,
    policy: PolicyName = "lookahead",
    settings: BufferSettings | None = None,
    num_remote: int = NUM_REMOTE,
    max_buffer_rows: int = NUM_REMOTE,
    fanouts: tuple[int, ...] | None = None,
) -> Workload:
    return Workload(
        run_key="c0ffee",
        rank=0,
        world_size=3,
        part=1,
        num_parts=3,
        num_inner=5000,
        num_halo=num_remote // 2,
        num_remote=num_remote,
        row_bytes=ROW_BYTES,
        batch_size=1000,
        batches_per_epoch=64,
        epochs=20,
        fanouts=fanouts,
        policy=policy,
        defaults=settings or BufferSettings(capacity_rows=1000),
        max_buffer_rows=max_buffer_rows,
        refused_knobs=(ROUNDS,) if policy != "score" else (),
    )


def zipf(
    count: int, *, seed: int, num_nodes: int = NUM_REMOTE, width: int = 1200
) -> list[IntArray]:
    """Batches of distinct nodes, some used far more often than others."""
    random = np.random.default_rng(seed)
    weights = random.permutation(np.arange(1, num_nodes + 1.0)) ** -0.7
    return [_draw(random, weights, width) for _ in range(count)]


def drifting(count: int, *, seed: int) -> list[IntArray]:
    """The same, the hot nodes becoming others little by little."""
    random = np.random.default_rng(seed)
    weights = random.permutation(np.arange(1, NUM_REMOTE + 1.0)) ** -0.8
    batches = []
    for _ in range(count):
        batches.append(_draw(random, weights, 1200))
        one, other = random.integers(0, NUM_REMOTE, (2, 15))
        weights[one], weights[other] = weights[other].copy(), weights[one].copy()
    return batches


def replay(
    batches: Sequence[IntArray],
    settings: BufferSettings,
    *,
    policy: PolicyName = "lookahead",
    change: Change | None = None,
    at: int = -1,
    num_remote: int = NUM_REMOTE,
) -> IntArray:
    """Rows that each batch fetches, of all nodes; `change` comes before batch `at`."""
    driven = make_simulated(policy, view(num_remote), settings)
    rows, observed = [], 0
    for number, nodes in enumerate(batches):
        if number == at and change is not None:
            driven.apply(change)
        ahead = min(driven.settings.lookahead_batches, LOOKAHEAD_GROWTH * number)
        while observed < min(number + ahead + 1, len(batches)):
            driven.observe(batches[observed])
            observed += 1
        plan = driven.plan(nodes)
        rows.append(len(plan.misses) + len(plan.targets))
    return np.array(rows, dtype=np.int64)


def view(num_remote: int) -> PartitionView:
    return PartitionView(
        part=0,
        starts=np.array([0, 1, 1 + num_remote]),
        indptr=np.zeros(2, dtype=np.int64),
        indices=np.empty(0, dtype=np.int64),
        halo=np.empty(0, dtype=np.int64),
    )


def window(
    index: int,
    settings: BufferSettings,
    *,
    fetched: int = 4800,
    remote: int = 19200,
    seconds: Seconds = _SECONDS,
    wall_seconds: float | None = 0.32,
    owners: tuple[OwnerTraffic, ...] = (),
    accesses: AccessSlice | None = None,
    buffered_rows: int | None = None,
) -> Window:
    """Sixteen steps; `fetched` and `remote` rows in all of them."""
    return Window(
        rank=0,
        index=index,
        epoch=0,
        first_step=index * WINDOW_STEPS,
        num_steps=WINDOW_STEPS,
        rows=RowCounts(
            input_rows=remote,
            remote_rows=remote,
            hits=remote - min(fetched, remote),
            rows_fetched=RowsFetched(miss=fetched),
        ),
        seconds=seconds,
        settings=settings,
        buffered_rows=settings.capacity_rows if buffered_rows is None else buffered_rows,
        waiting_batches=2,
        wall_seconds=wall_seconds,
        owners=owners,
        accesses=accesses,
    )


def history_of(
    batches: Sequence[IntArray],
    settings: BufferSettings,
    *,
    rate: float = 0.1,
    policy: PolicyName = "lookahead",
    num_remote: int = NUM_REMOTE,
    seed: int = 0,
) -> History:
    """A run over all batches under the same settings."""
    sampled = np.random.default_rng(seed).random(num_remote) < rate
    rows = replay(batches, settings, policy=policy, num_remote=num_remote)
    work = workload(
        policy=policy, settings=settings, num_remote=num_remote, max_buffer_rows=num_remote
    )
    history = History(work)
    for index in range(len(batches) // WINDOW_STEPS):
        steps = slice(index * WINDOW_STEPS, (index + 1) * WINDOW_STEPS)
        shown = [nodes[sampled[nodes]].astype(np.int32) for nodes in batches[steps]]
        history.add(
            window(
                index,
                settings,
                fetched=int(rows[steps].sum()),
                remote=sum(map(len, batches[steps])),
                accesses=AccessSlice.of(shown, rate=rate),
            )
        )
    return history


def whatif_of(history: History) -> WhatIf:
    return WhatIf(history)


def _draw(random: np.random.Generator, weights: NDArray[np.float64], width: int) -> IntArray:
    """Distinct nodes by weight: the smallest of exponential times come first."""
    times = random.exponential(size=len(weights)) / weights
    return np.argpartition(times, width)[:width].astype(np.int64)


def call_of(tool: str, **arguments: Argument) -> ToolCall:
    """A call with an id of its own."""
    return ToolCall(call_id=uuid.uuid4().hex, tool=tool, arguments=arguments)
