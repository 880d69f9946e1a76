"""A controller at a real port: what it settles when it comes back, and what it writes down."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

from rudder.agents.controller.__main__ import Controller, control
from rudder.agents.controller.link import TrainerLink
from rudder.agents.controller.report import read_report, read_reports
from rudder.memory.records import Episode
from rudder.memory.run.audit import AuditFilter, AuditRow
from rudder.memory.run.run_reader import RunReader, run_file
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.memory.sample import sample_entries, sample_episode, sample_workload
from rudder.training.control.messages import Message, send_command
from rudder.training.control.steering import HEARTBEAT_TIMEOUT_S, OFF_FILE
from rudder.training.errors import DataError
from rudder.training.settings import Applied, Change, Command
from rudder.training.steering_options import SteeringOptions
from tests.training.control import steered
from tests.waiting import WAIT_SECONDS, until

ROWS = 10_000


class Trainer(steered.Trainer):
    """A port with a workload, attended to all the time; counts what is applied to its buffer."""

    def __init__(self, folder: Path, *, rank: int = 0) -> None:
        self.workload = sample_workload(rank=rank)
        super().__init__(
            folder,
            heartbeat_timeout_s=HEARTBEAT_TIMEOUT_S,
            rank=rank,
            rows=ROWS,
            workload=self.workload,
        )
        self.folder = folder
        self.num_applied = 0
        self._apply = self.policy.apply
        self.policy.apply = self._counted  # type: ignore[method-assign]

    def _counted(self, change: Change) -> None:
        self.num_applied += 1
        self._apply(change)

    def command(self, change: Change, *, origin: Literal["user", "controller"] = "user") -> Applied:
        command = Command(command_id=uuid.uuid4().hex, change=change, origin=origin)
        return send_command(self.path, command, WAIT_SECONDS)

    def log(self, *, agent: str | None = None) -> list[AuditRow]:
        """Rows written so far; of one agent, or all."""
        with RunReader(run_file(self.folder, rank=self.workload.rank)) as reader:
            assert reader.verify().holds
            return reader.audit(AuditFilter(agent=agent))

    def says(self, *tools: str) -> bool:
        """Whether the log has just these rows that somebody else than the controller caused."""
        try:
            found = [row for row in self.log() if row.agent in ("user", "trainer")]
        except DataError:  # it is being made
            return False
        return [row.tool for row in found] == list(tools)


@contextmanager
def controller_of(trainer: Trainer) -> Iterator[None]:
    """A controller in a thread of its own, until its trainer no longer needs it."""
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = []

    async def control() -> None:
        link = await TrainerLink.open(trainer.path)
        controller = Controller(
            link, options=SteeringOptions(), folder=trainer.folder, socket=trainer.path
        )
        task = asyncio.ensure_future(controller.run())
        running.append((asyncio.get_running_loop(), task))
        await asyncio.wait([task])

    thread = threading.Thread(target=asyncio.run, args=(control(),))
    thread.start()
    until(lambda: bool(running))
    try:
        yield
    finally:
        loop, task = running[0]
        loop.call_soon_threadsafe(task.cancel)
        thread.join()


def left_open(trainer: Trainer) -> Episode:
    """What a killed controller left: a change on trial, in the file and in the trainer."""
    whole = sample_episode(1, workload=trainer.workload)
    before = trainer.policy.settings
    assert whole.applied is not None
    trainer.policy.apply(whole.plan.change)
    episode = whole.model_copy(
        update={
            "observation": whole.observation.model_copy(update={"settings": before}),
            "applied": whole.applied.model_copy(update={"settings": trainer.policy.settings}),
            "outcome": None,
        }
    )
    journal = SqliteJournal.open(run_file(trainer.folder, rank=0), memory=None)
    journal.begin(trainer.workload)
    for entry in sample_entries(episode):
        journal.log(entry)
    journal.save(episode)
    journal.close()
    return episode


def result_of(trainer: Trainer, episode: Episode) -> str | None:
    with RunReader(run_file(trainer.folder, rank=0)) as reader:
        found = reader.episode(episode.episode_id)
    assert found is not None
    return found.outcome.result if found.outcome is not None else None


def test_a_controller_that_comes_back_undoes_what_was_on_trial_at_once(tmp_path: Path) -> None:
    with Trainer(tmp_path) as trainer:
        episode = left_open(trainer)
        assert trainer.policy.settings != episode.observation.settings
        started = time.monotonic()
        with controller_of(trainer):
            until(lambda: result_of(trainer, episode) == "abandoned")
            assert time.monotonic() - started < HEARTBEAT_TIMEOUT_S  # else the trainer would
            assert trainer.policy.settings == episode.observation.settings


def test_what_a_user_does_is_in_the_log_with_what_became_of_it(tmp_path: Path) -> None:
    with Trainer(tmp_path) as trainer, controller_of(trainer):
        trainer.command(Change(capacity_rows=500))
        trainer.command(Change(capacity_rows=10**9))
        trainer.command(Change())
        until(lambda: trainer.says("set_buffer", "set_buffer"))
        (tmp_path / "control" / OFF_FILE).touch()
        until(lambda: trainer.says("set_buffer", "set_buffer", "steer_off"))
        (tmp_path / "control" / OFF_FILE).unlink()
        until(lambda: trainer.says("set_buffer", "set_buffer", "steer_off", "steer_on"))
    applied, refused, *_ = trainer.log(agent="user")
    assert (applied.outcome, refused.outcome) == ("applied", "refused")
    assert applied.arguments == '{"capacity_rows":500}'
    assert applied.result is not None
    assert Applied.model_validate_json(applied.result).settings.capacity_rows == 500
    assert trainer.num_applied == 1


def test_a_trainer_that_falls_back_is_in_the_log(tmp_path: Path) -> None:
    with Trainer(tmp_path) as trainer, controller_of(trainer):
        until(lambda: trainer.says())
        trainer.command(Change(capacity_rows=700), origin="controller")
        (tmp_path / "control" / OFF_FILE).touch()
        until(lambda: trainer.says("steer_off", "fall_back"))
        (row,) = trainer.log(agent="trainer")
    assert row.result is not None
    found = Applied.model_validate_json(row.result)
    assert (row.outcome, found.settings.capacity_rows) == ("applied", ROWS)
    assert "switched off" in str(found.reason)


def test_what_was_done_while_no_controller_lived_is_written_once_by_the_next(
    tmp_path: Path,
) -> None:
    with Trainer(tmp_path) as trainer:
        with controller_of(trainer):
            trainer.command(Change(capacity_rows=500))
            until(lambda: trainer.says("set_buffer"))
        trainer.command(Change(capacity_rows=400))
        trainer.command(Change(capacity_rows=300), origin="controller")  # killed before it wrote
        with controller_of(trainer):
            until(lambda: trainer.says("set_buffer", "set_buffer", "apply_change"))
        with controller_of(trainer):
            trainer.command(Change(capacity_rows=200))
            until(lambda: trainer.says("set_buffer", "set_buffer", "apply_change", "set_buffer"))
        rows = trainer.log()
        assert trainer.num_applied == sum(row.outcome == "applied" for row in rows) == 4


class FaultyLink(TrainerLink):
    """Has a fault of ours after the first message."""

    async def messages(self) -> AsyncIterator[Message]:
        async for message in super().messages():
            yield message
            raise KeyError("a fault of ours")


def test_what_ends_a_controller_is_in_its_record_with_its_traceback(tmp_path: Path) -> None:
    async def control(trainer: Trainer) -> None:
        link = await FaultyLink.open(trainer.path)
        options = SteeringOptions()
        await Controller(link, options=options, folder=tmp_path, socket=trainer.path).run()

    with Trainer(tmp_path) as trainer:
        with pytest.raises(KeyError):
            asyncio.run(control(trainer))
        (row,) = [row for row in trainer.log() if row.tool == "decide"]
    assert row.error_type == "KeyError"
    assert "in messages" in str(row.result)


def test_one_controller_serves_all_trainers_of_a_host_until_the_last_hangs_up(
    tmp_path: Path,
) -> None:
    sockets = {rank: tmp_path / "control" / f"rank{rank}.sock" for rank in (0, 1)}
    serving = control(sockets, options=SteeringOptions(), folder=tmp_path)
    thread = threading.Thread(target=asyncio.run, args=(serving,))
    with Trainer(tmp_path, rank=1) as last:
        with Trainer(tmp_path, rank=0) as first:
            thread.start()
            until(lambda: first.says() and last.says())
            until(lambda: all(read_report(tmp_path, rank) is not None for rank in (0, 1)))
        assert thread.is_alive()
        last.command(Change(capacity_rows=500))
        until(lambda: last.says("set_buffer"))
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive()
    parts = [report.peak_rss_bytes for report in read_reports(tmp_path)]
    assert 0 < sum(parts) < resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + 1


def test_a_trainer_whose_controller_failed_is_served_again_beside_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rudder.agents.controller.link.OPEN_TIMEOUT_S", 0)
    monkeypatch.setattr("rudder.agents.controller.__main__.PAUSE_S", 0.5)
    sockets = {rank: tmp_path / "control" / f"rank{rank}.sock" for rank in (0, 1)}
    serving = control(sockets, options=SteeringOptions(), folder=tmp_path)
    thread = threading.Thread(target=asyncio.run, args=(serving,))
    with Trainer(tmp_path, rank=0) as first:
        thread.start()
        until(first.says)
        with Trainer(tmp_path, rank=1) as second:
            until(second.says)
    thread.join(WAIT_SECONDS)
    assert "the controller of rank1 failed and begins again: no trainer listens" in (
        capfd.readouterr().err
    )


def test_a_controller_has_no_pandas_in_its_memory_unless_a_planner_needs_it() -> None:
    code = (
        "import sys\n"
        "from rudder.agents.controller.__main__ import _without_pandas\n"
        "with _without_pandas():\n"
        "    import rudder.agents.controller.session\n"
        "assert 'sqlite_utils' in sys.modules\n"
        "assert 'pandas' not in sys.modules\n"
        "import pandas\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
