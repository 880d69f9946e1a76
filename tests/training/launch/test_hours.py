"""A run keeps to its schedule, and a person may overrule it until its hours change."""

from __future__ import annotations

from datetime import time
from pathlib import Path

from rudder.training.control.steering import (
    BUDGET_FILE,
    OBJECTIVE_FILE,
    HostSetting,
    read_budget,
    read_objective,
)
from rudder.training.launch.hours import HourKeeper, keeping_to
from rudder.training.schedule import DaySchedule

NIGHT = DaySchedule.parse("22:00-06:00 objective=traffic memory_budget=1KiB")


class Clock:
    def __init__(self) -> None:
        self.now = time(21)

    def __call__(self) -> time:
        return self.now


def holding(folder: Path) -> tuple[str, int | None]:
    """As controllers read it, of a run whose own objective is `memory` and budget 99 bytes."""
    return (
        read_objective(folder / OBJECTIVE_FILE, "memory"),
        read_budget(folder / BUDGET_FILE, 99),
    )


def test_the_settings_of_the_night_hold_at_night_and_the_runs_own_by_day(tmp_path: Path) -> None:
    clock = Clock()
    keeper = HourKeeper(NIGHT, folder=tmp_path, clock=clock)
    held = []
    for hour in (21, 22, 0, 6, 22):
        clock.now = time(hour)
        keeper.look()
        held.append(holding(tmp_path))
        assert HostSetting.of(tmp_path / OBJECTIVE_FILE).by == "schedule"
    night, day = ("traffic", 1024), ("memory", 99)
    assert held == [day, night, night, day, night]
    keeper.end()
    assert list(tmp_path.iterdir()) == []


def test_what_a_person_says_holds_until_the_hours_change_also_after_a_restart(
    tmp_path: Path,
) -> None:
    clock = Clock()
    clock.now = time(23)
    keeper = HourKeeper(NIGHT, folder=tmp_path, clock=clock)
    keeper.look()
    (tmp_path / BUDGET_FILE).write_text("512\n")
    keeper.look()
    assert holding(tmp_path) == ("traffic", 512)
    keeper.end()
    assert holding(tmp_path) == ("memory", 512)
    again = HourKeeper(NIGHT, folder=tmp_path, clock=clock)
    again.look()
    assert holding(tmp_path) == ("traffic", 512)
    clock.now = time(6)
    again.look()
    assert holding(tmp_path) == ("memory", 99)


def test_a_schedule_holds_from_the_start_and_leaves_nothing(tmp_path: Path) -> None:
    always = DaySchedule.parse("0:00-12:00 objective=traffic; 12:00-24:00 objective=traffic")
    with keeping_to(always, folder=tmp_path):
        assert holding(tmp_path) == ("traffic", 99)
    assert list(tmp_path.iterdir()) == []
