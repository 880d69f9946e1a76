"""The loader's thread under every order of events that a seed can force: see interleaving.py."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from rudder.training.control.steering import NoCommandHandler
from rudder.training.errors import ConfigError, RunError
from rudder.training.loading import loader_thread
from rudder.training.loading.batch import Batch, StepAccounts
from rudder.training.loading.loader_thread import LoaderThread
from rudder.training.loading.pipeline import Pipeline
from rudder.training.loading.seed_order import SeedBatch
from rudder.training.metrics import RowCounts, Seconds
from rudder.training.settings import BufferSettings
from tests.training.loading.interleaving import Turns

SEEDS = range(150)
READY = 2
_FETCH = SeedBatch(np.empty(0, dtype=np.int64), draw_key=0)


class ScriptedPipeline:
    """Each batch asks one question, and so do a few fetches while nothing else is to be done; every
    call that DGL's RPC would be used in is a point.

    While `is_paused` is set by the test, no such call may be under way.
    """

    def __init__(self, turns: Turns | None = None, *, fails_at: int | None = None) -> None:
        self._point = turns.point if turns else lambda: None
        self._fails_at = fails_at
        self._seeds: deque[SeedBatch] = deque()
        self._asked: deque[SeedBatch] = deque()
        self._answered: deque[SeedBatch] = deque()
        self._num_fetches = 4
        self.is_paused = False
        self.is_inside = False
        self.policy = SimpleNamespace(
            settings=BufferSettings(capacity_rows=1, lookahead_batches=2), num_buffered=0
        )
        self.waiting_bytes = 0

    @property
    def next_planned(self) -> int:
        self._point()
        return 0

    @property
    def is_empty(self) -> bool:
        return not (self._seeds or self._asked or self._answered)

    @property
    def has_open_questions(self) -> bool:
        return bool(self._asked)

    def add(self, batches: Iterable[SeedBatch]) -> None:
        self._seeds.extend(batches)

    def work(self, *, room: bool, hand_over: Callable[[Batch], None]) -> bool:
        with self._rpc():
            if room and self._answered:
                hand_over(batch_of(int(self._answered.popleft().seeds[0])))
            elif self._seeds and len(self._asked) < 2:
                if self._seeds[0].seeds[0] == self._fails_at:
                    raise RunError("the server is gone", remedy="look at its log")
                self._asked.append(self._seeds.popleft())
            else:
                return False
            return True

    def fetch_idle(self) -> bool:
        if self.has_open_questions or not self._num_fetches:
            return False
        with self._rpc():
            self._num_fetches -= 1
            self._asked.append(_FETCH)
        return True

    def receive(self, timeout_ms: int, *, give_up_s: float) -> None:
        with self._rpc():
            answered = self._asked.popleft()
            if answered is not _FETCH:
                self._answered.append(answered)

    def drop_all(self) -> None:
        with self._rpc():
            for stage in (self._seeds, self._asked, self._answered):
                stage.clear()

    @contextmanager
    def _rpc(self) -> Iterator[None]:
        assert not self.is_paused
        self.is_inside = True
        self._point()
        yield
        self._point()
        assert not self.is_paused
        self.is_inside = False


def thread_of(pipeline: ScriptedPipeline) -> LoaderThread:
    return LoaderThread(
        cast("Pipeline", pipeline), ready=READY, steering=NoCommandHandler(), timeout_s=1.0
    )


def batch_of(number: int) -> Batch:
    none, accounts = torch.empty(0), StepAccounts(RowCounts(), Seconds())
    return Batch(number=number, input_nodes=none, seeds=none, blocks=[], accounts=accounts)


def batches(first: int, count: int) -> list[SeedBatch]:
    return [
        SeedBatch(np.array([number]), draw_key=number) for number in range(first, first + count)
    ]


class Script:
    """A trainer and its loader, with what it has been promised."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.pipeline = ScriptedPipeline(turns)
        self.thread = thread_of(self.pipeline)
        self.due: deque[int] = deque()
        self._next = 0

    def add(self) -> None:
        count = self.turns.random.randint(1, 4)
        self.thread.add(batches(self._next, count))
        self.due.extend(range(self._next, self._next + count))
        self._next += count

    def take(self) -> None:
        if self.due:
            assert self.thread.take().number == self.due.popleft()

    def pause(self) -> None:
        self.thread.pause()
        assert not self.pipeline.is_inside
        assert not self.pipeline.has_open_questions
        self.pipeline.is_paused = True
        for _ in range(self.turns.random.randint(0, 10)):
            self.turns.point()
        if self.turns.random.random() < 0.3:
            self.add()  # for the epoch to come
        self.pipeline.is_paused = False
        self.thread.resume()

    def drop(self) -> None:
        self.thread.drop_all()
        self.due.clear()

    def run(self) -> None:
        for _ in range(20):
            self.turns.random.choice([self.add, self.add, self.take, self.pause, self.drop])()
        while self.due:
            self.take()


