"""Which objective and memory budget hold at which hours of the day.

A schedule is written as `22:00-06:00 objective=traffic; 12:00-13:00 memory_budget=1GiB`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import time
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from rudder.training.options import parse_bytes
from rudder.training.steering_options import Objective

SCHEDULE_FORMS = "HOURS SETTING=VALUE with ; between: '22:00-06:00 objective=traffic'"
_PERIOD = re.compile(r"(\d{1,2}:\d{2})\s*-\s*(\d{1,2}:\d{2})((?:\s+[a-z_-]+=\S+)+)", re.ASCII)
_OBJECTIVE: TypeAdapter[Objective] = TypeAdapter(Objective)


@dataclass(frozen=True)
class Hours:
    """Of every day, from `begin` up to and without `end`, which may be on the next day."""

    begin: time
    end: time

    @classmethod
    def parse(cls, begin: str, end: str) -> Self:
        """Read `22:00` and `6:00`; 24:00 is midnight. Raises ValueError."""
        hours = cls(_time_of(begin), _time_of(end))
        if hours.begin == hours.end:
            raise ValueError(f"the hours {hours} begin when they end; leave them out for all day")
        return hours

    def hold(self, now: time) -> bool:
        """Whether they have begun and not ended."""
        if self.begin < self.end:
            return self.begin <= now < self.end
        return now >= self.begin or now < self.end

    def __str__(self) -> str:
        return f"{self.begin:%H:%M}-{self.end:%H:%M}"


@dataclass(frozen=True)
class Period:
    """Hours, and what holds in them; None: what the run has at all other hours."""

    hours: Hours
    objective: Objective | None = None
    memory_budget: str | None = None

    @property
    def settings(self) -> dict[str, str]:
        """The values by the names of the options of `rudder train`."""
        named = {"objective": self.objective, "memory_budget": self.memory_budget}
        return {name: value for name, value in named.items() if value is not None}

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `22:00-06:00 objective=traffic memory_budget=1GiB`; raises ValueError."""
        match = _PERIOD.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text.strip()!r} is no part of a schedule; it is {SCHEDULE_FORMS}")
        found: dict[str, Any] = {}
        for each in match[3].split():
            name, _, value = each.partition("=")
            name = name.replace("-", "_")
            if name in found:
                raise ValueError(f"{name} stands twice in {text.strip()!r}")
            found[name] = _value_of(name, value)
        return cls(Hours.parse(match[1], match[2]), **found)

    def __str__(self) -> str:
        return " ".join([str(self.hours), *(f"{n}={value}" for n, value in self.settings.items())])


@dataclass(frozen=True)
class DaySchedule:
    """Periods of a day; at no time do two of them say the same setting."""

    periods: tuple[Period, ...]

    def __post_init__(self) -> None:
        for one, other in itertools.combinations(self.periods, 2):
            both = one.settings.keys() & other.settings.keys()
            if both and (one.hours.hold(other.hours.begin) or other.hours.hold(one.hours.begin)):
                raise ValueError(f"{one} and {other} overlap, and both set {min(both)}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form; raises ValueError that says what is wrong with it."""
        return cls(tuple(map(Period.parse, text.strip().rstrip(";").split(";"))))

    @property
    def names(self) -> tuple[str, ...]:
        """The settings that some period has."""
        return tuple(dict.fromkeys(name for each in self.periods for name in each.settings))

    def at(self, now: time) -> dict[str, str]:
        """The settings of the periods that hold; those that are left out are the run's own."""
        return dict(self._at(now))

    def _at(self, now: time) -> Iterator[tuple[str, str]]:
        for each in self.periods:
            if each.hours.hold(now):
                yield from each.settings.items()

    def __str__(self) -> str:
        return "; ".join(map(str, self.periods))


def _time_of(text: str) -> time:
    hour, minute = map(int, text.split(":"))
    if hour == 24 and minute == 0:
        return time(0)
    if hour > 23 or minute > 59:
        raise ValueError(f"{text} is no time of day; write 00:00 to 24:00")
    return time(hour, minute)


def _value_of(name: str, value: str) -> str:
    if name == "memory_budget":
        parse_bytes(value)
        return value
    if name != "objective":
        raise ValueError(f"{name} cannot be scheduled; objective and memory_budget can")
    try:
        return _OBJECTIVE.validate_python(value)
    except ValidationError:
        raise ValueError(f"objective={value}: it is time, traffic or memory") from None
