"""Has a run keep to its schedule: writes what holds now where `rudder steer` writes it, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, time
from pathlib import Path

from rudder.training.control.door import LocalControl
from rudder.training.control.steering import BUDGET_FILE, OBJECTIVE_FILE, HostSetting
from rudder.training.options import parse_bytes
from rudder.training.repeating import repeating
from rudder.training.schedule import DaySchedule

_FILES = {"objective": OBJECTIVE_FILE, "memory_budget": BUDGET_FILE}
_LOOK_SECONDS = 1.0


def local_time() -> time:
    """The local time of this machine."""
    return datetime.now().time()


class HourKeeper:
    """Writes the settings of a schedule into the run's control folder when its hours change.

    A person's later change holds until the hours change next, also over a restart of the run.
    """

    def __init__(
        self, schedule: DaySchedule, *, folder: Path, clock: Callable[[], time] = local_time
    ) -> None:
        """folder: the control folder; clock: tells the time of day."""
        self._schedule, self._clock = schedule, clock
        self._folder, self._control = folder, LocalControl(folder)
        now = schedule.at(clock())
        self._said = {name: now.get(name) for name in schedule.names if self._is_persons(name)}

    def look(self) -> None:
        """Write what has changed since the last look."""
        now = self._schedule.at(self._clock())
        for name in self._schedule.names:
            value = now.get(name)
            if name not in self._said or self._said[name] != value:
                said = HostSetting(_as_written(name, value), by="schedule")
                self._control.write(_FILES[name], str(said))
                self._said[name] = value

    def end(self) -> None:
        """Remove what the schedule has written; what a person has stays."""
        for name in self._schedule.names:
            if not self._is_persons(name):
                self._control.remove(_FILES[name])

    def _is_persons(self, name: str) -> bool:
        file = self._folder / _FILES[name]
        return file.exists() and HostSetting.of(file).by == "user"


@contextmanager
def keeping_to(schedule: DaySchedule | None, *, folder: Path) -> Iterator[None]:
    """Keep to the schedule within the block, in a thread of its own; None: there is none."""
    if schedule is None:
        yield
        return
    keeper = HourKeeper(schedule, folder=folder)
    keeper.look()

    def look() -> None:
        with suppress(OSError):  # it is tried again
            keeper.look()

    try:
        with repeating(look, every_s=_LOOK_SECONDS, name="rudder-schedule"):
            yield
    finally:
        with suppress(OSError):
            keeper.end()


def _as_written(name: str, value: str | None) -> str | None:
    """Bytes are written as a number."""
    return str(parse_bytes(value)) if name == "memory_budget" and value else value
