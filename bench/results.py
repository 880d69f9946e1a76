"""The results of a benchmark: `bench.json`, and how it is computed from the turns that are done.

An epoch takes as long as its slowest rank. A turn's figure is the mean over its epochs, since the
sampler runs ahead from one into the next; spreads are over the turns of the rounds that count.
`bench.json` is written anew after every turn, so a benchmark that is stopped keeps its turns.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil
from pydantic import BaseModel, Field

from rudder.bench.plan import Turn
from rudder.bench.variants import STOCK, Variant
from rudder.training.config import RunConfig
from rudder.training.errors import ConfigError, MachineError
from rudder.training.metrics import EpochMetrics, RowCounts, Seconds
from rudder.training.settings import Frozen

_CPU_TABLE = Path("/proc/cpuinfo")


class MachineFacts(Frozen):
    """The facts that a reader of its figures needs."""

    cpu: str
    cores: int
    """Cores that this process may use."""
    memory_bytes: int
    kernel: str

    @classmethod
    def here(cls) -> MachineFacts:
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
Report = TypeVar("Report", bound=BaseModel)


@dataclass(frozen=True)
class TurnDone:
    """A turn that all ranks have done; epochs: of each epoch, the metrics of every rank."""

    rate: str
    turn: Turn
    epochs: tuple[tuple[EpochMetrics, ...], ...]

    @property
    def epoch_seconds(self) -> tuple[float, ...]:
        """Seconds of each epoch, of its slowest rank."""
        return tuple(max(rank.seconds_total for rank in ranks) for ranks in self.epochs)

    @property
    def mean_seconds(self) -> float:
        """Seconds of an epoch."""
        return statistics.mean(self.epoch_seconds)


class Spread(Frozen):
    """The least, the median and the largest of some measurements."""

    min: float
    median: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return cls(min=min(values), median=statistics.median(values), max=max(values))


class VariantResult(Frozen):
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
    hit_fraction: float | None = None
    bytes_fetched: int = Field(description="per epoch, over all ranks")
    breakdown: Seconds = Field(description="per epoch, mean over ranks")
    step_seconds_p99: float | None = Field(
        None, description="99th percentile of an epoch's steps, median over epochs and ranks"
    )


class Skipped(Frozen):
    """A rate that could not be measured on this machine."""

    rate: str
    reason: str
    remedy: str


class BenchReport(Frozen):
    """`bench.json`. A benchmark that was stopped has fewer turns done than planned; variants
    without a turn that counts are missing from its results."""

    dataset: str
    command: str
    started: str = Field(description="local time, ISO 8601")
    results: tuple[VariantResult, ...]
    skipped: tuple[Skipped, ...] = ()
    turns_done: int = Field(description="of all variants and rates, warm-up rounds included")
    turns_planned: int
    repeats: int
    epochs_per_turn: int
    network: str
    config: RunConfig
    machine: MachineFacts
    versions: dict[str, str]

    def of_rate(self, rate: str) -> tuple[VariantResult, ...]:
        """All variants at a rate."""
        return tuple(result for result in self.results if result.rate == rate)

    @property
    def best(self) -> VariantResult:
        """The one with the least median; there is at least one."""
        return min(self.results, key=lambda result: result.epoch_seconds.median)

    @property
    def is_complete(self) -> bool:
        """Whether all turns are done."""
        return self.turns_done == self.turns_planned

    @property
    def rates(self) -> tuple[str, ...]:
        """Rates that were measured, in order."""
        return tuple(dict.fromkeys(result.rate for result in self.results))


def write_json(report: BaseModel, path: Path) -> Path:
    """Write a report as JSON; the file always has a whole report, the former one or this one."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(report.model_dump_json(indent=2) + "\n")
    return partial.replace(path)


