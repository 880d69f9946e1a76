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
    controller_at,
    controller_command,
    pid_file_of,
    sockets_of_host,
)
from rudder.training.steering_options import SteeringOptions
from tests.training.control.steered import stepping
from tests.training.control.test_steering import SMALL_CONTROLLER
from tests.waiting import WAIT_SECONDS, lives, until

QUICK = RestartBackoff(first=0.02, longest=0.1, restarts=3, settled=5.0, leave=0.3, terminate=0.3)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_it_leaves_by_itself_when_its_trainer_hangs_up(tmp_path: Path) -> None:
    with stepping(tmp_path) as trainer:
        command = [sys.executable, str(SMALL_CONTROLLER), str(trainer.path)]
        pid_file = pid_file_of(trainer.path)
        process = ControllerProcess(
            command,
            log=tmp_path / "c.log",
            pid_files=[pid_file],
            backoff=RestartBackoff(leave=WAIT_SECONDS),
        )
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
    assert time.monotonic() - started < WAIT_SECONDS
    assert not lives(pid)
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
    process._thread.join(WAIT_SECONDS)
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
    assert not lives(pid)
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
    assert not lives(pid)


def test_a_program_that_is_not_there_costs_nothing_but_a_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    process = ControllerProcess([str(tmp_path / "nothing")], log=tmp_path / "c.log", backoff=QUICK)
    process._thread.join(WAIT_SECONDS)
    assert capfd.readouterr().err.count("given up") == 1
    process.close()


def test_the_command_names_trainers_options_and_folder(tmp_path: Path) -> None:
    options = SteeringOptions(planner="heuristic")
    sockets = {rank: tmp_path / f"rank{rank}.sock" for rank in (2, 3)}
    command = controller_command(sockets, options=options, folder=tmp_path)
    assert command[:4] == (sys.executable, "-P", "-m", "rudder.agents.controller")
    two, three = str(sockets[2]), str(sockets[3])
    assert command[4:10] == ("--trainer", "2", two, "--trainer", "3", three)
    values = dict(zip(command[10::2], command[11::2], strict=True))
    assert values["--folder"] == str(tmp_path)
    assert values["--parent"] == str(os.getpid())
    assert SteeringOptions.model_validate_json(values["--options"]) == options


LOCAL = ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "SLURM_PROCID", "SLURM_GTIDS", "WORLD_SIZE")


def torch_says(local_rank: str, local_world_size: str) -> dict[str, str]:
    return {"LOCAL_RANK": local_rank, "LOCAL_WORLD_SIZE": local_world_size}


def srun_says(rank: str, tasks: str) -> dict[str, str]:
    """Of a step with 6 trainers."""
    return {"SLURM_PROCID": rank, "SLURM_GTIDS": tasks, "WORLD_SIZE": "6"}


@pytest.mark.parametrize(
    ("told", "name", "ranks"),
    [
        (torch_says("1", "4"), "rank5.sock", [4, 5, 6, 7]),
        (torch_says("0", "2"), "rank5-3.sock", [5, 6]),
        ({}, "rank5.sock", [5]),
        (torch_says("1", "4"), "mine.sock", [5]),
        (torch_says("6", "4"), "rank5.sock", [5]),
        (torch_says("6", "8"), "rank5.sock", [5]),
        (torch_says("a", "8"), "rank5.sock", [5]),
        (srun_says("5", "4,5"), "rank5.sock", [4, 5]),
        (srun_says("5", "3,5,7"), "rank5.sock", [3, 5]),  # 7 is a server
        (srun_says("0", "0,1"), "rank5.sock", [5]),  # an inherited variable
        ({"SLURM_PROCID": "5"}, "rank5.sock", [5]),
        (srun_says("5", "4,5") | torch_says("0", "1"), "rank5.sock", [5]),
    ],
)
def test_the_first_trainer_of_a_host_starts_the_controller_of_all(
    told: dict[str, str],
    name: str,
    ranks: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in LOCAL:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in told.items():
        monkeypatch.setenv(variable, value)
    sockets = sockets_of_host(tmp_path / name, rank=5)
    assert list(sockets) == ranks
    assert sockets[5] == tmp_path / name
    assert {each.name for each in sockets.values()} == {
        name.replace("rank5", f"rank{rank}") for rank in ranks
    }
    if ranks[0] != 5:
        options = SteeringOptions()
        assert controller_at(tmp_path / name, rank=5, options=options, folder=tmp_path) is None
