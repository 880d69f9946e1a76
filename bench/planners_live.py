"""Compares planners in real jobs: all take turns in the same trainers, from the same start."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rudder.agents.controller.report import read_reports
from rudder.bench.plan import BenchPlan
from rudder.bench.results import BenchReport, Spread, results_in
from rudder.bench.run import Watch, run
from rudder.bench.variants import Variant
from rudder.training.config import RunConfig
from rudder.training.metrics import ModelUse
from rudder.training.settings import Frozen

FILE_NAME = "planners.json"
UNSTEERED = "none"
"""The name of the variant without a controller."""
POOR_START = "buffer=0.01+lookahead=0"
"""Far too small, so that every planner has something to find."""
TURN_EPOCHS = 3
PUBLISHED, PUBLISHED_LLM = "published", "published:llm"
"""The published planner with its plain rule, and with a model's answers."""


class LivePlanner(Frozen):
    """A planner in one job, or over several.

    seconds: all its epochs, of the slowest rank; to_unsteered, to_embedded: over the seconds of
    these planners in the same job; step_ms_p99: 99th percentile of an epoch's steps, median over
    the epochs of turns that count and ranks; rows_fetched, hit_fraction: of an epoch of turns that
    count, all ranks; models: per rank, of planners that ask a model.
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
    found: list[LivePlanner] = []
    report = LiveReport(jobs_planned=jobs)
    with results_in(out / FILE_NAME, say=say, show=show) as keep:
        for number in range(jobs):
            folder = out / f"job{number}"

            def add(bench: BenchReport, folder: Path = folder) -> None:
                nonlocal report
                found.extend(_of_job(variants, plan, bench, folder))
                if not found:
                    return
                by_name = [[each for each in found if each.planner == name] for name in variants]
                done = report.jobs_done + bench.is_complete
                planners = tuple(map(together, by_name))
                report = LiveReport(jobs_done=done, jobs_planned=jobs, planners=planners)
                keep(report)

            run(plan, config, rates=[rate], out=folder, say=say, watch=watch, show=add)
    return report


def _of_job(
    variants: dict[str, Variant], plan: BenchPlan, bench: BenchReport, folder: Path
) -> Iterator[LivePlanner]:
    """All planners over the rounds that all have done; none where one has no round that counts."""
    results = {each.variant: each for each in bench.results}
    if len(results) < len(variants):
        return
    rounds = min(len(each.epochs_of_turns) for each in bench.results)
    spent = {text: sum(map(sum, each.epochs_of_turns[:rounds])) for text, each in results.items()}
    for name, variant in variants.items():
        steered = folder / f"rate-{bench.rates[0]}" / plan.folder_of(variant)
        counts = [each.counts for each in read_reports(steered)]
        errors = [abs(error) for each in counts for error in each.rows_errors]
        own, tail = spent[variant.text], results[variant.text].step_seconds_p99
        yield LivePlanner(
            planner=name,
            seconds=own,
            to_unsteered=_ratio(own, spent, variants.get(UNSTEERED)),
            to_embedded=_ratio(own, spent, variants.get("embedded")),
            step_ms_p99=None if tail is None else 1000 * tail,
            applied=sum(each.applied for each in counts),
            confirmed=sum(each.confirmed for each in counts),
            reverted=sum(each.reverted for each in counts),
            rows_error=_median(errors),
            rows_fetched=results[variant.text].rows_fetched,
            hit_fraction=results[variant.text].hit_fraction,
            decisions=sum(each.decisions for each in counts),
            models=tuple(each.model for each in counts if each.model is not None),
        )


def _ratio(own: float, spent: dict[str, float], other: Variant | None) -> Spread | None:
    return None if other is None else Spread.of([own / spent[other.text]])


def together(jobs: Sequence[LivePlanner]) -> LivePlanner:
    """One planner's jobs as one: medians, sums, and the spread of its ratios."""
    return LivePlanner(
        planner=jobs[0].planner,
        seconds=statistics.median(each.seconds for each in jobs),
        to_unsteered=_spread([each.to_unsteered for each in jobs]),
        to_embedded=_spread([each.to_embedded for each in jobs]),
        step_ms_p99=_median([e.step_ms_p99 for e in jobs if e.step_ms_p99 is not None]),
        applied=sum(each.applied for each in jobs),
        confirmed=sum(each.confirmed for each in jobs),
        reverted=sum(each.reverted for each in jobs),
        rows_error=_median([e.rows_error for e in jobs if e.rows_error is not None]),
        rows_fetched=_whole(_median([e.rows_fetched for e in jobs if e.rows_fetched is not None])),
        hit_fraction=_median([e.hit_fraction for e in jobs if e.hit_fraction is not None]),
        decisions=sum(each.decisions for each in jobs),
        models=tuple(model for each in jobs for model in each.models),
    )


def _spread(ratios: Sequence[Spread | None]) -> Spread | None:
    known = [each.median for each in ratios if each is not None]
    return Spread.of(known) if known else None


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
