"""The thread that runs a pipeline, and the queue between it and the trainer."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rudder.training.control.steering import CommandHandler, NoCommandHandler
from rudder.training.errors import ConfigError
from rudder.training.loading.batch import Batch
from rudder.training.loading.pipeline import Pipeline
from rudder.training.loading.row_stages import ReadRows
from rudder.training.loading.seed_order import SeedBatch
from rudder.training.loading.tensors import GraphTensor
from rudder.training.metrics import Seconds
from rudder.training.settings import BufferSettings

_NAP_S = 0.1
"""Longest sleep of a thread with nothing to do, before it looks for commands."""
_SHORT_RECEIVE_MS = 1
"""While batches wait: a thread that waits for answers does not notice when one is taken."""
_LONG_RECEIVE_MS = 50


class InForce(NamedTuple):
    """Settings, and the number of the first batch that is looked up under them."""

    settings: BufferSettings
    since: int


class LoaderThread:
    """Runs a pipeline in a thread of its own.

    While it is quiet, no request is open, and none is made until `_is_quiet` is False again: it
    becomes so under the lock, and never while a pause lasts.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        ready: int,
        steering: CommandHandler | NoCommandHandler,
        timeout_s: float,
    ) -> None:
        """ready: batches that may wait for the trainer; timeout_s: of a server's answer."""
        self._pipeline = pipeline
        self._ready: deque[Batch] = deque()
        self._max_ready = ready
        self._steering = steering
        self._timeout_s = timeout_s
        self._changed = threading.Condition()
        self._new_seeds: deque[SeedBatch] = deque()
        self._num_pauses = 0
        self._is_quiet = False
        self._drop_wanted = False
        self._is_closed = False
        self._is_over = False
        self._error: BaseException | None = None
        self._then: Callable[[], None] | None = None
        self.max_waiting_bytes = 0
        self.in_force = InForce(pipeline.policy.settings, pipeline.next_planned)
        self._thread = threading.Thread(target=self._run, name="rudder-loader", daemon=True)
        self._thread.start()

    # -- the trainer's side -------------------------------------------------------------

    @property
    def num_ready(self) -> int:
        """Batches ready for the trainer."""
        return len(self._ready)

    @property
    def settings(self) -> BufferSettings:
        """The buffer settings in force."""
        return self.in_force.settings

    def add(self, batches: Sequence[SeedBatch]) -> None:
        """Queue batches of seeds, once those before them are given up; raises what `take` does."""
        with self._changed:
            self._changed.notify_all()
            while self._drop_wanted and not self._is_over:
                self._changed.wait(_NAP_S)
            self._check()
            self._new_seeds.extend(batches)
            self._changed.notify_all()

    def take(self) -> Batch:
        """Wait for the next batch; the wait is in its accounts.

        Raises ConfigError after `stop`, and the thread's own error once its batches are used up.
        """
        started = time.perf_counter()
        with self._changed:
            while not self._ready:
                self._check()
                self._changed.wait(_NAP_S)
            batch = self._ready.popleft()
            self._changed.notify_all()
        batch.accounts.seconds += Seconds(exposed_wait=time.perf_counter() - started)
        return batch

    def pause(self) -> None:
        """Return once no request is open; until `resume` the thread starts nothing new.

        Raises the thread's error if it has failed: then requests may be open for ever.
        """
        with self._changed:
            self._num_pauses += 1
            self._changed.notify_all()
            while not (self._is_over or (self._is_quiet and not self._drop_wanted)):
                self._changed.wait(_NAP_S)
            if self._error is not None:
                raise self._error

    def resume(self) -> None:
        """Undo one `pause`."""
        with self._changed:
            self._num_pauses -= 1
            self._changed.notify_all()

    def refresh(self, tensors: Sequence[GraphTensor], read: ReadRows) -> None:
        """Read the rows of tensors that were written again; only while the thread is paused."""
        for tensor in tensors:
            self._pipeline.refresh(tensor, read)
            for batch in self._ready:
                tensor.put(batch, read(tensor, tensor.ids(batch).numpy()))

    def drop_all(self) -> None:
        """Give up all batches not yet taken.

        It neither waits nor takes a lock: Python collects a forgotten loop in any thread, at any
        place.
        """
        self._drop_wanted = True

    def stop_soon(self, then: Callable[[], None]) -> None:
        """End the thread without waiting, and call `then` once it is over; takes no lock either."""
        self._then = then
        self._is_closed = True
        if self._is_over:
            then()

    def stop(self) -> None:
        """End the thread; open requests are answered first."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join()
        self._ready.clear()
        self._steering.close()

    def _check(self) -> None:
        """Raise if no batch will come any more."""
        if self._is_closed:
            raise ConfigError(
                "this loader is closed", remedy="call close() after the last loop over it"
            )
        if self._error is not None:
            raise self._error

    # -- the thread's side --------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._is_closed:
                self._turn()
            self._pipeline.drop_all()
        except BaseException as error:  # handed to the trainer, who raises it
            self._error = error
        with self._changed:
            self._is_over = self._is_quiet = True
            self._changed.notify_all()
        if self._then is not None:
            self._then()

    def _turn(self) -> None:
        self._steering.attend(self._pipeline.next_planned)
        self._note_settings()
        may_work = self._take_orders()
        room = len(self._ready) < self._max_ready
        if may_work and self._pipeline.work(room=room, hand_over=self._hand_over):
            return
        if may_work and self._pipeline.fetch_idle():
            return
        if self._pipeline.has_open_questions:
            wait_ms = _LONG_RECEIVE_MS if room else _SHORT_RECEIVE_MS
            self._pipeline.receive(wait_ms, give_up_s=self._timeout_s)
        else:
            self._nap()

    def _note_settings(self) -> None:
        settings, known = self._pipeline.policy.settings, self.in_force
        if settings is not known.settings:
            since = known.since if settings == known.settings else self._pipeline.next_planned
            self.in_force = InForce(settings, since)

    def _take_orders(self) -> bool:
        """Do what the trainer wants; False while it wants a pause."""
        with self._changed:
            if self._drop_wanted:
                self._new_seeds.clear()
                self._ready.clear()
                self._pipeline.drop_all()
                self._drop_wanted = False
                self._changed.notify_all()
            self._pipeline.add(self._new_seeds)
            self._new_seeds.clear()
            is_paused = self._num_pauses > 0
            self._is_quiet = is_paused and not self._pipeline.has_open_questions
            return not is_paused

    def _nap(self) -> None:
        """Sleep until the trainer wants something; no request is open."""
        with self._changed:
            self._is_quiet = True
            self._changed.notify_all()
            has_room = len(self._ready) < self._max_ready and not self._pipeline.is_empty
            may_work = has_room and not self._num_pauses
            if not (may_work or self._new_seeds or self._drop_wanted or self._is_closed):
                self._changed.wait(_NAP_S)

    def _hand_over(self, batch: Batch) -> None:
        self.max_waiting_bytes = max(self.max_waiting_bytes, self._pipeline.waiting_bytes)
        with self._changed:
            self._ready.append(batch)
            self._changed.notify_all()
