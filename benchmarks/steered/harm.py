"""No harm: the same good settings, left alone, watched by a controller, and steered."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from rudder.bench.gauge import ControllerGauge, Use
from rudder.bench.plan import BenchPlan
from rudder.bench.results import Result
from rudder.training.events import EpochDone, Event
from steered.job import Job, Work, folder_of, measure, plan_of
from steered.show import Row


class Harm(Row):
    """slowdown: median over rounds of the epoch's time beside the fixed variant's, less 1;
    core_of_turns, core_of_job: of the busiest controller, its seconds of processor time after the
    warm-up round, over the seconds of its variant's turns and of everybody's; rss_mib: of the
    largest one."""

    dataset: str
    rate: str
    variant: str
    epoch_s: float
    slowdown: float
    slowdown_min: float
    slowdown_max: float
    applied: int | None
    core_of_turns: float | None
    core_of_job: float | None
    rss_mib: float | None


class _Uses:
    """Reads the gauge at the end of the warm-up round, and after every later epoch."""

    def __init__(self, plan: BenchPlan, gauge: ControllerGauge) -> None:
        self._plan, self._gauge = plan, gauge
        self.first: dict[str, Use] = {}
        self.last: dict[str, Use] = {}

    def __call__(self, rate: str, event: Event) -> None:
        if not isinstance(event, EpochDone):
            return
        self.last = self._gauge.read()
        if self._plan.turn_of(event.metrics.epoch).round == 0:
            self.first = self.last


def harm(work: Work, *, settings: str, repeats: int, epochs: int, out: Path) -> list[Harm]:
    """settings: `buffer=0.25+lookahead=40`, where all variants start."""
    fixed = f"lookahead:{settings}"
    texts = (fixed, f"{fixed}+controller=on+planner=fixed", f"{fixed}+controller=on")
    plan = plan_of(*texts, repeats=repeats, epochs=epochs)
    uses = _Uses(plan, ControllerGauge(folder_of(work, out) / "control"))
    job = measure(work, plan, out=out, listen=uses)
    return list(_rows(job, work, fixed, uses))


def _rows(job: Job, work: Work, fixed: str, uses: _Uses) -> Iterator[Harm]:
    base = job.result(fixed).turn_seconds
    all_s = _seconds(job, job.report.results)
    for place, variant in enumerate(job.plan.variants):
        result = job.result(variant.text)
        ratios = [a / b - 1 for a, b in zip(result.turn_seconds, base, strict=True)]
        is_steered = variant.text != fixed
        own_s = _seconds(job, [result])
        cpu_s = _cpu_seconds(uses.first, uses.last, place)
        rss = [use.peak_rss_bytes for name, use in uses.last.items() if _is_of(name, place)]
        stats = job.stats(variant.text) if is_steered else ()
        yield Harm(
            dataset=work.dataset,
            rate=work.rate,
            variant=variant.text,
            epoch_s=result.epoch_seconds.median,
            slowdown=statistics.median(ratios),
            slowdown_min=min(ratios),
            slowdown_max=max(ratios),
            applied=sum(each.applied for each in stats) if is_steered else None,
            core_of_turns=cpu_s / own_s if cpu_s is not None else None,
            core_of_job=cpu_s / all_s if cpu_s is not None else None,
            rss_mib=max(rss) / 2**20 if rss else None,
        )


def _seconds(job: Job, results: Iterable[Result]) -> float:
    """Of the turns that count."""
    return sum(sum(each.turn_seconds) for each in results) * job.plan.epochs_per_turn


def _cpu_seconds(first: Mapping[str, Use], last: Mapping[str, Use], place: int) -> float | None:
    spent = [
        use.cpu_seconds - (first[name].cpu_seconds if name in first else 0.0)
        for name, use in last.items()
        if _is_of(name, place)
    ]
    return max(spent, default=None)


def _is_of(name: str, place: int) -> bool:
    return name.endswith(f"-{place}")
