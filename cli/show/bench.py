"""The results of a benchmark as tables, for terminals and for a README."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from rudder.bench.grid import GridPoint, GridReport
from rudder.bench.results import BenchReport, Result, Spread, TurnDone, write_json
from rudder.bench.variants import FLOOR, STOCK
from rudder.cli.show import figures
from rudder.cli.show.progress import say

PLOT_FILE_NAME = "bench.png"
_GREY, _LIGHT = "0.55", "0.85"
_GROUP_WIDTH = 0.84


def draw(report: BenchReport, out: Path) -> Path:
    """Draw the report into the folder `out`; returns the picture's path.

    Whiskers go from the fastest to the slowest turn; numbers are the speedup over stock.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rates = report.rates
    variants = list(dict.fromkeys(result.variant for result in report.results))
    width = _GROUP_WIDTH / max(len(variants), 1)
    figure = Figure(figsize=(2.5 + 1.1 * len(rates) * max(len(variants), 2) * 0.7, 4))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for place, variant in enumerate(variants):
        results = [result for result in report.results if result.variant == variant]
        left = [
            rates.index(result.rate) + (place - (len(variants) - 1) / 2) * width
            for result in results
        ]
        bars = axes.bar(
            left,
            [result.epoch_seconds.median for result in results],
            width * 0.92,
            yerr=_whiskers(results),
            capsize=3,
            label=variant,
            color=_color(variant, place),
        )
        axes.bar_label(bars, [_ratio(result) for result in results], padding=2, fontsize=8)
    axes.set_xticks(range(len(rates)), [_name(rate) for rate in rates])
    axes.set_ylabel("seconds of an epoch")
    axes.set_title(f"{report.dataset}, {report.config.hosts} hosts", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    path = out / PLOT_FILE_NAME
    figure.savefig(path, dpi=150)
    return path


def _whiskers(results: list[Result]) -> list[list[float]]:
    spreads = [result.epoch_seconds for result in results]
    return [[s.median - s.min for s in spreads], [s.max - s.median for s in spreads]]


def _ratio(result: Result) -> str:
    ratio = result.speedup_vs_stock
    return "" if ratio is None or result.variant == STOCK else f"{ratio:.2f}x"


def _color(variant: str, place: int) -> str:
    return {STOCK: _GREY, FLOOR: _LIGHT}.get(variant, f"C{place % 10}")


def _name(rate: str) -> str:
    return "no limit" if rate == "none" else rate


def tell_turn(done: TurnDone, report: BenchReport) -> None:
    """Tell a person, on standard error, how long the epochs of a turn took."""
    number = done.turn.round
    name = f"repeat {number}/{report.repeats}" if number else "warm-up"
    seconds = figures.seconds(done.mean_seconds)
    say(f"rate {done.rate}, {name}, {done.turn.variant.text}: {seconds} s an epoch")


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
        rows = [cells(result) for result in report.results]
        table = figures.table(names, rows, text=names[:_NUM_TEXT_COLUMNS])
        console.print()
        console.print(figures.titled(title, table), highlight=False)
    for skipped in report.skipped:
        what = f"rate {skipped.rate} was left out: {skipped.reason}\n  {skipped.remedy}"
        console.print(what, markup=False)


def extent_of(report: BenchReport) -> str:
    """How much was measured; a benchmark that was stopped says how far it got."""
    extent = f"{report.repeats} repeats of {report.epochs_per_turn} epochs"
    if report.is_complete:
        return extent
    return f"{extent}, stopped after {report.turns_done} of {report.turns_planned} turns"


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
        f" {extent_of(report)}"
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


GRID_FILE_NAME = "grid.json"


def write_grid(report: GridReport, out: Path) -> Path:
    """Write `grid.json` into `out`; returns its path."""
    return write_json(report, out / GRID_FILE_NAME)


def read_grid(path: Path) -> GridReport:
    """Read a `grid.json`, or the one in a folder."""
    file = path / GRID_FILE_NAME if path.is_dir() else path
    return GridReport.model_validate_json(file.read_text())


def print_grid(report: GridReport, console: Console | None = None) -> None:
    """Print median seconds of an epoch; console: default standard output."""
    console = Console() if console is None else console
    lookaheads = list(dict.fromkeys(point.lookahead for point in report.points))
    title = f"{report.bench.dataset}, rate {report.bench.rates[0]}: median seconds of an epoch"
    title += f", {extent_of(report.bench)}"
    console.print(title, highlight=False)
    rows: list[list[str | Text]] = []
    for capacity in dict.fromkeys(point.capacity for point in report.points):
        row = {point.lookahead: point for point in report.points if point.capacity == capacity}
        rows.append([capacity, *[_cell(row.get(each), report.best) for each in lookaheads]])
    names = ["capacity", *[f"lookahead {lookahead}" for lookahead in lookaheads]]
    console.print(figures.table(names, rows, text=("capacity",)), highlight=False)
    best = report.best
    spread = f"{best.epoch_seconds.min:.3f} - {best.epoch_seconds.max:.3f}"
    console.print(
        f"best: capacity {best.capacity}, lookahead {best.lookahead},"
        f" {figures.seconds(best.epoch_seconds.median)} s ({spread})",
        highlight=False,
    )


def _cell(point: GridPoint | None, best: GridPoint) -> Text:
    if point is None:
        return Text(figures.ABSENT)
    style = "bold" if point == best else ""
    return Text(figures.seconds(point.epoch_seconds.median), style)
