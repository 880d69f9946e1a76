"""The simulator: OPT against a naive Belady, no policy below it, and traces that are broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rudder.training.buffer.policies.lookahead import LookaheadBuffer
from rudder.training.config import BufferSize
from rudder.training.errors import ConfigError, DataError
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings
from rudder.training.simulate.recording import Recording, read_recording
from rudder.training.simulate.replay import Limit, replay_trace
from rudder.training.simulate.study import OPT, SIMULATED_POLICIES, Study, answer, make_policy_of
from rudder.training.trace import RecordedPolicy, TraceHeader, TraceWriter

NUM_REMOTE = 300
LOOKAHEAD = 5
Batches = list[NDArray[np.int64]]


def batches(seed: int, count: int = 40) -> Batches:
    random = np.random.default_rng(seed)
    weights = random.pareto(1.0, NUM_REMOTE) + 0.1
    weights /= weights.sum()
    return [
        random.choice(NUM_REMOTE, random.integers(0, 60), replace=False, p=weights)
        for _ in range(count)
    ]


def view() -> PartitionView:
    return PartitionView(
        part=0,
        starts=np.array([0, 10, 10 + NUM_REMOTE]),
        indptr=np.zeros(11, dtype=np.int64),
        indices=np.empty(0, dtype=np.int64),
        halo=np.arange(10, 10 + NUM_REMOTE // 2),
    )


def record(path: Path, trace: Batches, *, capacity: int) -> list[tuple[int, int]]:
    """Drive a policy as the live loader does, recording it; returns hits and misses per batch."""
    settings = BufferSettings(capacity_rows=capacity, lookahead_batches=LOOKAHEAD)
    header = TraceHeader(
        rank=0, part=0, starts=(0, 10, 10 + NUM_REMOTE), num_halo=NUM_REMOTE // 2, row_bytes=4,
        batch_size=8, batches_per_epoch=10, fanouts=(5, 10), policy="lookahead", settings=settings,
    )  # fmt: skip
    writer = TraceWriter(path, header, view())
    policy = RecordedPolicy(LookaheadBuffer(view(), settings), writer)
    seen, live = 0, []
    for number, nodes in enumerate(trace):
        while seen < min(len(trace), number + 1 + min(number, LOOKAHEAD)):
            policy.observe(trace[seen])
            seen += 1
        plan = policy.plan(nodes)
        live.append((len(plan.hits), len(plan.misses)))
    writer.close()
    return live


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    record(tmp_path / "rank0.trace", batches(1), capacity=30)
    return read_recording(tmp_path / "rank0.trace")


def naive_opt(trace: Batches, capacity: int) -> int:
    """Rows fetched when, after each batch, the rows with the nearest next use are kept."""
    buffered: set[int] = set()
    fetched = 0
    for number, nodes in enumerate(trace):
        fetched += len(set(nodes.tolist()) - buffered)

        def next_use(node: int, after: int = number + 1) -> int:
            later = (i for i in range(after, len(trace)) if node in set(trace[i].tolist()))
            return next(later, len(trace) + 1)

        uses = {node: next_use(node) for node in buffered | set(nodes.tolist())}
        kept = sorted((node for node in uses if uses[node] <= len(trace)), key=uses.__getitem__)
        buffered = set(kept[:capacity])
    return fetched


@pytest.mark.parametrize("capacity", [0, 1, 7, 40, NUM_REMOTE])
def test_opt_fetches_what_a_naive_belady_fetches(recording: Recording, capacity: int) -> None:
    assert Limit(recording).opt(capacity).misses.sum() == naive_opt(batches(1), capacity)


def test_an_endless_buffer_fetches_each_row_once(recording: Recording) -> None:
    distinct = len(np.unique(np.concatenate(batches(1))))
    assert Limit(recording).cold.sum() == distinct
    assert Limit(recording).opt(NUM_REMOTE).misses.sum() == distinct


def test_replay_counts_what_the_live_policy_counted(tmp_path: Path) -> None:
    live = record(tmp_path / "rank0.trace", batches(2), capacity=25)
    recording = read_recording(tmp_path / "rank0.trace")
    counts = replay_trace(
        make_policy_of("lookahead", recording, recording.header.settings), recording
    )
    assert list(zip(counts.hits.tolist(), counts.misses.tolist(), strict=True)) == live
    assert [tuple(row[:2]) for row in recording.planned.tolist()] == live


@pytest.mark.parametrize("policy", SIMULATED_POLICIES)
def test_no_policy_fetches_fewer_rows_than_opt(recording: Recording, policy: str) -> None:
    if policy == "static":
        policy = "static:source=degree"
    asked = Study((policy,), tuple(map(BufferSize.parse, ("0.1", "40", "400B"))), (0, 3, 60))
    replays: list[None] = []
    rows = answer([recording], asked, on_replay=lambda: replays.append(None))
    assert len(rows) == len(replays) == asked.num_replays == 3 * (1 + 3)
    for row in rows:
        assert row.rows_fetched >= row.opt_rows
        assert row.rows_fetched == row.by_cause.total
        assert row.policy != OPT or row.rows_fetched == row.opt_rows


def test_lookahead_over_the_whole_trace_is_opt_but_for_the_start(recording: Recording) -> None:
    asked = Study(("lookahead",), (BufferSize.parse("30"),), (1000,))
    opt, ours = answer([recording], asked)
    # The window grows by one a batch at the start, so the first plans do not see everything.
    assert opt.rows_fetched <= ours.rows_fetched <= 1.01 * opt.rows_fetched


def test_a_cut_trace_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = tmp_path / "rank0.trace"
    record(whole, batches(3), capacity=30)
    content = whole.read_bytes()
    whole.write_bytes(content[:-5])
    assert not read_recording(whole).is_whole


@pytest.mark.parametrize("content", [b"", b"nonsense", bytes(1000)])
def test_what_is_no_trace_is_refused_with_a_remedy(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "rank0.trace"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"rank0\.trace"):
        read_recording(file)


def test_unknown_policies_and_too_many_warm_epochs_are_refused(recording: Recording) -> None:
    size = (BufferSize.parse("10"),)
    with pytest.raises(ConfigError, match="lookahead"):
        answer([recording], Study(("belady",), size, (1,)))
    with pytest.raises(ConfigError, match="warm_epochs"):
        answer([recording], Study(("lru",), size, (1,), warm_epochs=9))
