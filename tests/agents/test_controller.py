"""A controller at a real door: what it settles when it comes back, and what it writes down."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rudder.agents.controller import Controller
from rudder.agents.link import Link
from rudder.memory.records import Episode
from rudder.memory.run_file import run_file
from rudder.memory.run_reader import RunReader
from rudder.memory.sample import sample_entries, sample_episode, sample_workload
from rudder.memory.sqlite_journal import SqliteJournal
from rudder.training.control.port import ControlPort
from rudder.training.control.steering import OFF_FILE, Steering
from rudder.training.settings import Change
from rudder.training.steering_options import SteeringOptions
from tests.training.buffer.player import buffer_of
from tests.training.control.doors import until

ROWS = 10_000


class Trainer:
    """A door with a workload, attended to all the time; counts what is applied to its buffer."""

    def __init__(self, folder: Path) -> None:
        self.workload = sample_workload()
        self.folder, self.path = folder, folder / "control" / "rank0.sock"
        self.policy = buffer_of(ROWS)
        self.num_applied = 0
        self._apply = self.policy.apply
        self.policy.apply = self._counted  # type: ignore[method-assign]
        self.door = ControlPort(self.path, rank=0, workload=self.workload)
        self._steering = Steering(
            self.door,
            self.policy,
            rank=0,
            max_buffer_rows=40_000,
            off_file=self.path.parent / OFF_FILE,
        )
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _counted(self, change: Change) -> None:
        self.num_applied += 1
        self._apply(change)

    def _run(self) -> None:
        step = 0
        while not self._done.is_set():
            self._steering.attend(step)
            step += 1
            time.sleep(0.001)

    def __enter__(self) -> Trainer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        self._steering.close()


@contextmanager
def controller_of(trainer: Trainer) -> Iterator[None]:
    """A controller in a thread of its own, until it is cancelled, as a killed one ends."""
    loop = asyncio.new_event_loop()

    async def control() -> None:
        link = await Link.open(trainer.path)
        controller = Controller(
            link, options=SteeringOptions(), folder=trainer.folder, socket=trainer.path
        )
        await controller.run()

    task = loop.create_task(control())

    def run() -> None:
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            pass
        finally:
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
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


def test_a_controller_that_comes_back_undoes_what_was_on_trial_at_once(tmp_path: Path) -> None:
    with Trainer(tmp_path) as trainer:
        episode = left_open(trainer)
        assert trainer.policy.settings != episode.observation.settings
        started = time.monotonic()
        with controller_of(trainer):
            until(lambda: trainer.policy.settings == episode.observation.settings)
            assert time.monotonic() - started < 5
    with RunReader(run_file(tmp_path, rank=0)) as reader:
        closed = reader.episode(episode.episode_id)
        assert closed is not None
        assert closed.outcome is not None
        assert closed.outcome.result == "abandoned"
