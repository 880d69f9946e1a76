"""The thread that runs a pipeline, and the queue between it and the trainer."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from rudder.training.buffer.policy import IntArray
from rudder.training.control.steering import NoSteering, TrainerSteering
from rudder.training.loading.batch import Batch
from rudder.training.loading.pipeline import Pipeline
from rudder.training.settings import BufferSettings

_NAP_S = 0.1
"""How long the thread sleeps at most when there is nothing to do, before it looks for commands."""
_SHORT_RECEIVE_MS = 1
"""Where the trainer may take a batch any moment, which nothing tells to who waits for answers."""
_LONG_RECEIVE_MS = 50


class InForce(NamedTuple):
    """Settings, and the number of the first batch that is looked up under them."""

    settings: BufferSettings
    since: int


class LoaderThread:
    """Runs a pipeline in a thread of its own. While it is paused no request of it is open."""

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        ready: int,
        steering: TrainerSteering | NoSteering,
        timeout_s: float,
    ) -> None:
        self._pipeline = pipeline
        self._ready: deque[Batch] = deque()
        self._max_ready = ready
        self._steering = steering
        self._timeout_s = timeout_s
        self._changed = threading.Condition()
        self._new_seeds: deque[IntArray] = deque()
        self._pause_wanted = 0
        self._idle = True
        self._drop_wanted = False
        self._stop_wanted = False
        self._error: BaseException | None = None
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

    @property
    def num_buffered(self) -> int:
        """Rows in the buffer."""
        return self._pipeline.policy.num_buffered

    def add(self, batches: Sequence[IntArray]) -> None:
        """Queue batches of seeds."""
        with self._changed:
            self._new_seeds.extend(batches)
            self._changed.notify_all()

    def take(self) -> tuple[Batch, float]:
        """Wait for the next batch; returns it and the seconds that the wait took."""
        started = time.perf_counter()
        with self._changed:
            while not self._ready:
                if self._error is not None:
                    raise self._error
                self._changed.wait(_NAP_S)
            batch = self._ready.popleft()
            self._changed.notify_all()
        return batch, time.perf_counter() - started

    def pause(self) -> None:
        """Return once no request is open; until `resume` the thread starts nothing new."""
        with self._changed:
            self._pause_wanted += 1
            self._changed.notify_all()
            while not self._idle and self._error is None:
                self._changed.wait(_NAP_S)
            if self._error is not None:
                raise self._error

    def resume(self) -> None:
        """Undo one `pause`."""
        with self._changed:
            self._pause_wanted -= 1
            self._changed.notify_all()

    def drop_all(self) -> None:
        """Give up all batches not yet taken."""
        with self._changed:
            self._drop_wanted = True
            self._changed.notify_all()
            while self._drop_wanted and self._error is None:
                self._changed.wait(_NAP_S)

    def stop(self) -> None:
        """End the thread; open requests are answered first."""
        with self._changed:
            self._stop_wanted = True
            self._changed.notify_all()
        self._thread.join()
        self._steering.close()

    # -- the thread's side --------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stop_wanted:
                self._turn()
            self._pipeline.drop_all()
        except BaseException as error:  # handed to the trainer, who raises it
            with self._changed:
                self._error = error
                self._idle = True
                self._changed.notify_all()

    def _turn(self) -> None:
        self._steering.attend(self._pipeline.next_planned)
        self._note_settings()
        self._take_orders()
        room = len(self._ready) < self._max_ready
        if not self._pause_wanted and self._pipeline.work(room=room, hand_over=self._hand_over):
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

    def _take_orders(self) -> None:
        if not (self._new_seeds or self._drop_wanted):
            self._idle = False if not self._pause_wanted else self._idle
            return
        with self._changed:
            if self._drop_wanted:
                self._new_seeds.clear()
                self._ready.clear()
                self._pipeline.drop_all()
                self._drop_wanted = False
            self._pipeline.add(self._new_seeds)
            self._new_seeds.clear()
            self._changed.notify_all()

    def _nap(self) -> None:
        with self._changed:
            self._idle = True
            self._changed.notify_all()
            if self._new_seeds or self._drop_wanted or self._stop_wanted:
                return
            if (
                not self._pause_wanted
                and len(self._ready) < self._max_ready
                and not (self._pipeline.is_empty)
            ):
                return
            self._changed.wait(_NAP_S)

    def _hand_over(self, batch: Batch) -> None:
        self.max_waiting_bytes = max(self.max_waiting_bytes, self._pipeline.waiting_bytes)
        with self._changed:
            self._ready.append(batch)
            self._changed.notify_all()
