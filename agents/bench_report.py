"""The end of a benchmark: `bench.json`, the same as tables, for terminals and for a README."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from rich.console import Console
from rich.table import Table

from rudder.agents import figures
from rudder.training.bench.results import BenchReport, Result, Spread

_TIME_NAMES = (
    "rate", "variant", "epoch s", "min - max", "vs stock", "paired min - max", "first epoch s",
)  # fmt: skip
_SPENT_NAMES = (
    "rate", "variant", "rows fetched", "of remote", "sample", "pull", "assemble", "wait", "compute",
)  # fmt: skip
_NUM_TEXT_COLUMNS = 2


def print_report(report: BenchReport, console: Console | None = None) -> None:
    """Print tables of all rates and variants; console: default standard output."""
    console = Console() if console is None else console
    console.print(_title(report), highlight=False)
    for title, names, cells in _tables():
        table = Table(title=title, title_justify="left", title_style="bold", box=None)
        for place, name in enumerate(names):
            justify: Literal["left", "right"] = "left" if place < _NUM_TEXT_COLUMNS else "right"
            table.add_column(name, justify=justify, overflow="fold")
        for result in report.results:
            table.add_row(*cells(result))
        console.print()
        console.print(table, highlight=False)
    for skipped in report.skipped:
        what = f"rate {skipped.rate} was left out: {skipped.reason}\n  {skipped.remedy}"
        console.print(what, markup=False)


def as_markdown(report: BenchReport) -> str:
    """The same tables for a README, with what was measured, and on what, below them."""
    lines: list[str] = []
    for title, names, cells in _tables():
        ruler = [":--"] * _NUM_TEXT_COLUMNS + ["--:"] * (len(names) - _NUM_TEXT_COLUMNS)
        lines += [f"{title}:", "", _line(names), _line(ruler)]
        lines += [*[_line(cells(result)) for result in report.results], ""]
    machine, versions = report.machine, report.versions
    memory = f"{machine.memory_bytes / 2**30:.0f} GiB"
    lines += [
        f"{_title(report)}; {machine.cpu}, {machine.cores} cores, {memory};"
        f" dgl {versions.get('dgl', '?')}, torch {versions.get('torch', '?')}; {report.started}:",
        f"`{report.command}`",
    ]
    return "\n".join(lines) + "\n"


def _tables() -> tuple[tuple[str, Sequence[str], Callable[[Result], list[str]]], ...]:
    """Title, names of columns, and a row's cells."""
    return (
        ("Seconds of an epoch of the slowest rank", _TIME_NAMES, _time_cells),
        ("Rows of an epoch, and a rank's seconds", _SPENT_NAMES, _spent_cells),
    )


def _title(report: BenchReport) -> str:
    config = report.config
    fanout = ",".join(map(str, config.fanout))
    return (
        f"{report.dataset}, {config.hosts} hosts ({report.network}), {config.model},"
        f" batch {config.batch_size}, fan-out {fanout}, buffer {config.buffer},"
        f" {report.repeats} repeats of {report.epochs_per_turn} epochs"
    )


def _time_cells(result: Result) -> list[str]:
    return [
        result.rate,
        result.variant,
        figures.seconds(result.epoch_seconds.median),
        _range(result.epoch_seconds),
        _times(result.speedup_vs_stock),
        _range(result.paired_speedup_vs_stock),
        figures.seconds(result.first_epoch_seconds),
    ]


def _spent_cells(result: Result) -> list[str]:
    spent = result.breakdown
    parts = (spent.sample, spent.pull, spent.assemble, spent.exposed_wait, spent.compute)
    return [
        result.rate,
        result.variant,
        figures.count(result.rows_fetched),
        figures.percent(result.rows_fetched / result.remote_rows if result.remote_rows else None),
        *[figures.seconds(part) for part in parts],
    ]


def _times(ratio: float | None) -> str:
    return figures.ABSENT if ratio is None else f"{ratio:.2f}x"


def _range(spread: Spread | None) -> str:
    return figures.ABSENT if spread is None else f"{spread.min:.2f} - {spread.max:.2f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