@pytest.mark.parametrize("seed", SEEDS)
def test_batches_come_in_order_and_a_pause_means_no_rpc(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = Turns(seed)
    monkeypatch.setattr(loader_thread, "threading", turns.threading)
    script = Script(turns)
    script.run()
    script.thread.stop()
    assert script.thread._error is None


# -- closed and failed loaders: nothing waits for ever ----------------------------------


def failing(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> ScriptedPipeline:
    monkeypatch.setattr(loader_thread, "threading", turns.threading)
    return ScriptedPipeline(turns, fails_at=1)


@pytest.mark.parametrize("num_ready", [0, 1])
def test_a_closed_loader_gives_no_batch_and_takes_no_seeds(
    num_ready: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = Turns(0)
    thread = thread_of(failing(turns, monkeypatch))
    thread.add(batches(0, num_ready))
    while thread.num_ready < num_ready:
        turns.point()
    thread.stop()
    with pytest.raises(ConfigError, match=r"this loader is closed[\s\S]*close\(\) after the last"):
        thread.take()
    with pytest.raises(ConfigError, match="closed"):
        thread.add(batches(1, 1))


@pytest.mark.parametrize("seed", range(20))
def test_a_trainer_that_waits_for_a_batch_is_told_when_the_loader_is_closed(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = Turns(seed)
    thread = thread_of(failing(turns, monkeypatch))
    told = []

    def wait() -> None:
        try:
            thread.take()
        except ConfigError as error:
            told.append(error)

    waiting = turns.start(wait)
    thread.stop()
    waiting.join()
    assert len(told) == 1


def test_a_closed_loader_may_be_paused_left_and_closed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    thread = thread_of(failing(Turns(0), monkeypatch))
    thread.stop()
    thread.pause()
    thread.resume()
    thread.drop_all()
    thread.stop()


@pytest.mark.parametrize("seed", range(20))
def test_a_failed_thread_gives_what_it_has_made_and_then_its_error(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = thread_of(failing(Turns(seed), monkeypatch))
    thread.add(batches(0, 2))
    with contextlib.suppress(RunError):
        thread.take()  # the first batch, where it was made before the second one failed
    for use in (thread.take, thread.pause, lambda: thread.add(batches(2, 1))):
        with pytest.raises(RunError, match="the server is gone"):
            use()
    thread.drop_all()
    thread.stop()


def test_a_loop_that_is_collected_by_the_loaders_own_thread_does_not_wait_for_itself() -> None:
    pipeline = ScriptedPipeline()
    thread = thread_of(pipeline)
    dropped = threading.Event()

    def work(**_: object) -> bool:
        thread.drop_all()
        dropped.set()
        return False

    pipeline.work = work  # type: ignore[method-assign]
    assert dropped.wait(10)
    thread.stop()
