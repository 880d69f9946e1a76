"""Schedules: what holds at which hours."""

from __future__ import annotations

from datetime import time
from typing import Any

import pytest

from rudder.training.config import run_config
from rudder.training.errors import ConfigError
from rudder.training.schedule import DaySchedule

NIGHT = "22:00-06:00 objective=traffic memory_budget=1GiB; 12:00-13:00 objective=memory"


@pytest.mark.parametrize(
    ("now", "settings"),
    [
        (time(21, 59, 59), {}),
        (time(22), {"objective": "traffic", "memory_budget": "1GiB"}),
        (time(0), {"objective": "traffic", "memory_budget": "1GiB"}),
        (time(5, 59, 59), {"objective": "traffic", "memory_budget": "1GiB"}),
        (time(6), {}),
        (time(12, 30), {"objective": "memory"}),
    ],
)
def test_hours_pass_midnight_and_end_before_their_end(now: time, settings: dict[str, str]) -> None:
    assert DaySchedule.parse(NIGHT).at(now) == settings


def test_24_is_midnight_and_hours_of_other_settings_may_overlap() -> None:
    schedule = DaySchedule.parse(" 9:00 - 24:00 objective=memory;10:00-11:00 memory-budget=5MiB; ")
    assert str(schedule) == "09:00-00:00 objective=memory; 10:00-11:00 memory_budget=5MiB"
    assert schedule.at(time(23, 59)) == {"objective": "memory"}
    assert schedule.at(time(10)) == {"objective": "memory", "memory_budget": "5MiB"}
    assert DaySchedule.parse(str(schedule)) == schedule


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is HOURS SETTING=VALUE"),
        ("night objective=time", "it is HOURS SETTING=VALUE"),
        ("22:00-06:00", "it is HOURS SETTING=VALUE"),
        ("22:00-25:00 objective=time", "25:00 is no time of day"),
        ("24:30-01:00 objective=time", "24:30 is no time of day"),
        ("22:00-22:00 objective=time", "begin when they end"),
        ("0:00-24:00 objective=time", "begin when they end"),
        ("22:00-06:00 objective=money", "it is time, traffic or memory"),
        ("22:00-06:00 memory_budget=lots", "no number of bytes"),
        ("22:00-06:00 batch_size=1", "batch_size cannot be scheduled"),
        ("22:00-06:00 objective=time objective=memory", "stands twice"),
        ("22:00-06:00 objective=time; 5:00-7:00 objective=memory", "overlap"),
        ("5:00-7:00 objective=time; 22:00-06:00 objective=memory", "overlap"),
    ],
)
def test_what_is_wrong_with_a_schedule_is_said(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as error:
        run_config(schedule=text)
    assert "--schedule" in error.value.remedy


def test_a_schedule_needs_agents() -> None:
    assert run_config(schedule=NIGHT).hours == DaySchedule.parse(NIGHT)
    for name, value in (("controller", "none"), ("loader", "stock")):
        without: dict[str, Any] = {name: value}
        with pytest.raises(ConfigError, match="schedule is what agents keep to"):
            run_config(schedule=NIGHT, **without)
