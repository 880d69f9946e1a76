"""Compares planners in real jobs: all take turns in the same trainers, from the same start."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rudder.agents.controller.report import read_reports
from rudder.bench.plan import BenchPlan
from rudder.bench.results import BenchReport, Spread, results_in
from rudder.bench.run import Watch, run
from rudder.bench.variants import Variant
from rudder.training.config import RunConfig
from rudder.training.metrics import ModelUse, SteeringCounts
from rudder.training.settings import Frozen

FILE_NAME = "planners.json"
UNSTEERED = "none"
"""The name of the variant without a controller."""
POOR_START = "buffer=0.01+lookahead=0"
"""Far too small, so that every planner has something to find."""
TURN_EPOCHS = 3
PUBLISHED, PUBLISHED_LLM = "published", "published:llm"
"""The published planner with its plain rule, and with a model's answers."""


@dataclass(frozen=True)
class LiveJob:
    """One planner in one job: seconds of all its epochs, of the slowest rank; counts: of each rank;
    step_ms_p99: 99th percentile of an epoch's steps, median over epochs and ranks."""

    seconds: float
    counts: tuple[SteeringCounts, ...]
    step_ms_p99: float | None
    rows_fetched: int
    hit_fraction: float | None


class LivePlanner(Frozen):
    """A planner over the jobs: medians, and sums of counts.

    to_unsteered, to_embedded: its seconds over those of these planners in the same job; rows_error:
    median size; rows_fetched, hit_fraction: of an epoch of turns that count, all ranks; models: per
    rank, of planners that ask a model.
    """

    planner: str
    seconds: float
    to_unsteered: Spread | None
    to_embedded: Spread | None
    step_ms_p99: float | None
    applied: int
    confirmed: int
    reverted: int
    rows_error: float | None
    rows_fetched: int | None = None
    hit_fraction: float | None = None
    decisions: int = 0
    models: tuple[ModelUse, ...] = ()

    @classmethod
    def of(cls, name: str, jobs: Sequence[Mapping[str, LiveJob]]) -> LivePlanner:
        """jobs: all planners of each, by name."""
        own = [job[name] for job in jobs]
        counts = [each for job in own for each in job.counts]
        return cls(
            planner=name,
            seconds=statistics.median(job.seconds for job in own),
            to_unsteered=_ratios(name, UNSTEERED, jobs),
            to_embedded=_ratios(name, "embedded", jobs),
            step_ms_p99=_median([job.step_ms_p99 for job in own if job.step_ms_p99 is not None]),
            applied=sum(each.applied for each in counts),
            confirmed=sum(each.confirmed for each in counts),
            reverted=sum(each.reverted for each in counts),
            rows_error=_median([abs(error) for each in counts for error in each.rows_errors]),
            rows_fetched=round(statistics.median(job.rows_fetched for job in own)),
            hit_fraction=_median([job.hit_fraction for job in own if job.hit_fraction is not None]),
            decisions=sum(each.decisions for each in counts),
            models=tuple(each.model for each in counts if each.model is not None),
        )


def _ratios(name: str, other: str, jobs: Sequence[Mapping[str, LiveJob]]) -> Spread | None:
    known = [job[name].seconds / job[other].seconds for job in jobs if other in job]
    return Spread.of(known) if known else None


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def variant_of(name: str, *, model_file: Path | None = None, start: str = POOR_START) -> Variant:
    """The variant of a planner; model_file: what `rudder fit` wrote, for learned ones; start: the
    settings that it begins with, as a variant's options.

    The published planner has the buffer that it was published with.
    """
    planner, _, asks = name.partition(":")
    text = f"score:interval=0+{start}" if planner == PUBLISHED else f"lookahead:{start}"
    if name != UNSTEERED:
        text += f"+controller=on+planner={planner}" + (f"+asks={asks}" if asks else "")
    if model_file is not None:
        text += f"+planner_model={model_file.absolute()}"
    return Variant(text=text)


class LiveReport(Frozen):
    """`planners.json` of live jobs: all planners over the jobs so far; a job that was stopped
    counts up to its last whole round, but not in jobs_done."""

    jobs_done: int = 0
    jobs_planned: int
    planners: tuple[LivePlanner, ...] = ()


def compare_live(
    variants: dict[str, Variant],
    config: RunConfig,
    *,
    rate: str,
    turns: int,
    jobs: int,
    out: Path,
    say: Callable[[str], None],
    watch: Watch = lambda turn, report: None,
    show: Callable[[LiveReport], None] = lambda report: None,
) -> LiveReport:
    """Measure the variants in `jobs` jobs, one after the other, each in a folder of `out`.

    `planners.json` in `out` is written after every job. say, watch, show: as in `bench.run.run`.
    Raises what `launch` raises.
    """
    plan = BenchPlan(
        variants=tuple(variants.values()), repeats=max(1, turns - 1), epochs_per_turn=TURN_EPOCHS
    )
    found: list[dict[str, LiveJob]] = []
    report = LiveReport(jobs_planned=jobs)
    with results_in(out / FILE_NAME, say=say, show=show) as keep:
        for number in range(jobs):
            folder = out / f"job{number}"

            def add(bench: BenchReport, folder: Path = folder) -> None:
                nonlocal report
                if job := _job(variants, plan, bench, folder):
                    found.append(job)
                    done = report.jobs_done + bench.is_complete
                    planners = tuple(LivePlanner.of(name, found) for name in variants)
                    report = LiveReport(jobs_done=done, jobs_planned=jobs, planners=planners)
                    keep(report)

            run(plan, config, rates=[rate], out=folder, say=say, watch=watch, show=add)
    return report


def _job(
    variants: dict[str, Variant], plan: BenchPlan, bench: BenchReport, folder: Path
) -> dict[str, LiveJob]:
    """All planners over the rounds that all have done; none where one has no round that counts."""
    results = {each.variant: each for each in bench.results}
    if len(results) < len(variants):
        return {}
    rounds, found = min(len(each.epochs_of_turns) for each in bench.results), {}
    for name, variant in variants.items():
        result = results[variant.text]
        steered = folder / f"rate-{bench.rates[0]}" / plan.folder_of(variant)
        tail = result.step_seconds_p99
        found[name] = LiveJob(
            seconds=sum(map(sum, result.epochs_of_turns[:rounds])),
            counts=tuple(each.counts for each in read_reports(steered)),
            step_ms_p99=None if tail is None else 1000 * tail,
            rows_fetched=result.rows_fetched,
            hit_fraction=result.hit_fraction,
        )
    return found
