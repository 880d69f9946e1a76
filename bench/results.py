"""What came of a benchmark: `bench.json`, and how it is made of the trainers' reports.

An epoch takes as long as its slowest rank. A turn's figure is the mean over its epochs, since the
sampler runs ahead from one into the next; spreads are over the turns of the rounds that count.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, Field

from rudder.bench.plan import BenchPlan, Turn
from rudder.bench.variants import STOCK, Variant
from rudder.training.config import RunConfig
from rudder.training.metrics import EpochMetrics, RankReport, RowCounts, Seconds

_CPU_TABLE = Path("/proc/cpuinfo")


class Machine(BaseModel):
    """What a reader of figures has to know of it."""

    model_config = ConfigDict(frozen=True)

    cpu: str
    cores: int
    """Cores that this process may use."""
    memory_bytes: int
    kernel: str

    @classmethod
    def here(cls) -> Machine:
        """This machine."""
        return cls(
            cpu=_cpu_model(),
            cores=len(os.sched_getaffinity(0)),
            memory_bytes=psutil.virtual_memory().total,
            kernel=platform.release(),
        )


def _cpu_model(table: Path = _CPU_TABLE) -> str:
    lines = table.read_text().splitlines() if table.exists() else []
    fields = (line.partition(":") for line in lines)
    return next(
        (value.strip() for key, _, value in fields if key.strip() == "model name"),
        platform.machine(),
    )


FILE_NAME = "bench.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Spread(_Frozen):
    """Of some measurements."""

    min: float
    median: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(min=min(values), median=statistics.median(values), max=max(values))


class Result(_Frozen):
    """One variant at one rate. Ratios to stock are stock's time over the variant's: 2 is twice as
    fast; they are absent where stock was not measured."""

    rate: str
    variant: str
    epoch_seconds: Spread = Field(description="of an epoch, over the turns that count")
    turn_seconds: tuple[float, ...] = Field(description="mean epoch of each turn that counts")
    epochs_of_turns: tuple[tuple[float, ...], ...] = Field(
        (), description="seconds of each epoch of each turn, the warm-up round first"
    )
    first_epoch_seconds: float = Field(description="the variant's very first epoch")
    speedup_vs_stock: float | None = Field(description="ratio of medians")
    paired_speedup_vs_stock: Spread | None = Field(description="ratios within a round")
    first_epoch_speedup_vs_stock: float | None
    rows_fetched: int = Field(description="per epoch, over all ranks")
    remote_rows: int = Field(description="per epoch, over all ranks")
    bytes_fetched: int = Field(description="per epoch, over all ranks")
    breakdown: Seconds = Field(description="per epoch, mean over ranks")


class Skipped(_Frozen):
    """A rate that could not be measured on this machine."""

    rate: str
    reason: str
    remedy: str


class BenchReport(_Frozen):
    """`bench.json`."""

    dataset: str
    command: str
    started: str = Field(description="local time, ISO 8601")
    results: tuple[Result, ...]
    skipped: tuple[Skipped, ...] = ()
    repeats: int
    epochs_per_turn: int
    network: str
    config: RunConfig
    machine: Machine
    versions: dict[str, str]

    def of_rate(self, rate: str) -> tuple[Result, ...]:
        """All variants at a rate."""
        return tuple(result for result in self.results if result.rate == rate)

    @property
    def rates(self) -> tuple[str, ...]:
        """Rates that were measured, in order."""
        return tuple(dict.fromkeys(result.rate for result in self.results))


def write_report(report: BenchReport, out: Path) -> Path:
    """Write `bench.json` into `out`; returns its path."""
    path = out / FILE_NAME
    path.write_text(report.model_dump_json(indent=2) + "\n")
    return path


def results_of(plan: BenchPlan, reports: Sequence[RankReport], *, rate: str) -> tuple[Result, ...]:
    """Results of one job; `reports` of all its ranks."""
    measured = [_Measured(plan, variant, reports) for variant in plan.variants]
    stock = next((each for each in measured if each.variant.name == STOCK), None)
    return tuple(each.result(rate, stock) for each in measured)


class _Measured:
    """One variant's epochs."""

    def __init__(self, plan: BenchPlan, variant: Variant, reports: Sequence[RankReport]) -> None:
        turns = [turn for turn in plan.turns if turn.variant == variant]
        epochs = [[report.epochs[e] for report in reports] for turn in turns for e in turn.epochs]
        self.variant = variant
        self.first_epoch = _slowest(epochs[0])
        self._steady = epochs[plan.epochs_per_turn :]
        self.epochs_of_turns = tuple(_epoch_seconds(turn, reports) for turn in turns)
        self.turns = tuple(statistics.mean(seconds) for seconds in self.epochs_of_turns[1:])

    @property
    def spread(self) -> Spread:
        return Spread.of(self.turns)

    def result(self, rate: str, stock: _Measured | None) -> Result:
        epochs = [epoch for ranks in self._steady for epoch in ranks]
        rows = sum((epoch.rows for epoch in epochs), RowCounts())
        num_epochs = len(self._steady)
        return Result(
            rate=rate,
            variant=self.variant.text,
            epoch_seconds=self.spread,
            turn_seconds=self.turns,
            epochs_of_turns=self.epochs_of_turns,
            first_epoch_seconds=self.first_epoch,
            speedup_vs_stock=stock and stock.spread.median / self.spread.median,
            paired_speedup_vs_stock=stock and Spread.of(_ratios(stock.turns, self.turns)),
            first_epoch_speedup_vs_stock=stock and stock.first_epoch / self.first_epoch,
            rows_fetched=round(rows.rows_fetched.total / num_epochs),
            remote_rows=round(rows.remote_rows / num_epochs),
            bytes_fetched=round(rows.bytes_fetched / num_epochs),
            breakdown=_mean([epoch.seconds for epoch in epochs]),
        )


def _slowest(ranks: Sequence[EpochMetrics]) -> float:
    return max(epoch.seconds_total for epoch in ranks)


def _epoch_seconds(turn: Turn, reports: Sequence[RankReport]) -> tuple[float, ...]:
    return tuple(_slowest([report.epochs[epoch] for report in reports]) for epoch in turn.epochs)


def _ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(above, below, strict=True)]


def _mean(all_seconds: Sequence[Seconds]) -> Seconds:
    total = sum(all_seconds, Seconds())
    return Seconds(**{name: value / len(all_seconds) for name, value in total.model_dump().items()})
