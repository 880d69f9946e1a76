"""A made-up run, plausible and equal for equal seeds: for tests, docs, benchmarks and a first look.

Nothing in it was measured.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from rudder.memory.journal import AuditEntry, ModelCall
from rudder.memory.records import Episode
from rudder.memory.run.run_reader import run_file
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.training.metrics import (
    AccessSlice,
    OwnerTraffic,
    RowCounts,
    RowsFetched,
    Seconds,
    Window,
)
from rudder.training.workload import Workload

_STEPS = 16
_REMOTE = 4000


def sample_workload(*, rank: int = 0, run_key: str = "5a4d91e0", halo: int = 40_000) -> Workload:
    """A trainer of two."""
    return Workload.model_validate({
        "run_key": run_key, "rank": rank, "world_size": 2, "part": rank, "num_parts": 2,
        "num_inner": 100_000, "num_halo": halo, "num_remote": 100_000, "row_bytes": 400,
        "batch_size": 512, "batches_per_epoch": 100, "epochs": 10, "fanouts": (5, 10),
        "policy": "lookahead", "defaults": _settings(halo // 4), "max_buffer_rows": halo,
    })  # fmt: skip


def sample_window(index: int, *, workload: Workload, seed: int = 0) -> Window:
    """A window of 16 steps; larger buffers hit more."""
    draw = random.Random(f"{seed}/{workload.rank}/{index}")
    hits = round(_STEPS * _REMOTE * draw.uniform(0.5, 0.7))
    misses = _STEPS * _REMOTE - hits
    ids = np.random.default_rng(index + seed).zipf(1.3, size=(_STEPS, 40)) % workload.num_remote
    rows = RowCounts(
        input_rows=_STEPS * 9000, remote_rows=_STEPS * _REMOTE, hits=hits,
        rows_fetched=RowsFetched(miss=misses), bytes_fetched=misses * workload.row_bytes,
    )  # fmt: skip
    return Window(
        rank=workload.rank, index=index, epoch=index * _STEPS // workload.batches_per_epoch,
        first_step=index * _STEPS, num_steps=_STEPS, rows=rows,
        seconds=Seconds(sample=0.1, pull=misses * 2e-6, exposed_wait=misses * 1e-6, compute=0.3),
        settings=workload.defaults, buffered_rows=workload.defaults.capacity_rows,
        waiting_batches=draw.randrange(16), wall_seconds=0.4,
        owners=(OwnerTraffic(part=1 - workload.part, rows=misses, pulls=_STEPS, seconds=0.1),),
        accesses=AccessSlice.of([np.unique(row).astype(np.int32) for row in ids], rate=0.01),
    )  # fmt: skip


def sample_episode(number: int, *, workload: Workload, seed: int = 0) -> Episode:
    """A finished decision about the capacity; every third was reverted."""
    draw = random.Random(f"{seed}/{workload.run_key}/{workload.rank}/{number}")
    before = draw.uniform(1000, 3000)
    is_good = number % 3 != 2
    after = before * (draw.uniform(0.6, 0.9) if is_good else draw.uniform(1.05, 1.3))
    capacity = workload.num_halo * draw.randrange(1, 9) // 10
    name = f"{workload.run_key}-{workload.rank}-{number}"
    proposed = {
        "change": {"capacity_rows": capacity},
        "expected": {
            "rows_fetched": _range(before * 0.8, 0.9, 1.1),
            "exposed_wait_ms": _range(before * 0.8 / 200, 0.8, 4 / 3),
            "buffer_bytes": capacity * workload.row_bytes,
        },
    }
    call = {
        "call_id": f"{name}-call", "tool": "set",
        "arguments": {"capacity_rows": capacity},
    }  # fmt: skip
    return Episode.model_validate({
        "episode_id": name, "run_key": workload.run_key, "rank": workload.rank, "number": number,
        "observation": {
            "step": number * 48, "window": 3 * number + 2, "steps_left": 1000 - number * 48,
            "settings": workload.defaults, "bottleneck": "network", "trend": "steady",
            "hit_fraction": draw.uniform(0.3, 0.9), "remote_rows": _REMOTE,
            "rows_fetched": before, "exposed_wait_ms": before / 200, "step_ms": 25.0,
            "noise_rows": 20.0, "noise_wait_ms": 0.1,
            "headroom_rows": before * draw.uniform(0, 0.5), "headroom_wait_ms": before / 800,
            "spare_ms": -1.0, "drift": 0.0, "working_set_rows": workload.num_halo // 2,
        },
        "plan": {
            "planner": "embedded/1", **proposed, "calls": [call],
            "reason": "the buffer is smaller than what is used again",
        },
        "verdict": {
            "decision": "approve", "critic": "embedded/1", **proposed,
            "reason": "the what-if agrees",
        },
        "guard": {"allowed": True, "rule": None, "reason": "within bounds"},
        "command_id": f"{name}-command",
        "applied": {
            "command_id": f"{name}-command", "outcome": "applied", "rank": workload.rank,
            "step": number * 48 + 2, "settings": _settings(capacity),
        },
        "outcome": {
            "result": "confirmed" if is_good else "reverted",
            "rows_before": before, "rows_after": after, "wait_ms_before": before / 200,
            "wait_ms_after": after / 200, "noise_rows": 20.0, "noise_wait_ms": 0.1,
            "rows_error": after / (before * 0.8) - 1, "reason": "measured over two windows",
        },
    })  # fmt: skip


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


def record(journal: SqliteJournal, episode: Episode) -> None:
    """Write an episode down as a controller does, step by step."""
    journal.recall(episode.observation)
    for entry in sample_entries(episode):
        journal.log(entry)
    call = ModelCall(
        call_id=f"{episode.episode_id}-model", agent="planner", step=episode.observation.step,
        model="scripted", messages='[{"role": "user", "content": "..."}]',
        answer='{"tool_calls": []}', latency_ms=1.5, episode_id=episode.episode_id,
        input_tokens=900, output_tokens=40, tokens_source="estimated",
    )  # fmt: skip
    journal.add_model_call(call)
    journal.save(episode.model_copy(update={"applied": None, "outcome": None}))
    journal.save(episode)


def write_sample_run(
    run_dir: Path, *, num_episodes: int = 8, seed: int = 0, run_key: str = "5a4d91e0"
) -> list[Path]:
    """Write `run_dir/steering/rankN.db` of two ranks; returns the paths.

    After the episodes each rank keeps where the other one's log ends. The last row of each log is
    a change that was announced when the run ended, and not made.
    """
    workloads = [sample_workload(rank=rank, run_key=run_key) for rank in range(2)]
    paths = [run_file(run_dir, rank=workload.rank) for workload in workloads]
    last = AuditEntry(
        kind="intent", call_id="last-intent", agent="act", tool="apply", step=48 * num_episodes,
        arguments='{"capacity_rows":4000}',
    )  # fmt: skip
    journals = [SqliteJournal.open(path, memory=None) for path in paths]
    for journal, workload in zip(journals, workloads, strict=True):
        journal.begin(workload)
        for number in range(num_episodes):
            for index in range(3 * number, 3 * number + 3):
                journal.add_window(sample_window(index, workload=workload, seed=seed))
            record(journal, sample_episode(number, workload=workload, seed=seed))
    heads = [journal.head() for journal in journals]
    for journal, head in zip(journals, reversed(heads), strict=True):
        if head is not None:
            journal.note_head(head)
        journal.log(last)
        journal.close()
    return paths


def _settings(capacity_rows: int) -> dict[str, float]:
    return {"capacity_rows": capacity_rows, "eviction_threshold": 1.0, "lookahead_batches": 16}


def _range(mid: float, low: float, high: float) -> dict[str, float]:
    return {"low": low * mid, "mid": mid, "high": high * mid}
