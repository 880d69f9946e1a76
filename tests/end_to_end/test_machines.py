"""Runs on other machines: here each is an agent that a stand-in for ssh starts on this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest

from rudder.training.launch.plan import plan
from tests.end_to_end.runs import SHM_FOLDER, Outcome, Run, segments
from tests.training.launch.test_plan import TINY
from tests.waiting import RUN_SECONDS, lives, until

pytestmark = pytest.mark.distributed
SSH_HERE = Path(__file__).parents[1] / "training" / "hosts" / "ssh_here.sh"
RUDDER = (sys.executable, "-c", "from rudder.cli.main import main; main()")


def machines() -> dict[str, Any]:
    """Options of two machines whose addresses nobody else of this machine uses."""
    network = f"127.{os.getpid() % 250 + 1}.77"
    names = [f"node1 {network}.1", f"node2 {network}.2"]
    return {"launcher": "ssh", "machines": names, "ssh": f"sh {SSH_HERE}", "seed": 7}


def folders() -> set[Path]:
    """Folders of runs on the machines."""
    return set((Path(tempfile.gettempdir()) / f"rudder-{os.getuid()}").glob("run-*"))


def workers(run: Run) -> list[psutil.Process]:
    """Servers and trainers."""
    return processes(run, "rudder.training.process.worker")


def agents(run: Run) -> list[psutil.Process]:
    return processes(run, "rudder.training.hosts.agent")


def processes(run: Run, module: str) -> list[psutil.Process]:
    below = psutil.Process(run.launcher_pid).children(recursive=True)
    return [each for each in below if module in each.cmdline()]


def shared_bytes() -> int:
    """Of all runs on this machine."""
    return sum((SHM_FOLDER / name).stat().st_size for name in segments())


def losses(outcome: Outcome) -> list[tuple[int, int, float]]:
    assert outcome.exit_code == 0, outcome.error
    done = [event for event in outcome.events if event["kind"] == "epoch"]
    return sorted((e["rank"], e["metrics"]["epoch"], e["metrics"]["loss"]) for e in done)


def test_machines_train_as_local_hosts_do_and_send_their_files(
    tiny_parts: Path, tmp_path: Path
) -> None:
    before = segments(), folders()
    there = Run(tiny_parts, tmp_path / "there", epochs=2, **machines())
    here = Run(tiny_parts, tmp_path / "here", epochs=2, seed=7)
    assert losses(there.outcome(within_s=RUN_SECONDS)) == losses(here.outcome(within_s=RUN_SECONDS))
    logs = {path.name for path in (tmp_path / "there" / "logs").iterdir()}
    assert logs == {"rank0.log", "rank1.log", "server0.log", "server1.log"}
    assert (segments(), folders()) == before


def test_run_on_machines_is_set_from_here_until_an_agent_is_killed_and_nothing_stays(
    tiny_parts: Path, tmp_path: Path
) -> None:
    before, records = segments(), tmp_path / "run" / "steering"
    options = {"controller": "on", "memory": str(tmp_path / "memory.db"), **machines()}
    run = Run(tiny_parts, tmp_path / "run", epochs=9999, **options)
    try:
        run.wait_for("trainer", 1, "training")
        set_rows = [*RUDDER, "set", "--run", str(tmp_path / "run")]
        answer = subprocess.check_output([*set_rows, "--rank", "1", "--capacity", "321"], text=True)
        assert "rank 1 applied from step" in answer
        assert "capacity 321 rows" in answer
        assert plan(TINY).of("shared memory") == pytest.approx(shared_bytes() / 2, rel=0.05)
        for name in ("rank0.db", "rank1.db"):
            until((records / name).exists)

        gone = workers(run)
        agents(run)[0].kill()
        outcome = run.outcome()
        assert outcome.exit_code == 5
        assert "is lost with its host: " in outcome.message
        assert " on node" in outcome.message
        until(lambda: not any(map(lives, gone)))
        until(lambda: segments() <= before)
    finally:
        run.close()


def test_killed_launcher_leaves_nothing_on_the_machines(tiny_parts: Path, tmp_path: Path) -> None:
    before = segments(), folders()
    run = Run(tiny_parts, tmp_path / "run", epochs=9999, **machines())
    try:
        run.wait_for("trainer", 1, "training")
        gone = [*agents(run), *workers(run)]
        run.signal(signal.SIGKILL)
        until(lambda: not any(map(lives, gone)))
        until(lambda: (segments(), folders()) == before)
    finally:
        run.close()
