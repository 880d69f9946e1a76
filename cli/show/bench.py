"""The results of benchmarks as tables, for terminals and for a README, and as a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from rudder.bench.harm import HarmReport
from rudder.bench.planners_live import LivePlanner
from rudder.bench.results import BenchReport, Skipped, Spread, TurnDone, VariantResult
from rudder.bench.variants import FLOOR, STOCK, Grid
from rudder.cli.show import figures
from rudder.cli.show.progress import Pace, say

if TYPE_CHECKING:  # importing the agents' graph takes half a second
    from rudder.bench.simulated.compare import Standing

PLOT_FILE_NAME = "bench.png"
_COLOURS = {STOCK: "0.55", FLOOR: "0.85"}
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
        shift = (place - (len(variants) - 1) / 2) * width
        spreads = [result.epoch_seconds for result in results]
        bars = axes.bar(
            [rates.index(result.rate) + shift for result in results],
            [spread.median for spread in spreads],
            width * 0.92,
            yerr=[[s.median - s.min for s in spreads], [s.max - s.median for s in spreads]],
            capsize=3,
            label=variant,
            color=_COLOURS.get(variant, f"C{place % 10}"),
        )
        ratios = [None if r.variant == STOCK else r.speedup_vs_stock for r in results]
        labels = ["" if ratio is None else f"{ratio:.2f}x" for ratio in ratios]
        axes.bar_label(bars, labels, padding=2, fontsize=8)
    names = ["no limit" if rate == "none" else rate for rate in rates]
    axes.set_xticks(range(len(rates)), names)
    axes.set_ylabel("seconds of an epoch")
    axes.set_title(f"{report.dataset}, {report.config.hosts} hosts", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    path = out / PLOT_FILE_NAME
    figure.savefig(path, dpi=150)
    return path


class TurnLines:
    """Tells how long the epochs of a turn took, and how many turns and how much time are left."""

    def __init__(self) -> None:
        self._pace = Pace()

    def __call__(self, done: TurnDone, report: BenchReport) -> None:
        """Tell of a turn; of several benchmarks one after the other, each has its own pace."""
        if report.turns_done == 1:
            self._pace = Pace(after=1)
        number = done.turn.round
        name = f"repeat {number}/{report.repeats}" if number else "warm-up"
        seconds = figures.seconds(done.mean_seconds)
        pace = self._pace.text(report.turns_done, report.turns_planned, "turns")
        say(f"rate {done.rate}, {name}, {done.turn.variant.text}: {seconds} s an epoch; {pace}")


# -- rudder bench epochs -----------------------------------------------------------------------

_NUM_TEXT_COLUMNS = 2
_Cells = Callable[[VariantResult], list[str]]


def _time_cells(result: VariantResult) -> list[str]:
    return [
        result.rate,
        result.variant,
        figures.seconds(result.epoch_seconds.median),
        _range(result.epoch_seconds),
        figures.ABSENT if result.speedup_vs_stock is None else f"{result.speedup_vs_stock:.2f}x",
        _range(result.paired_speedup_vs_stock),
        figures.seconds(result.first_epoch_seconds),
    ]


def _spent_cells(result: VariantResult) -> list[str]:
    spent = result.breakdown
    parts = (spent.sample, spent.pull, spent.assemble, spent.exposed_wait, spent.compute)
    return [
        result.rate,
        result.variant,
        figures.count(result.rows_fetched),
        figures.percent(result.rows_fetched / result.remote_rows if result.remote_rows else None),
        *[figures.seconds(part) for part in parts],
    ]


_TABLES: tuple[tuple[str, tuple[str, ...], _Cells], ...] = (
    (
        "Seconds of an epoch of the slowest rank",
        ("rate", "variant", "epoch s", "min - max", "vs stock", "paired min - max",
         "first epoch s"),
        _time_cells,
    ),
    (
        "Rows of an epoch, and a rank's seconds",
        ("rate", "variant", "rows fetched", "of remote", "sample", "pull", "assemble", "wait",
         "compute"),
        _spent_cells,
    ),
)  # fmt: skip
"""Title, names of columns, and a row's cells."""


def report_text(report: BenchReport) -> Group:
    """Tables of all rates and variants, and the rates that could not be measured."""
    tables = [
        figures.titled(
            f"\n{title}",
            figures.table(names, [*map(cells, report.results)], text=names[:_NUM_TEXT_COLUMNS]),
        )
        for title, names, cells in _TABLES
    ]
    return Group(_title(report), *tables, *_left_out(report.skipped))


def _left_out(skipped: Sequence[Skipped]) -> list[Text]:
    return [
        Text(f"rate {each.rate} was left out: {each.reason}\n  {each.remedy}") for each in skipped
    ]


def as_markdown(report: BenchReport) -> str:
    """The same tables for a README, with what was measured, and on what, below them."""
    lines: list[str] = []
    for title, names, cells in _TABLES:
        ruler = [":--"] * _NUM_TEXT_COLUMNS + ["--:"] * (len(names) - _NUM_TEXT_COLUMNS)
        rows = [names, ruler, *map(cells, report.results)]
        lines += [f"{title}:", "", *[f"| {' | '.join(row)} |" for row in rows], ""]
    machine, versions = report.machine, report.versions
    lines += [
        f"{_title(report)}; {machine.cpu}, {machine.cores} cores,"
        f" {machine.memory_bytes / 2**30:.0f} GiB; dgl {versions.get('dgl', '?')},"
        f" torch {versions.get('torch', '?')}; {report.started}:",
        f"`{report.command}`",
    ]
    return "\n".join(lines) + "\n"


