"""`rudder steer`, on a folder with a real port in it."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rudder.agents.controller.report import SteeringReport, write_report
from rudder.cli.commands.steer import app
from rudder.memory.run.run_reader import run_file
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.training.control.controller_process import pid_file_of
from rudder.training.control.door import rank_of_socket
from rudder.training.control.steering import OBJECTIVE_FILE, HostSetting, read_objective
from rudder.training.errors import ConfigError, RudderError
from rudder.training.settings import Change
from tests.training.control.steered import stepping, workload_of
from tests.waiting import until


def steer(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_off_and_on_are_obeyed_by_a_trainer(tmp_path: Path) -> None:
    with stepping(tmp_path) as trainer:
        trainer.policy.apply(Change(capacity_rows=5))
        assert steer("off", "--run", str(tmp_path)).exit_code == 0
        until(lambda: trainer.settings.capacity_rows == 100)
        assert "steering is off" in steer("status", "--run", str(tmp_path)).output
        assert steer("on", "--run", str(tmp_path)).exit_code == 0
        assert not trainer.off_file.exists()
        assert steer("on", "--run", str(tmp_path)).exit_code == 0


def test_status_shows_what_is_in_force_and_who_steers(tmp_path: Path) -> None:
    with stepping(tmp_path) as trainer:
        output = steer("status", "--run", str(tmp_path)).output
        assert "steering is on" in output
        assert "capacity 100 rows" in output
        assert "no controller" in output
        pid_file_of(trainer.path).write_text(f"{os.getpid()}\n")
        assert f"controller {os.getpid()}" in steer("status", "--run", str(tmp_path)).output


def test_status_tells_that_memory_is_given_back_and_why(tmp_path: Path) -> None:
    why = "the host runs short of memory: 10 MiB of memory are left of 1,000 MiB"
    with stepping(tmp_path) as trainer:
        report = SteeringReport(rank=rank_of_socket(trainer.path), planner="embedded", shortage=why)
        write_report(report, tmp_path)
        pid_file_of(trainer.path).write_text(f"{os.getpid()}\n")
        output = steer("status", "--run", str(tmp_path)).output
        told = json.loads(steer("status", "--run", str(tmp_path), "--json").output)
    assert f"controller {os.getpid()} (watching, gives memory back: {why})" in output
    assert told["trainers"][0]["shortage"] == why


def test_a_budget_is_left_where_controllers_read_it(tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    assert steer("budget", "--run", str(tmp_path), "512MiB").exit_code == 0
    assert (tmp_path / "control" / "memory-budget").read_text() == f"{512 * 2**20}\n"
    assert [file.name for file in (tmp_path / "control").iterdir()] == ["memory-budget"]


def test_a_trainer_may_have_a_socket_for_each_of_its_loaders_as_in_a_benchmark(
    tmp_path: Path,
) -> None:
    with stepping(tmp_path) as trainer, socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(trainer.path.with_name("rank3-1.sock")))
        assert steer("budget", "--run", str(tmp_path), "512MiB").exit_code == 0
        told = json.loads(steer("status", "--run", str(tmp_path), "--json").output)
    assert {(each["rank"], each["listens"]) for each in told["trainers"]} == {(3, True), (3, False)}


def test_an_objective_is_left_where_controllers_read_it(tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    assert steer("objective", "--run", str(tmp_path), "traffic").exit_code == 0
    assert read_objective(tmp_path / "control" / OBJECTIVE_FILE, "time") == "traffic"
    refused = steer("objective", "--run", str(tmp_path), "money")
    assert refused.exit_code == 2
    assert "Invalid value for 'aim': 'money' is not one of" in refused.stderr


def test_status_tells_what_a_person_or_the_schedule_has_changed(tmp_path: Path) -> None:
    with stepping(tmp_path):
        assert "objective" not in steer("status", "--run", str(tmp_path)).output
        (tmp_path / "control" / OBJECTIVE_FILE).write_text(str(HostSetting("memory", "schedule")))
        assert steer("budget", "--run", str(tmp_path), "512MiB").exit_code == 0
        output = steer("status", "--run", str(tmp_path)).output
        told = json.loads(steer("status", "--run", str(tmp_path), "--json").output)
    assert "\nobjective: memory, set by the schedule\n" in output
    assert "\nmemory budget: 512.0 MiB, set by a person\n" in output
    assert told["changed"]["memory_budget"] == {"value": str(512 * 2**20), "by": "user"}
    assert told["changed"]["objective"] == {"value": "memory", "by": "schedule"}


def test_a_budget_that_leaves_no_buffer_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    journal = SqliteJournal.open(run_file(tmp_path, rank=0), memory=None)
    journal.begin(workload_of(trainers_on_host=2))
    enough = steer("budget", "--run", str(tmp_path), "800")
    assert enough.stderr == ""
    short = steer("budget", "--run", str(tmp_path), "799")
    journal.close()
    assert short.exit_code == 0
    assert "2 trainers share the budget; give 800 bytes or more" in short.stderr


@pytest.mark.parametrize("size", ["lots", "-5", "1.5"])
def test_a_budget_that_is_no_number_of_bytes_is_refused(tmp_path: Path, size: str) -> None:
    (tmp_path / "control").mkdir()
    result = steer("budget", "--run", str(tmp_path), "--", size)
    assert isinstance(result.exception, ConfigError)
    assert list((tmp_path / "control").iterdir()) == []


@pytest.mark.parametrize("what", ["on", "off", "status"])
def test_a_run_that_crashed_is_over(tmp_path: Path, what: str) -> None:
    (tmp_path / "control").mkdir()
    for rank in range(2):
        with socket.socket(socket.AF_UNIX) as crashed:
            crashed.bind(str(tmp_path / "control" / f"rank{rank}.sock"))
            crashed.listen()
    error = steer(what, "--run", str(tmp_path)).exception
    assert isinstance(error, ConfigError)
    assert "(rank0, rank1) listens on this machine: they run elsewhere, crashed" in str(error)
    assert "rm " not in str(error)
    assert f"rudder audit list {tmp_path}" in error.remedy
    assert not (tmp_path / "control" / "steering-off").exists()


def test_status_names_the_trainer_that_is_gone_beside_one_that_is_not(tmp_path: Path) -> None:
    with stepping(tmp_path), socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(tmp_path / "control" / "rank1.sock"))
        output = steer("status", "--run", str(tmp_path)).output
    assert "rank 1: no trainer listens" in output
    assert "capacity 100 rows" in output


@pytest.mark.parametrize("what", ["on", "off", "status"])
def test_a_run_that_is_over_is_named(tmp_path: Path, what: str) -> None:
    result = steer(what, "--run", str(tmp_path))
    assert isinstance(result.exception, RudderError)
    assert "not a run that is training now" in str(result.exception)


@pytest.mark.parametrize("what", ["on", "status"])
def test_a_run_whose_sockets_are_on_another_machine_is_not_called_over(
    tmp_path: Path, what: str
) -> None:
    (tmp_path / "control").symlink_to("/tmp/rudder-of-another-machine/control")
    error = steer(what, "--run", str(tmp_path)).exception
    assert isinstance(error, ConfigError)
    assert "/tmp/rudder-of-another-machine/control, which this machine does not have" in str(error)
    assert "on the machine of the trainer" in error.remedy
