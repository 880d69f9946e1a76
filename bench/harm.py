"""Whether steering does harm: steered and unsteered training take turns in one job, from one start.

A round's speed is the seconds of the unsteered turn over those of the steered turn (above 1:
steering is faster). A case is a graph at a rate; its speed is the median over rounds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from rudder.agents.controller.report import read_reports
from rudder.bench.gauge import ControllerGauge, Use
from rudder.bench.plan import BenchPlan
from rudder.bench.results import BenchReport, TurnDone, VariantResult, results_in
from rudder.bench.run import Watch, run
from rudder.bench.variants import Variant
from rudder.training.config import RunConfig
from rudder.training.settings import Frozen

FILE_NAME = "harm.json"
DATASETS = (
    "synthetic:tiny", "synthetic:community-200k", "debian", "synthetic:drift",
    "synthetic:products-s",
)  # fmt: skip
RATES = ("200mbit", "1gbit", "none")
LEAST_MEDIAN = 0.99
LEAST_SPEED = 0.97
"""No harm: the median speed is at least LEAST_MEDIAN, its interval begins at LEAST_SPEED or above.
These are the project's goals, chosen near the noise of repeated epochs on a quiet machine."""
CONFIDENCE = 0.95
STEERED = "lookahead:controller=on"


class ConfidenceInterval(Frozen):
    """An interval for a median, whatever the distribution; few values give a low confidence."""

    low: float
    high: float
    confidence: float

    @classmethod
    def of(cls, values: Sequence[float]) -> ConfidenceInterval:
        """The narrowest interval between two of the values with CONFIDENCE, or the widest one.

        The median lies outside the k-th least and k-th largest of n independent values with the
        chance that fewer than k of n coin flips are heads, twice (the sign test's interval).
        """
        ranked, n = sorted(values), len(values)

        def confidence(k: int) -> float:
            return 1 - 2 * sum(math.comb(n, i) for i in range(k)) / float(2**n)

        enough = [k for k in range(1, n // 2 + 1) if confidence(k) >= CONFIDENCE]
        k = max(enough, default=1)
        return cls(low=ranked[k - 1], high=ranked[n - k], confidence=max(0.0, confidence(k)))


class Harm(Frozen):
    """One graph at one rate."""

    dataset: str
    rate: str
    unsteered_seconds: float = Field(description="of an epoch, median over rounds")
    speeds: tuple[float, ...] = Field(description="of each round that counts")
    applied: int = Field(description="changes, of all ranks")
    core: float | None = Field(
        description="share of a core that the busiest controller took, over the turns of both"
    )

    @property
    def speed(self) -> float:
        """Median over rounds."""
        return statistics.median(self.speeds)

    @property
    def interval(self) -> ConfidenceInterval:
        """Where the median speed lies."""
        return ConfidenceInterval.of(self.speeds)

    @property
    def verdict(self) -> Literal["no harm", "harm", "unclear"]:
        """unclear: the interval is too wide to tell; more repeats narrow it."""
        if self.interval.high < LEAST_MEDIAN:
            return "harm"
        is_safe = self.speed >= LEAST_MEDIAN and self.interval.low >= LEAST_SPEED
        return "no harm" if is_safe else "unclear"


class HarmReport(Frozen):
    """`harm.json`: the cases so far; the last one may have fewer rounds than planned."""

    cases: tuple[Harm, ...] = ()
    is_complete: bool = False


def measure_harm(
    configs: Sequence[RunConfig],
    *,
    rates: Sequence[str],
    start: str,
    repeats: int,
    epochs: int,
    out: Path,
    say: Callable[[str], None],
    watch: Watch,
    show: Callable[[HarmReport], None],
) -> HarmReport:
    """Measure every config's graph at every rate; `harm.json` in `out` is written after each turn.

    start: options of a variant, such as buffer=0.25+lookahead=40; empty: the defaults.
    say, watch, show: as in `bench.run.run`, whose errors are raised, too.
    """
    fixed = f"lookahead:{start}" if start else "lookahead"
    steered = f"{STEERED}+{start}" if start else STEERED
    variants = (Variant(text=fixed), Variant(text=steered))
    plan = BenchPlan(variants=variants, repeats=repeats, epochs_per_turn=epochs)
    report = HarmReport()
    with results_in(out / FILE_NAME, say=say, show=show) as keep:
        for number, config in enumerate(configs):
            graph = _GraphCases(plan, out / f"graph{number}", earlier=report.cases)

            def on_turn(done: TurnDone, bench: BenchReport, graph: _GraphCases = graph) -> None:
                nonlocal report
                watch(done, bench)
                graph.read(done)
                if cases := (*graph.earlier, *graph.cases(bench)):
                    report = HarmReport(cases=cases)
                    keep(report)

            run(plan, config, rates=list(rates), out=graph.folder, say=say, watch=on_turn)
        report = report.model_copy(update={"is_complete": True})
        keep(report)
    return report


class _GraphCases:
    """The cases of one graph, while its jobs go on; earlier: those of the graphs before it."""

    def __init__(self, plan: BenchPlan, folder: Path, *, earlier: tuple[Harm, ...]) -> None:
        self._plan, self.folder, self.earlier = plan, folder, earlier
        self._gauges: dict[str, ControllerGauge] = {}
        self._first: dict[str, dict[str, Use]] = {}
        self._last: dict[str, dict[str, Use]] = {}
        self._seconds: dict[str, float] = {}

    def read(self, done: TurnDone) -> None:
        """Read what the controllers have used when a turn has just ended."""
        rate = done.rate
        control = self.folder / f"rate-{rate}" / "control"
        self._last[rate] = self._gauges.setdefault(rate, ControllerGauge(control)).read()
        if done.turn.round == 0:
            self._first[rate] = self._last[rate]
        else:
            self._seconds[rate] = self._seconds.get(rate, 0.0) + sum(done.epoch_seconds)

    def cases(self, bench: BenchReport) -> Iterator[Harm]:
        """The rates of which both variants have a round that counts."""
        for rate in bench.rates:
            results = bench.of_rate(rate)
            if len(results) == len(self._plan.variants):
                yield self._case(bench.dataset, *results)

    def _case(self, dataset: str, fixed: VariantResult, steered: VariantResult) -> Harm:
        job = self.folder / f"rate-{fixed.rate}"
        folder = job / self._plan.folder_of(Variant(text=steered.variant))
        pairs = zip(fixed.turn_seconds, steered.turn_seconds, strict=False)  # of whole rounds
        return Harm(
            dataset=dataset,
            rate=fixed.rate,
            unsteered_seconds=fixed.epoch_seconds.median,
            speeds=tuple(a / b for a, b in pairs),
            applied=sum(each.counts.applied for each in read_reports(folder)),
            core=self._core(fixed.rate),
        )

    def _core(self, rate: str) -> float | None:
        """Processor time of the busiest controller over the time of all turns that count."""
        first = self._first.get(rate, {})
        spent = [
            use.cpu_seconds - first[name].cpu_seconds
            for name, use in self._last.get(rate, {}).items()
            if name in first
        ]
        seconds = self._seconds.get(rate)
        return max(spent) / seconds if spent and seconds else None
