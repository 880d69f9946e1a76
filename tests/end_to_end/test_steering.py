"""A real run that agents steer, and what becomes of it when they are stopped, killed or silent."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from rudder.memory.run.run_reader import RunReader, run_file
from tests.end_to_end.records import check_records, has_one_session
from tests.end_to_end.test_train import RUDDER, rudder, wait_for
from tests.waiting import RUN_SECONDS, WAIT_SECONDS, lives, until

pytestmark = pytest.mark.distributed


@contextmanager
def steered_run(data: Path, run_dir: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    arguments = ["train", "--data", str(data), "--run-dir", str(run_dir), "--batch-size", "64"]
    run = subprocess.Popen(
        [str(RUDDER), *arguments, *options],
        cwd=run_dir.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield run
    finally:
        run.terminate()
        run.communicate(timeout=WAIT_SECONDS)


def settings_of(run_dir: Path) -> list[dict[str, Any]]:
    shown = rudder("set", "--run", str(run_dir), "--json", cwd=run_dir.parent)
    return [json.loads(line)["settings"] for line in shown.stdout.splitlines()]


def controllers(run_dir: Path) -> list[int]:
    found = []
    for file in sorted((run_dir / "control").glob("rank*.pid")):
        with suppress(ValueError, OSError):
            found.append(int(file.read_text()))
    return found


def test_agents_rescue_a_run_from_bad_settings(tiny_parts: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    bad = ("--buffer", "0.01", "--lookahead", "0", "--rate", "10mbit", "--epochs", "12")
    (tmp_path / "key").write_bytes(b"k" * 32)
    outside = ("--audit-key", str(tmp_path / "key"), "--audit-anchor", str(tmp_path / "anchor"))
    always = "0:00-12:00 memory_budget=1TiB; 12:00-24:00 memory_budget=1TiB"
    with steered_run(tiny_parts, run_dir, *bad, *outside, "--schedule", always) as run:
        _, errors = run.communicate(timeout=RUN_SECONDS)
    assert run.returncode == 0, errors
    summary = json.loads((run_dir / "summary.json").read_text())
    steering = summary["steering"]
    assert [counts["rank"] for counts in steering] == [0, 1]
    assert sum(counts["applied"] for counts in steering) >= 1
    assert all(counts["applied"] <= 12 for counts in steering)
    epochs = [rank["epochs"] for rank in summary["ranks"]]
    first = sum(each[0]["rows"]["rows_fetched"]["miss"] for each in epochs)
    last = sum(each[-1]["rows"]["rows_fetched"]["miss"] for each in epochs)
    assert last < 0.8 * first
    assert "capacity" in errors  # told while it goes on
    assert check_records(run_dir) == 2
    assert all(has_one_session(run_file(run_dir, rank=rank)) for rank in range(2))
    for rank in range(2):
        with RunReader(run_file(run_dir, rank=rank)) as reader:
            (note,) = [row for row in reader.audit() if row.agent == "schedule"]
        assert (note.tool, note.arguments) == ("steer_budget", f'{{"num_bytes": {2**40}}}')
    assert not (run_dir / "control").exists()
    shown = rudder("audit", "verify", str(run_dir), *outside, cwd=tmp_path)
    assert (shown.returncode, "not known" in shown.stdout) == (0, False), shown
    assert all(f"rank {rank}'s log knows its rows up to" in shown.stdout for rank in range(2))


def test_training_does_not_notice_controllers_that_are_stopped_or_killed(
    tiny_parts: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    rng = random.Random(0)
    with steered_run(tiny_parts, run_dir, "--epochs", "50") as run:
        for rank in range(2):
            wait_for(run_dir / "steering" / f"rank{rank}.json", run)
        for _ in range(4):
            time.sleep(rng.random())
            for pid in controllers(run_dir):
                with suppress(ProcessLookupError):
                    os.kill(pid, rng.choice([signal.SIGKILL, signal.SIGSTOP]))
        _, errors = run.communicate(timeout=RUN_SECONDS)
    assert run.returncode == 0, errors
    summary = json.loads((run_dir / "summary.json").read_text())
    assert len(summary["epoch_seconds"]) == 50
    assert summary["test_accuracy"] > 0.5
    assert "Traceback" not in errors
    assert check_records(run_dir) == 2


def test_a_live_run_is_set_and_steering_is_switched_off_though_its_controllers_are_stopped(
    tiny_parts: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"

    def told(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return rudder(*command.split(), "--run", str(run_dir), *arguments, cwd=tmp_path)

    with steered_run(tiny_parts, run_dir, "--epochs", "100000", "--lookahead", "7") as run:
        for rank in range(2):
            wait_for(run_dir / "steering" / f"rank{rank}.json", run)
        for pid in controllers(run_dir):
            os.kill(pid, signal.SIGSTOP)
        change = ("--rank", "1", "--capacity", "123", "--lookahead", "4", "--json")
        answer = json.loads(told("set", *change).stdout)
        assert (answer["outcome"], answer["rank"]) == ("applied", 1)
        first, second = settings_of(run_dir)
        assert (second["capacity_rows"], second["lookahead_batches"]) == (123, 4)
        assert first["capacity_rows"] != 123
        refused = told("set", "--fetch", "owner", "--fetch-owner", "9")
        assert refused.returncode == 2
        assert "owner = 9" in refused.stderr
        assert told("steer off").returncode == 0
        until(lambda: [each["lookahead_batches"] for each in settings_of(run_dir)] == [7, 4])
        assert "off" in told("steer status").stdout
        stopped = controllers(run_dir)
        run.terminate()
        _, errors = run.communicate(timeout=WAIT_SECONDS)
    assert run.returncode != 0
    assert "Traceback" not in errors
    assert {path.name for path in (run_dir / "control").iterdir()} == {"steering-off"}
    until(lambda: not any(map(lives, stopped)))


@pytest.mark.parametrize("moment", ["starting", "steering"])
def test_a_killed_launcher_leaves_no_controller(
    tiny_parts: Path, tmp_path: Path, moment: str
) -> None:
    run_dir = tmp_path / "run"
    with steered_run(tiny_parts, run_dir, "--epochs", "100000") as run:
        wait_for(run_dir / "control" / "rank1.pid", run)
        if moment == "steering":
            wait_for(run_dir / "steering" / "rank1.json", run)
        run.kill()
        until(lambda: not processes_about(run_dir))


def processes_about(run_dir: Path) -> list[psutil.Process]:
    """Processes whose command line or environment names the run's folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if str(run_dir) in " ".join((*process.cmdline(), *process.environ().values())):
                found.append(process)
    return found
