"""Line charts for a page of HTML: paths of SVG and tick labels, placed in shares of the plot.

A plot is 1000 units wide and high, whatever its size on the screen, so that it may be stretched.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rudder.cli.show import figures

_SIZE = 1000
_TICKS = 5
_POWERS = [10.0**power for power in range(16)]
_SPIKE = 3.0
"""An axis leaves out values beyond so many times the 99th percentile: a first step that compiles
would flatten all others."""


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, in the values' unit."""

    low: float
    high: float
    is_log: bool = False

    @classmethod
    def of(cls, values: Iterable[float | None], *, is_log: bool = False) -> Axis:
        """An axis from 0 that the values fill; a logarithmic one starts at the least of them."""
        known = sorted(value for value in values if value is not None and math.isfinite(value))
        if is_log:
            known = [value for value in known if value >= 1] or [1.0]
            return cls(known[0] / 1.5, known[-1] * 1.5, is_log=True)
        most = known[-1] if known else 1.0
        usual = known[int(0.99 * (len(known) - 1))] if known else 1.0
        high = 1.2 * usual if 0 < _SPIKE * usual < most else most
        return cls(0.0, 1.05 * high if high > 0 else 1.0)

    def place(self, value: float) -> int:
        """Where a value is, from 0 to 1000; beyond that what is outside the axis."""
        if self.is_log:
            share = math.log(max(value, 1) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(_SIZE * min(max(share, -1.0), 2.0))

    def ticks(self) -> list[tuple[float, str]]:
        """Round values on the axis: place in percent, and text."""
        return [(self.place(value) / 10, _short(value)) for value in self._round_values()]

    def _round_values(self) -> list[float]:
        if not self.is_log:
            step = _round_up((self.high - self.low) / _TICKS)
            return [step * k for k in range(int(self.high / step) + 1)]
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        fine = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
        found = [value for value in fine if self.low <= value <= self.high]
        return found if len(found) <= _TICKS + 2 else [v for v in found if v in _POWERS]


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, ..."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= value * 0.999)


def _short(value: float) -> str:
    """1,500, 20 k or 3 M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= max(size, 1e4):
            return f"{value / size:g} {unit}"
    return figures.plain(value)


@dataclass(frozen=True)
class Line:
    """Values over time; colour: its number; None in ys: not measured there."""

    name: str
    colour: int
    xs: Sequence[float]
    ys: Sequence[float | None]

    def path(self, x: Axis, y: Axis) -> str:
        """As the `d` of an SVG path; a point alone is a dot."""
        parts: list[str] = []
        is_down = False
        for at, value in zip(self.xs, self.ys, strict=True):
            if value is not None:
                place = f"{x.place(at)},{_SIZE - y.place(value)}"
                parts.append(f"{'L' if is_down else 'M'}{place}{'' if is_down else 'h0'}")
            is_down = value is not None
        return "".join(parts)


@dataclass(frozen=True)
class Chart:
    """Lines over one time axis; what: the unit, or more words, behind the title; is_of_ranks:
    whether there is a line for each rank, in the rank's colour."""

    title: str
    what: str
    lines: tuple[Line, ...]
    x: Axis
    y: Axis
    is_of_ranks: bool = True

    @property
    def paths(self) -> list[tuple[Line, str]]:
        """Each line with its path."""
        return [(line, line.path(self.x, self.y)) for line in self.lines]

    @property
    def beyond(self) -> str | None:
        """The largest value, if it is beyond the axis."""
        most = max((v for line in self.lines for v in line.ys if v is not None), default=0.0)
        return None if most <= self.y.high else figures.plain(most)


@dataclass(frozen=True)
class TimeUnit:
    """What a time axis counts."""

    seconds: float
    name: str

    @classmethod
    def fit(cls, end_s: float) -> TimeUnit:
        """Seconds, minutes or hours, so that numbers are small."""
        units = (cls(3600.0, "h"), cls(60.0, "min"), cls(1.0, "s"))
        return next(unit for unit in units if end_s >= 2 * unit.seconds or unit.seconds == 1)