def _title(report: BenchReport) -> str:
    config = report.config
    return (
        f"{report.dataset}, {config.hosts} hosts ({report.network}), {config.model},"
        f" batch {config.batch_size}, fan-out {','.join(map(str, config.fanout))},"
        f" buffer {config.buffer}, {_extent(report)}"
    )


def _extent(report: BenchReport) -> str:
    """How much was measured; a benchmark that was stopped says how far it got."""
    extent = f"{report.repeats} repeats of {report.epochs_per_turn} epochs"
    if report.is_complete:
        return extent
    return f"{extent}, stopped after {report.turns_done} of {report.turns_planned} turns"


def _range(spread: Spread | None) -> str:
    return figures.ABSENT if spread is None else f"{spread.min:.2f} - {spread.max:.2f}"


# -- rudder bench grid, harm, planners ---------------------------------------------------------


def grid_table(grid: Grid, bench: BenchReport) -> Group:
    """Median seconds of an epoch at each point, and the best one."""
    results, best = {each.variant: each for each in bench.results}, bench.best

    def cell(capacity: str, lookahead: int) -> Text:
        found = results.get(grid.variant(capacity, lookahead).text)
        median = None if found is None else found.epoch_seconds.median
        return Text(figures.seconds(median), "bold" if found is best else "")

    rows: list[list[str | Text]] = [
        [capacity, *[cell(capacity, each) for each in grid.lookaheads]]
        for capacity in grid.capacities
    ]
    names = ["capacity", *[f"lookahead {lookahead}" for lookahead in grid.lookaheads]]
    spread = best.epoch_seconds
    return Group(
        f"{bench.dataset}, rate {best.rate}: median seconds of an epoch, {_extent(bench)}",
        figures.table(names, rows, text=("capacity",)),
        f"best: {best.variant}, {figures.seconds(spread.median)} s"
        f" ({spread.min:.3f} - {spread.max:.3f})",
    )


def harm_table(report: HarmReport) -> Group:
    """One line a case: speed and processor time of steered training over those of unsteered
    training; then the rates that could not be measured."""
    rows = [
        (
            f"{case.dataset.removeprefix('synthetic:')}\n{case.rate}",
            figures.seconds(case.unsteered_seconds),
            f"{case.speed:.3f}",
            f"{interval.low:.3f}-{interval.high:.3f}\n({interval.confidence:.0%})",
            figures.count(len(case.speeds)),
            figures.count(case.applied),
            f"{case.cpu:.3f}",
            figures.percent(case.core),
            case.verdict,
        )
        for case in report.cases
        for interval in (case.interval,)
    ]
    names = (
        "graph, rate", "unsteered s", "speed", "interval", "rounds", "changes", "cpu", "core",
        "verdict",
    )  # fmt: skip
    table = figures.table(names, rows, text=("graph, rate",))
    return Group(table, *_left_out(report.skipped))


def planner_table(found: Sequence[Standing]) -> Table:
    """One line a planner; time over that of fixed settings, and of the best fixed settings,
    as geometric means over the cases and the worst of them; lower is better."""
    rows = [
        (
            each.planner,
            f"{each.to_fixed:.3f}",
            f"{each.worst_to_fixed:.3f}",
            f"{each.to_best:.3f}",
            f"{each.worst_to_best:.3f}",
            f"{each.capacity_rows:,.0f}",
            *(figures.count(value) for value in (each.proposed, each.applied, each.reverted)),
            figures.percent(each.rows_error),
        )
        for each in found
    ]
    names = (
        "planner", "/ fixed", "worst", "/ best", "worst", "rows", "plans", "applied",
        "undone", "off by",
    )  # fmt: skip
    return figures.table(names, rows, text=("planner",))


def live_table(found: Sequence[LivePlanner]) -> Table:
    """One row a planner: seconds of a job; these over those of the unsteered job and of the
    embedded planner, as a median and below it the range over jobs; the p99 of steps; hits and rows
    of an epoch; decisions, and changes made and undone; questions to its model, and Pass@1."""
    rows = []
    for each in found:
        questions = sum(model.questions for model in each.models)
        passed = [model.pass_at_1 for model in each.models if model.pass_at_1 is not None]
        row = (
            each.planner,
            f"{each.seconds:.1f}",
            _ratio(each.to_unsteered),
            _ratio(each.to_embedded),
            figures.ABSENT if each.step_ms_p99 is None else f"{each.step_ms_p99:.1f}",
            f"{figures.percent(each.hit_fraction)}\n{figures.count(each.rows_fetched)}",
            figures.count(each.decisions),
            f"{each.applied:,}\n{each.reverted:,}",
            figures.percent(each.rows_error),
            f"{questions:,}\n{figures.percent(fmean(passed))}" if passed else figures.ABSENT,
        )
        rows.append(row)
    names = (
        "planner", "s", "/ none", "/ embedded", "p99 ms", "hits rows", "decided", "applied undone",
        "off by", "asked Pass@1",
    )  # fmt: skip
    return figures.table(names, rows, text=("planner",))


def _ratio(found: Spread | None) -> str:
    if found is None:
        return figures.ABSENT
    return f"{found.median:.3f}\n{found.min:.2f}-{found.max:.2f}"
