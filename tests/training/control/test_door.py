"""The control folder of a run, reached through the launcher's door."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from rudder.memory.run.run_folder import StoredRun
from rudder.training.control.door import DOOR_FILE, Door, RemoteControl, control_of
from rudder.training.control.messages import send_command
from rudder.training.control.steering import OFF_FILE
from rudder.training.errors import ConfigError, RunError
from rudder.training.settings import Change, Command
from tests.training.control.steered import Trainer, stepping


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    """A run's folder as another machine sees it: the sockets are elsewhere."""
    with Door(tmp_path, control=tmp_path / "control", addresses=["127.0.0.1"], hosts=["node1"]):
        seen = tmp_path / "seen"
        seen.mkdir()
        (seen / DOOR_FILE).write_text((tmp_path / DOOR_FILE).read_text())
        yield seen


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[Trainer]:
    with stepping(tmp_path) as trainer:
        yield trainer


def test_trainer_is_reached_through_the_door(run: Path, trainer: Trainer) -> None:
    control = control_of(run)
    (socket,) = control.sockets()
    command = Command(command_id="one", change=Change(capacity_rows=5))
    applied = send_command(socket, command, 10.0, connect=control.connect)
    assert (applied.outcome, applied.settings.capacity_rows) == ("applied", 5)


def test_switches_are_written_and_removed_through_the_door(run: Path, trainer: Trainer) -> None:
    control = control_of(run)
    control.write(OFF_FILE, "")
    assert trainer.off_file.exists()
    assert control.read(OFF_FILE) == ""
    control.remove(OFF_FILE)
    assert control.read(OFF_FILE) is None
    assert not trainer.off_file.exists()


def test_door_leads_to_nothing_outside_the_folder(run: Path, trainer: Trainer) -> None:
    assert control_of(run).read(f"../{DOOR_FILE}") is None


def test_nobody_gets_in_without_the_token(run: Path, trainer: Trainer) -> None:
    place = json.loads((run / DOOR_FILE).read_text())
    (run / DOOR_FILE).write_text(json.dumps(place | {"token": "guessed"}))
    with pytest.raises(RunError, match="cannot be reached"):
        control_of(run).sockets()


def test_launcher_that_has_gone_is_named(run: Path) -> None:
    place = json.loads((run / DOOR_FILE).read_text())
    (run / DOOR_FILE).write_text(json.dumps(place | {"port": 1, "machine": "node7"}))
    with pytest.raises(RunError, match="on node7 cannot be reached"):
        control_of(run).sockets()


def test_address_that_no_machine_can_have_is_named(run: Path) -> None:
    place = json.loads((run / DOOR_FILE).read_text())
    (run / DOOR_FILE).write_text(json.dumps(place | {"addresses": ["a" * 70]}))
    with pytest.raises(RunError, match="cannot be reached"):
        control_of(run).sockets()
    (run / DOOR_FILE).write_text(json.dumps(place | {"port": 65_536}))
    with pytest.raises(ConfigError, match="less than or equal to 65535"):
        control_of(run)


def test_a_run_is_live_as_long_as_its_launcher_answers(run: Path) -> None:
    (run / "config.toml").write_text("")
    assert StoredRun(run).state == "live"  # no trainer listens here
    place = json.loads((run / DOOR_FILE).read_text())
    (run / DOOR_FILE).write_text(json.dumps(place | {"port": 1}))
    assert StoredRun(run).state == "cut short"


def test_only_the_user_may_read_the_token_and_it_goes_with_the_run(tmp_path: Path) -> None:
    with Door(tmp_path, control=tmp_path / "control", addresses=["127.0.0.1"], hosts=[]):
        assert (tmp_path / DOOR_FILE).stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / DOOR_FILE).exists()


def test_file_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / DOOR_FILE).write_text("{}")
    with pytest.raises(ConfigError, match="same version"):
        control_of(tmp_path)


def test_folder_of_this_machine_is_used_as_it_is(tmp_path: Path, trainer: Trainer) -> None:
    with Door(tmp_path, control=tmp_path / "control", addresses=["127.0.0.1"], hosts=["node1"]):
        control = control_of(tmp_path)
        assert not isinstance(control, RemoteControl)
        assert control.hosts == ("node1",)
        assert len(control.sockets()) == 1
