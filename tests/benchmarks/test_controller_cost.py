"""The study of what controllers cost: decisions of a recorded run, and one that idles."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.controller_cost import quarters
from rudder.agents.planners.baselines import FixedPlanner
from rudder.bench.simulated.run import simulate
from rudder.memory.run.sqlite_journal import SqliteJournal
from tests.agents.steered import trainer_of

ROOT = Path(__file__).parents[2]


def decision_cost(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.controller_cost", "--seconds", "0", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_parts_of_a_recorded_runs_decisions_sum_up(tmp_path: Path) -> None:
    path = tmp_path / "rank0.db"
    journal = SqliteJournal.open(path, memory=None)
    trainer = trainer_of()
    asyncio.run(simulate(trainer, planner=FixedPlanner(), windows=6, journal=journal))
    journal.close()
    done = decision_cost(str(path), "--decisions", "5")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["decisions"] >= 5
    parts = found["parts_ms"]
    assert {"observer", "planner", "what-if", "trace", "graph", "message", "rows"} <= set(parts)
    assert 0 < parts["what-if"]["p50"] < found["decision_ms"]["p50"]
    assert 0 < parts["message"]["p50"] < found["window_ms"]["p50"]
    most = sum(part["p99"] for part in parts.values())
    assert found["decision_ms"]["p99"] + found["window_ms"]["p50"] <= most + 0.1


def test_a_folder_that_is_no_run_is_an_error(tmp_path: Path) -> None:
    done = decision_cost(str(tmp_path))
    assert done.returncode != 0
    assert "has no" in done.stderr


@pytest.mark.slow
def test_a_controller_that_can_gain_nothing_soon_has_no_accesses_sampled(tmp_path: Path) -> None:
    found = list(quarters(40, tmp_path, trainers=2))
    assert found[0]["core_percent"] > 0
    assert found[-1]["peak_mib"] < 300
    assert found[-1]["sampled_windows"] == 0
    assert found[-1]["steps_of_last_window"] > 16
