"""What a process of a run prints, and what it tells its launcher."""

from __future__ import annotations

import io
import os
import sys
import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from rudder.training.events import Event, Failed, PhaseEntered, Progress, Reported, read_event
from rudder.training.metrics import Memory, RankReport, RowCounts, Seconds, Window
from rudder.training.process.worker import (
    MAX_WAITING_PROGRESS,
    EventPipe,
    _ForgivingLog,
    import_later,
)
from rudder.training.settings import BufferSettings


def say(log: str | Path) -> None:
    raw = _ForgivingLog(log, "wb")
    with io.TextIOWrapper(io.BufferedWriter(raw), line_buffering=True) as stream:
        print("Client[0] is exiting...", file=stream)


def test_a_print_into_a_log_on_a_full_disk_ends_nothing() -> None:
    say("/dev/full")


def test_a_log_has_what_was_printed(tmp_path: Path) -> None:
    say(tmp_path / "log")
    assert (tmp_path / "log").read_text() == "Client[0] is exiting...\n"


# -- events -----------------------------------------------------------------------------


def progress(step: int) -> Progress:
    window = Window(
        rank=0, index=step, epoch=0, first_step=step, num_steps=1, rows=RowCounts(),
        seconds=Seconds(), settings=BufferSettings(capacity_rows=1), buffered_rows=0,
        waiting_batches=0,
    )  # fmt: skip
    return Progress(rank=0, epoch=0, steps_in_epoch=5000, step_in_epoch=step, window=window)


LAST: list[Event] = [
    Reported(report=RankReport(rank=0, host="host0", epochs=(), memory=Memory(peak_rss_bytes=1))),
    Failed(role="trainer", rank=0, message="gone", remedy="look", exit_code=5),
]


def events_left(pipe: EventPipe, writing: BinaryIO, *, reading: int) -> list[Event | None]:
    """What a launcher reads that begins when the process ends."""

    def close() -> None:
        pipe.close()
        writing.close()

    closing = threading.Thread(target=close)
    closing.start()
    with os.fdopen(reading, "rb") as stream:
        events = [read_event(line) for line in stream]
    closing.join()
    return events


def test_a_launcher_that_does_not_read_stalls_nobody_and_misses_old_progress_only() -> None:
    reading, writing = os.pipe()
    launcher = os.fdopen(writing, "wb", buffering=0)
    pipe = EventPipe(launcher)
    phases: list[Event] = []
    for step in range(5000):
        pipe.emit(progress(step))
        if step % 100 == 0:
            phases.append(PhaseEntered(role="trainer", rank=step, phase="training"))
            pipe.emit(phases[-1])
    for event in LAST:
        pipe.emit(event)
    events = events_left(pipe, launcher, reading=reading)
    assert [event for event in events if not isinstance(event, Progress)] == [*phases, *LAST]
    steps = [event.step_in_epoch for event in events if isinstance(event, Progress)]
    assert steps == sorted(set(steps))
    assert steps[-MAX_WAITING_PROGRESS:] == list(range(5000 - MAX_WAITING_PROGRESS, 5000))
    assert len(steps) < 1000


def test_signs_of_life_push_out_no_windows() -> None:
    reading, writing = os.pipe()
    launcher = os.fdopen(writing, "wb", buffering=0)
    pipe = EventPipe(launcher)
    for step in range(1000):
        pipe.emit(progress(step))
    for step in range(1000, 2000):
        pipe.emit(progress(step).model_copy(update={"window": None}))
    events = events_left(pipe, launcher, reading=reading)
    steps = [each.step_in_epoch for each in events if isinstance(each, Progress) and each.window]
    assert steps[1 - MAX_WAITING_PROGRESS :] == list(range(1001 - MAX_WAITING_PROGRESS, 1000))


def test_a_launcher_that_has_gone_ends_the_writing_and_nothing_else() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as stream:
        pipe = EventPipe(stream)
        for event in LAST * 50:
            pipe.emit(event)
        pipe.close()


def test_a_postponed_library_is_executed_when_something_is_taken_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "seldom_used.py").write_text("VALUE = 5")
    monkeypatch.syspath_prepend(tmp_path)
    import_later("seldom_used")
    library = sys.modules["seldom_used"]
    try:
        assert library.__file__ == str(tmp_path / "seldom_used.py")  # as inspect looks at all
        assert "VALUE" not in vars(library)
        assert library.VALUE == 5
        import_later("seldom_used")
        assert sys.modules["seldom_used"] is library
        with pytest.raises(AttributeError, match="OTHER"):
            _ = library.OTHER
    finally:
        del sys.modules["seldom_used"]


def test_a_library_that_is_not_installed_cannot_be_imported_later_either() -> None:
    import_later("not_installed_anywhere")
    assert "not_installed_anywhere" not in sys.modules
