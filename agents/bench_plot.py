"""The picture of a benchmark: a bar per rate and variant, in seconds of an epoch."""

from __future__ import annotations

from pathlib import Path

from rudder.training.bench.results import BenchReport, Result
from rudder.training.bench.variants import FLOOR, STOCK

FILE_NAME = "bench.png"
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
    path = out / FILE_NAME
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
