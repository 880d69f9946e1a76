"""A run in the background: it is told of once, lives on alone, and is waited for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.waiting import RUN_SECONDS, lives

RUDDER = Path(sys.executable).parent / "rudder"


def rudder(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(RUDDER), *map(str, arguments)]
    # Returns once nobody has its output open any more, the background process included.
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=RUN_SECONDS)


@pytest.mark.distributed
def test_a_detached_run_is_told_of_when_it_trains_stopped_and_waited_for(
    tiny_parts: Path, tmp_path: Path
) -> None:
    done = rudder(
        "train", "--data", tiny_parts, "--epochs", 100_000, "--eval-every", 10_000, "--memory",
        "none", "--run-dir", "run", "--batch-size", 64, "--detach", folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert (told["state"], told["run"], told["trainers"]) == ("training", str(tmp_path / "run"), 2)
    launcher = psutil.Process(told["pid"])
    assert os.getsid(launcher.pid) == launcher.pid
    assert rudder("runs", "wait", "run", "--timeout", 1, folder=tmp_path).returncode == 124
    (listed,) = json.loads(
        rudder("runs", "list", "--folder", ".", "--json", folder=tmp_path).stdout
    )
    assert listed["state"] == "live"
    os.kill(launcher.pid, signal.SIGTERM)
    ended = rudder("runs", "wait", "run", folder=tmp_path)
    assert ended.returncode == 75
    assert json.loads(ended.stdout)["state"] == "cut short"
    assert not lives(launcher)
    log = (tmp_path / "run" / "train.log").read_text()
    assert "by SIGTERM" in log
    assert "\x1b" not in log


def test_a_run_that_does_not_start_ends_the_command_with_its_error(tmp_path: Path) -> None:
    done = rudder("train", "--data", "nowhere", "--detach", folder=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error", "  what to do"]
