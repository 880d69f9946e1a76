"""The controller's process: started, restarted with growing pauses, and ended, whatever it does."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from rudder.training.control.controller_process import (
    NICENESS,
    ControllerProcess,
    RestartBackoff,
    controller_command,
    pid_file_of,
)
from rudder.training.steering_options import SteeringOptions
from tests.training.control.steered import stepping, until
from tests.training.control.test_steering import SMALL_CONTROLLER

QUICK = RestartBackoff(first=0.02, longest=0.1, restarts=3, settled=5.0, leave=0.3, terminate=0.3)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_it_leaves_by_itself_when_its_trainer_hangs_up(tmp_path: Path) -> None:
    with stepping(tmp_path) as trainer:
        command = [sys.executable, str(SMALL_CONTROLLER), str(trainer.path)]
        pid_file = pid_file_of(trainer.path)
        process = ControllerProcess(command, log=tmp_path / "c.log", pid_file=pid_file)
        until(lambda: trainer.settings.capacity_rows == 5)
        pid = process.pid
        assert pid is not None
        assert int(pid_file.read_text()) == pid
        own = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, pid) == min(own + NICENESS, 19)
        environment = psutil.Process(pid).environ()
        assert environment["OMP_NUM_THREADS"] == environment["NUMBA_NUM_THREADS"] == "1"
    started = time.monotonic()
    process.close()
    assert time.monotonic() - started < 4
    assert not is_running(pid)
    assert not pid_file.exists()
    assert (tmp_path / "c.log").read_text() == ""


def test_a_killed_one_is_started_again(tmp_path: Path) -> None:
    with stepping(tmp_path) as trainer:
        command = [sys.executable, str(SMALL_CONTROLLER), str(trainer.path)]
        process = ControllerProcess(command, log=tmp_path / "c.log", backoff=QUICK)
        until(lambda: trainer.settings.capacity_rows == 5)
        first = process.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        until(lambda: process.pid not in (None, first))
        beat = trainer.port.last_heartbeat
        until(lambda: trainer.port.last_heartbeat != beat)
    process.close()


def test_one_that_fails_again_and_again_is_given_up_after_growing_pauses(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "logs" / "c.log"
    command = python("import time; print(time.monotonic(), flush=True); raise SystemExit(3)")
    started = time.monotonic()
    process = ControllerProcess(command, log=log, backoff=QUICK)
    process._thread.join(20)
    assert time.monotonic() - started > 0.02 + 0.04 + 0.08
    assert len(log.read_text().splitlines()) == QUICK.restarts + 1
    said = capfd.readouterr().err
    assert said.count("given up") == 1
    assert str(log) in said
    process.close()


def test_one_that_has_lived_long_is_not_counted_as_failing(tmp_path: Path) -> None:
    log = tmp_path / "c.log"
    backoff = RestartBackoff(first=0.001, longest=0.001, restarts=1, settled=0.0)
    process = ControllerProcess(python("print('again', flush=True)"), log=log, backoff=backoff)
    until(lambda: log.exists() and len(log.read_text().splitlines()) > 4)
    process.close()


@pytest.mark.parametrize(
    "code",
    ["pass", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"],
    ids=["one that stays", "one that ignores SIGTERM"],
)
def test_one_that_does_not_leave_is_ended(tmp_path: Path, code: str) -> None:
    ready = tmp_path / "ready"
    program = f"import signal, time; {code}; open({str(ready)!r}, 'w'); time.sleep(60)"
    process = ControllerProcess(python(program), log=tmp_path / "c.log", backoff=QUICK)
    until(ready.exists)
    pid = process.pid
    assert pid is not None
    process.close()
    assert not is_running(pid)
    process.close()


def test_a_stopped_one_is_ended(tmp_path: Path) -> None:
    process = ControllerProcess(
        python("import time; time.sleep(60)"), log=tmp_path / "c.log", backoff=QUICK
    )
    until(lambda: process.pid is not None)
    pid = process.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    process.close()
    assert not is_running(pid)


def test_a_program_that_is_not_there_costs_nothing_but_a_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    process = ControllerProcess([str(tmp_path / "nothing")], log=tmp_path / "c.log", backoff=QUICK)
    process._thread.join(20)
    assert capfd.readouterr().err.count("given up") == 1
    process.close()


def test_the_command_names_socket_rank_options_and_folder(tmp_path: Path) -> None:
    options = SteeringOptions(planner="heuristic")
    command = controller_command(tmp_path / "s", rank=2, options=options, folder=tmp_path)
    assert command[:4] == (sys.executable, "-P", "-m", "rudder.agents.controller")
    values = dict(zip(command[4::2], command[5::2], strict=True))
    assert values["--socket"] == str(tmp_path / "s")
    assert values["--rank"] == "2"
    assert values["--folder"] == str(tmp_path)
    assert SteeringOptions.model_validate_json(values["--options"]) == options