@contextmanager
def results_in(
    file: Path,
    *,
    say: Callable[[str], None],
    show: Callable[[Report], object],
    goes_on: bool = False,
) -> Iterator[Callable[[Report], None]]:
    """Yields a function that writes the report so far to `file`.

    The last report is shown at the end, also of a benchmark that is stopped or fails. While the
    disk is full the benchmark goes on. Raises MachineError at the end if the last report could not
    be written; ConfigError before if the folder cannot be made, or if results of an earlier
    benchmark are there, unless this one goes on with them.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError.for_field(
            "out",
            value=str(file.parent),
            allowed="a folder that can be written",
            remedy=f"choose another place: {error.strerror}",
        ) from None
    if file.exists() and not goes_on:
        raise ConfigError(
            f"{file} holds the results of an earlier benchmark",
            remedy="choose a new folder with --out; no result is overwritten",
        )
    latest: list[Report] = []
    lost: OSError | None = None

    def keep(report: Report) -> None:
        nonlocal lost
        latest[:] = [report]
        try:
            write_json(report, file)
            lost = None
        except OSError as error:
            if lost is None:
                say(f"{file} cannot be written now: {error.strerror}; the benchmark goes on")
            lost = error

    try:
        yield keep
    finally:
        if lost is not None:
            keep(latest[0])
        if file.exists():
            say(f"results: {file}")
        for report in latest:
            show(report)
    if lost is not None:
        raise MachineError(
            f"{file} lacks the last results: {lost.strerror}",
            remedy="make room; what was measured stands above",
        )


def results_of(turns: Sequence[TurnDone]) -> tuple[VariantResult, ...]:
    """Results of the turns done at one rate; a variant without a turn that counts has none."""
    by_variant: dict[Variant, list[TurnDone]] = {}
    for done in turns:
        by_variant.setdefault(done.turn.variant, []).append(done)
    measured = {
        variant: _Measured(done) for variant, done in by_variant.items() if done[-1].turn.round
    }
    stock = next((each for variant, each in measured.items() if variant.name == STOCK), None)
    return tuple(each.result(variant, stock) for variant, each in measured.items())


class _Measured:
    """The turns of one variant: the warm-up turn, and those that count."""

    def __init__(self, turns: Sequence[TurnDone]) -> None:
        self.rate = turns[0].rate
        self.epochs_of_turns = tuple(done.epoch_seconds for done in turns)
        self.first_epoch = self.epochs_of_turns[0][0]
        self.turn_seconds = tuple(done.mean_seconds for done in turns[1:])
        self._steady = [ranks for done in turns[1:] for ranks in done.epochs]

    @property
    def spread(self) -> Spread:
        return Spread.of(self.turn_seconds)

    def result(self, variant: Variant, stock: _Measured | None) -> VariantResult:
        epochs = [epoch for ranks in self._steady for epoch in ranks]
        rows = sum((epoch.rows for epoch in epochs), RowCounts())
        num_epochs = len(self._steady)
        tails = [each.step_seconds_p99 for each in epochs if each.step_seconds_p99 is not None]
        return VariantResult(
            rate=self.rate,
            variant=variant.text,
            epoch_seconds=self.spread,
            turn_seconds=self.turn_seconds,
            epochs_of_turns=self.epochs_of_turns,
            first_epoch_seconds=self.first_epoch,
            speedup_vs_stock=stock and stock.spread.median / self.spread.median,
            paired_speedup_vs_stock=stock and self._paired(stock),
            first_epoch_speedup_vs_stock=stock and stock.first_epoch / self.first_epoch,
            rows_fetched=round(rows.rows_fetched.total / num_epochs),
            remote_rows=round(rows.remote_rows / num_epochs),
            hit_fraction=rows.hit_fraction,
            bytes_fetched=round(rows.bytes_fetched / num_epochs),
            breakdown=_mean([epoch.seconds for epoch in epochs]),
            step_seconds_p99=statistics.median(tails) if tails else None,
        )

    def _paired(self, stock: _Measured) -> Spread:
        """Ratios within a round; in the round that a benchmark stopped in, one may be missing."""
        pairs = zip(stock.turn_seconds, self.turn_seconds, strict=False)
        return Spread.of([base / own for base, own in pairs])


def _mean(all_seconds: Sequence[Seconds]) -> Seconds:
    total = sum(all_seconds, Seconds())
    return Seconds(**{name: value / len(all_seconds) for name, value in total.model_dump().items()})
