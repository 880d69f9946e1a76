"""Who may steer: the switch, silence, and what a trainer falls back on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from rudder.training.buffer.hot_set import HotSet, hot_set_beside
from rudder.training.control import unix_socket
from rudder.training.control.messages import (
    Heartbeat,
    Intervention,
    SteeringState,
    Subscribe,
    read_message,
    send_command,
    to_line,
)
from rudder.training.control.service import ControlPort
from rudder.training.control.steering import (
    LOOK_EVERY_STEPS,
    CommandHandler,
    MemoryQuota,
    NoCommandHandler,
)
from rudder.training.settings import Applied, Change, Command, FetchTargets
from tests.training.buffer.player import NUM_REMOTE, buffer_of, view_of
from tests.training.control.steered import Trainer, stepping, workload_of
from tests.waiting import WAIT_SECONDS, until

SMALL_CONTROLLER = Path(__file__).parent / "small_controller.py"


def send(trainer: Trainer, change: Change, *, origin: str = "controller") -> Applied:
    command = Command.model_validate(
        {"command_id": uuid.uuid4().hex, "change": change, "origin": origin}
    )
    return send_command(trainer.path, command, WAIT_SECONDS)


@contextmanager
def controller_of(trainer: Trainer) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, str(SMALL_CONTROLLER), str(trainer.path)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_controllers_change_is_applied_while_steering_is_on(tmp_path: Path) -> None:
    with stepping(tmp_path) as trainer:
        answer = send(trainer, Change(capacity_rows=7))
        assert answer.outcome == "applied"
        assert answer.settings.capacity_rows == trainer.settings.capacity_rows == 7


def test_the_hot_set_of_an_earlier_run_is_read_from_beside_the_socket(tmp_path: Path) -> None:
    asked = Change(fetch_targets=FetchTargets(source="hot_set", row_budget=2, while_idle=True))
    with stepping(tmp_path) as trainer:
        refused = send(trainer, asked)
        assert refused.outcome == "refused"
        assert "no hot set of an earlier run" in str(refused.reason)
        nodes = view_of(NUM_REMOTE).to_global(np.array([7, 3, 5]))
        HotSet(nodes, np.ones(3, dtype=np.float32)).save(hot_set_beside(trainer.path))
        assert send(trainer, asked).outcome == "applied"
        assert trainer.policy.fetch(9).targets.tolist() == [7, 3]


def test_the_switch_undoes_a_stopped_controllers_change(tmp_path: Path) -> None:
    with stepping(tmp_path) as trainer, controller_of(trainer) as controller:
        until(lambda: trainer.settings.capacity_rows == 5)
        os.kill(controller.pid, signal.SIGSTOP)
        trainer.off_file.touch()
        until(lambda: trainer.settings.capacity_rows == 100)
        trainer.off_file.unlink()
        until(lambda: send(trainer, Change(capacity_rows=6)).outcome == "applied")
        assert trainer.settings.capacity_rows == 6


def test_a_look_at_the_switch_comes_every_window(tmp_path: Path) -> None:
    policy = buffer_of(100)
    off = tmp_path / "steering-off"
    with ControlPort(tmp_path / "rank0.sock", rank=0) as port:
        quota = MemoryQuota(workload_of())
        steering = CommandHandler(port, policy, rank=0, quota=quota, off_file=off)
        for step in range(5):
            steering.attend(step)
        policy.apply(Change(capacity_rows=5))
        off.touch()
        for step in range(5, LOOK_EVERY_STEPS):
            steering.attend(step)
            assert policy.settings.capacity_rows == 5
        steering.attend(LOOK_EVERY_STEPS)
        assert policy.settings.capacity_rows == 100


def test_while_off_controllers_are_refused_and_users_are_heard(tmp_path: Path) -> None:
    with stepping(tmp_path) as trainer:
        trainer.off_file.parent.mkdir(exist_ok=True)
        trainer.off_file.touch()
        refused = send(trainer, Change(capacity_rows=7))
        assert refused.outcome == "refused"
        assert refused.reason is not None
        assert "switched off" in refused.reason
        assert send(trainer, Change()).outcome == "applied"
        assert send(trainer, Change(capacity_rows=8), origin="user").outcome == "applied"
        assert trainer.settings.capacity_rows == 8


def test_defaults_are_restored_once_and_left_alone_after(tmp_path: Path) -> None:
    with stepping(tmp_path) as trainer:
        send(trainer, Change(capacity_rows=7))
        trainer.off_file.touch()
        until(lambda: trainer.settings.capacity_rows == 100)
        trainer.policy.apply(Change(capacity_rows=9))
        step = trainer.step
        until(lambda: trainer.step > step + 3 * LOOK_EVERY_STEPS)
        assert trainer.settings.capacity_rows == 9


def test_what_a_user_sets_is_what_a_trainer_falls_back_on(tmp_path: Path) -> None:
    with stepping(tmp_path) as trainer:
        send(trainer, Change(capacity_rows=40, lookahead_batches=3), origin="user")
        send(trainer, Change(capacity_rows=7, eviction_threshold=0.5))
        trainer.off_file.touch()
        until(lambda: trainer.settings.capacity_rows == 40)
        assert trainer.settings.lookahead_batches == 3
        assert trainer.settings.eviction_threshold == 1.0


def test_silence_brings_the_defaults_back_once_and_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        stepping(tmp_path, heartbeat_timeout_s=2) as trainer,
        controller_of(trainer) as controller,
    ):
        until(lambda: trainer.settings.capacity_rows == 5)
        time.sleep(2.5)  # its beats keep the change in force
        assert trainer.settings.capacity_rows == 5
        os.kill(controller.pid, signal.SIGSTOP)
        until(lambda: trainer.settings.capacity_rows == 100)
        step = trainer.step
        until(lambda: trainer.step > step + 3 * LOOK_EVERY_STEPS)
        assert capfd.readouterr().err.count("no controller was heard for 2 s") == 1
        assert send(trainer, Change(capacity_rows=6)).outcome == "applied"


def test_without_any_controller_there_is_no_silence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with stepping(tmp_path, heartbeat_timeout_s=0.05) as trainer:
        send(trainer, Change(capacity_rows=7), origin="user")
        time.sleep(0.2)
        assert trainer.settings.capacity_rows == 7
    assert capfd.readouterr().err == ""


def next_state(stream: IO[bytes]) -> SteeringState:
    """The next news of how steering stands, whatever was told between."""
    while not isinstance(message := read_message(stream.readline()), SteeringState):
        assert message is not None
    return message


def test_a_subscriber_is_told_how_steering_stands(tmp_path: Path) -> None:
    with (
        stepping(tmp_path) as trainer,
        unix_socket.connect(trainer.path, timeout_s=WAIT_SECONDS) as client,
        client.makefile("rb") as stream,
    ):
        client.sendall(to_line(Subscribe(subscribe="windows")) + to_line(Heartbeat(heartbeat=1)))
        until(lambda: trainer.port.wants_accesses)
        trainer.off_file.touch()
        state = next_state(stream)
        assert not state.is_on
        assert state.defaults.capacity_rows == 100
        trainer.off_file.unlink()
        state = next_state(stream)
        assert state.is_on
        send(trainer, Change(capacity_rows=40), origin="user")
        state = next_state(stream)
        assert state.defaults.capacity_rows == state.settings.capacity_rows == 40


def test_a_subscriber_is_told_what_was_done_without_it_also_before_it_came(tmp_path: Path) -> None:
    many = Change(fetch_targets=FetchTargets(source="ids", row_budget=3, ids=(1, 2, 3)))
    with stepping(tmp_path) as trainer:
        send(trainer, Change(capacity_rows=40), origin="user")
        with (
            unix_socket.connect(trainer.path, timeout_s=WAIT_SECONDS) as client,
            client.makefile("rb") as stream,
        ):
            client.sendall(to_line(Subscribe(subscribe="windows")))
            until(lambda: trainer.port.wants_accesses)
            send(trainer, many, origin="user")
            found: list[Intervention] = []
            while len(found) < 2:
                message = read_message(stream.readline())
                found += [message] if isinstance(message, Intervention) else []
    assert [(each.agent, each.tool) for each in found] == [("user", "set_buffer")] * 2
    assert found[0].change == Change(capacity_rows=40)
    assert found[0].applied is not None
    assert found[0].applied.settings.capacity_rows == 40
    assert found[1].change.fetch_targets is not None
    assert found[1].change.fetch_targets.ids == ()


def test_a_command_beyond_the_hosts_memory_is_refused(tmp_path: Path) -> None:
    with stepping(tmp_path) as trainer:
        answer = send(trainer, Change(capacity_rows=1001), origin="user")
        assert answer.outcome == "refused"
        assert "0 to 1000" in str(answer.reason)


def test_no_steering_does_nothing() -> None:
    steering = NoCommandHandler()
    steering.attend(3)
    steering.close()


@pytest.mark.parametrize("origin", ["controller", "user"])
def test_nobody_may_have_more_than_the_trainers_share_of_the_memory_budget(
    tmp_path: Path, origin: str
) -> None:
    quota = MemoryQuota(workload_of(trainers_on_host=2), budget_bytes=2 * 120 * 400)
    with Trainer(tmp_path, quota=quota) as trainer:
        answer = send(trainer, Change(capacity_rows=121), origin=origin)
        assert answer.outcome == "refused"
        assert answer.reason is not None
        assert "allowed: 0 to 120" in answer.reason
        assert trainer.settings.capacity_rows == 100
        assert send(trainer, Change(capacity_rows=120), origin=origin).outcome == "applied"


def test_a_trainer_falls_back_to_as_much_of_its_defaults_as_the_budget_holds(
    tmp_path: Path,
) -> None:
    budget = tmp_path / "memory-budget"
    quota = MemoryQuota(workload_of(), budget_file=budget)
    with Trainer(tmp_path, quota=quota) as trainer:
        assert send(trainer, Change(capacity_rows=7)).outcome == "applied"
        budget.write_text(f"{40 * 400}")
        until(lambda: quota.limit_rows == 40)
        trainer.off_file.touch()
        until(lambda: trainer.settings.capacity_rows == 40)
