"""A made-up run, plausible and equal for equal seeds: for tests, docs, benchmarks and a first look.

Nothing in it was measured.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from rudder.memory.journal import AuditEntry
from rudder.memory.model_calls import ModelCall
from rudder.memory.records import Episode, GuardResult, Observation, Outcome, Plan, Verdict
from rudder.memory.run.run_file import run_file
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.tools.calls import ToolCall
from rudder.tools.effects import Effect, Range
from rudder.training.metrics import (
    AccessSlice,
    OwnerTraffic,
    RowCounts,
    RowsFetched,
    Seconds,
    Window,
)
from rudder.training.settings import Applied, BufferSettings, Change
from rudder.training.workload import Workload

_STEPS = 16
_REMOTE = 4000


def sample_workload(*, rank: int = 0, run_key: str = "5a4d91e0", halo: int = 40_000) -> Workload:
    """A trainer of two."""
    return Workload(
        run_key=run_key,
        rank=rank,
        world_size=2,
        part=rank,
        num_parts=2,
        num_inner=100_000,
        num_halo=halo,
        num_remote=100_000,
        row_bytes=400,
        batch_size=512,
        batches_per_epoch=100,
        epochs=10,
        fanouts=(5, 10),
        policy="lookahead",
        defaults=_settings(halo // 4),
        max_buffer_rows=halo,
    )


def sample_window(index: int, *, workload: Workload, seed: int = 0) -> Window:
    """A window of 16 steps; larger buffers hit more."""
    draw = random.Random(f"{seed}/{workload.rank}/{index}")
    hits = round(_STEPS * _REMOTE * draw.uniform(0.5, 0.7))
    misses = _STEPS * _REMOTE - hits
    ids = np.random.default_rng(index + seed).zipf(1.3, size=(_STEPS, 40)) % workload.num_remote
    return Window(
        rank=workload.rank,
        index=index,
        epoch=index * _STEPS // workload.batches_per_epoch,
        first_step=index * _STEPS,
        num_steps=_STEPS,
        rows=RowCounts(
            input_rows=_STEPS * 9000,
            remote_rows=_STEPS * _REMOTE,
            hits=hits,
            rows_fetched=RowsFetched(miss=misses),
            bytes_fetched=misses * workload.row_bytes,
        ),
        seconds=Seconds(sample=0.1, pull=misses * 2e-6, exposed_wait=misses * 1e-6, compute=0.3),
        settings=workload.defaults,
        buffered_rows=workload.defaults.capacity_rows,
        waiting_batches=draw.randrange(16),
        wall_seconds=0.4,
        owners=(OwnerTraffic(part=1 - workload.part, rows=misses, pulls=_STEPS, seconds=0.1),),
        accesses=AccessSlice.of([np.unique(row).astype(np.int32) for row in ids], rate=0.01),
    )


def sample_episode(number: int, *, workload: Workload, seed: int = 0) -> Episode:
    """A finished decision about the capacity; every third was reverted."""
    draw = random.Random(f"{seed}/{workload.run_key}/{workload.rank}/{number}")
    before = draw.uniform(1000, 3000)
    is_good = number % 3 != 2
    after = before * (draw.uniform(0.6, 0.9) if is_good else draw.uniform(1.05, 1.3))
    capacity = workload.num_halo * draw.randrange(1, 9) // 10
    change = Change(capacity_rows=capacity)
    expected = _effect(before * 0.8, capacity * workload.row_bytes)
    episode_id = f"{workload.run_key}-{workload.rank}-{number}"
    return Episode(
        episode_id=episode_id,
        run_key=workload.run_key,
        rank=workload.rank,
        number=number,
        observation=_observation(number, before, workload=workload, draw=draw),
        plan=Plan(
            planner="embedded/1",
            change=change,
            expected=expected,
            reason="the buffer is smaller than what is used again",
            calls=(
                ToolCall(
                    call_id=f"{episode_id}-call",
                    tool="set_capacity",
                    arguments={"rows": capacity},
                ),
            ),
        ),
        verdict=Verdict(
            decision="approve", critic="embedded/1", change=change, expected=expected,
            reason="the what-if agrees",
        ),
        guard=GuardResult(allowed=True, rule=None, reason="within bounds"),
        command_id=f"{episode_id}-command",
        applied=Applied(
            command_id=f"{episode_id}-command", outcome="applied", rank=workload.rank,
            step=number * 48 + 2, settings=_settings(capacity),
        ),
        outcome=Outcome(
            result="confirmed" if is_good else "reverted",
            rows_before=before, rows_after=after, wait_ms_before=before / 200,
            wait_ms_after=after / 200, noise_rows=20.0, noise_wait_ms=0.1,
            rows_error=after / (before * 0.8) - 1, reason="measured over two windows",
        ),
    )  # fmt: skip


def write_sample_run(run_dir: Path, *, num_episodes: int = 8, seed: int = 0) -> list[Path]:
    """Write `run_dir/steering/rankN.db` of two ranks; returns the paths.

    The last row of each log is an intent that no effect followed.
    """
    workloads = [sample_workload(rank=rank) for rank in range(2)]
    paths = [run_file(run_dir, rank=workload.rank) for workload in workloads]
    for path, workload in zip(paths, workloads, strict=True):
        journal = SqliteJournal.open(path, memory=None)
        journal.begin(workload)
        for number in range(num_episodes):
            for index in range(3 * number, 3 * number + 3):
                journal.add_window(sample_window(index, workload=workload, seed=seed))
            record(journal, sample_episode(number, workload=workload, seed=seed))
        journal.log(_last_intent(48 * num_episodes))
        journal.close()
    return paths


def _last_intent(step: int) -> AuditEntry:
    """A change that was announced when the run ended, and not made."""
    return AuditEntry(
        kind="intent",
        call_id="last-intent",
        agent="act",
        tool="apply",
        step=step,
        arguments=Change(capacity_rows=4000).model_dump_json(exclude_defaults=True),
    )


def record(journal: SqliteJournal, episode: Episode) -> None:
    """Write an episode down as a controller does, step by step."""
    journal.recall(episode.observation)
    for entry in sample_entries(episode):
        journal.log(entry)
    journal.add_model_call(_model_call(episode))
    journal.save(episode.model_copy(update={"applied": None, "outcome": None}))
    journal.save(episode)


def sample_entries(episode: Episode) -> list[AuditEntry]:
    """A call and its result, an intent and its effect."""
    call, step = episode.plan.calls[0], episode.observation.step
    at = {"step": step, "episode_id": episode.episode_id}
    planned = {"agent": "planner", "tool": call.tool, "call_id": call.call_id, **at}
    acted = {"agent": "act", "tool": "apply", "call_id": episode.command_id, **at}
    change = episode.plan.change.model_dump_json(exclude_defaults=True)
    applied = episode.applied.model_dump_json() if episode.applied else None
    rows = (
        {"kind": "call", "arguments": change, **planned},
        {"kind": "result", "outcome": "staged", "latency_ms": 0.2, **planned},
        {"kind": "intent", "outcome": "approved", "arguments": change, **acted},
        {"kind": "effect", "outcome": "applied", "result": applied, **acted},
    )
    return [AuditEntry.model_validate(row) for row in rows]


def _observation(
    number: int, rows: float, *, workload: Workload, draw: random.Random
) -> Observation:
    return Observation(
        step=number * 48, window=3 * number + 2, steps_left=1000 - number * 48,
        settings=workload.defaults, bottleneck="network", trend="steady",
        hit_fraction=draw.uniform(0.3, 0.9), remote_rows=_REMOTE, rows_fetched=rows,
        exposed_wait_ms=rows / 200, step_ms=25.0, noise_rows=20.0, noise_wait_ms=0.1,
        headroom_rows=rows * draw.uniform(0, 0.5), headroom_wait_ms=rows / 800, spare_ms=-1.0,
        drift=0.0, working_set_rows=workload.num_halo // 2,
    )  # fmt: skip


def _settings(capacity_rows: int) -> BufferSettings:
    return BufferSettings(capacity_rows=capacity_rows, eviction_threshold=1.0, lookahead_batches=16)


def _effect(rows: float, num_bytes: int) -> Effect:
    return Effect(
        rows_fetched=Range(low=rows * 0.9, mid=rows, high=rows * 1.1),
        exposed_wait_ms=Range(low=rows / 250, mid=rows / 200, high=rows / 150),
        buffer_bytes=num_bytes,
    )


def _model_call(episode: Episode) -> ModelCall:
    return ModelCall(
        call_id=f"{episode.episode_id}-model",
        agent="planner",
        step=episode.observation.step,
        model="scripted",
        messages='[{"role": "user", "content": "..."}]',
        answer='{"tool_calls": []}',
        latency_ms=1.5,
        episode_id=episode.episode_id,
        input_tokens=900,
        output_tokens=40,
        tokens_source="estimated",
    )
