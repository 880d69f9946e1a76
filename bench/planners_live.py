"""Planners side by side in real jobs: all take turns in the same trainers, from the same start."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from rudder.agents.controller.report import read_report
from rudder.bench.plan import BenchPlan
from rudder.bench.results import Result, Spread
from rudder.bench.run import Listener, run
from rudder.bench.steering_record import change_stats_in
from rudder.bench.variants import Variant
from rudder.training.config import RunConfig
from rudder.training.events import EpochDone, Event
from rudder.training.metrics import ModelUse

UNSTEERED = "none"
"""The name of the variant without a controller."""
POOR_START = "buffer=0.01+lookahead=0"
"""Far too small, so that every planner has something to find."""
TURN_EPOCHS = 3


class LivePlanner(BaseModel):
    """A planner in one job, or over several: seconds of all its epochs, of the slowest rank;
    to_unsteered, to_embedded: over those of the others in the same job; step_ms_p99: median over
    epochs and ranks of the p99 of an epoch's steps. models: per rank, of planners that ask one."""

    model_config = ConfigDict(frozen=True)

    planner: str
    seconds: float
    to_unsteered: Spread | None
    to_embedded: Spread | None
    step_ms_p99: float | None
    applied: int
    confirmed: int
    reverted: int
    rows_error: float | None
    models: tuple[ModelUse, ...] = ()


def variant_of(name: str, *, model_file: Path | None = None, start: str = POOR_START) -> Variant:
    """The variant of a planner; model_file: what `rudder fit` wrote, for learned ones; start: the
    settings that it begins with, as a variant's options."""
    text = f"lookahead:{start}"
    if name != UNSTEERED:
        text += f"+controller=on+planner={name}"
    if model_file is not None:
        text += f"+planner_model={model_file.absolute()}"
    return Variant(text=text)


def compare_live(
    variants: dict[str, Variant],
    config: RunConfig,
    *,
    rate: str,
    turns: int,
    jobs: int,
    out: Path,
    say: Callable[[str], None],
    progress: Callable[[BenchPlan], Listener],
) -> list[LivePlanner]:
    """Measure the variants in `jobs` jobs, one after the other, each in a folder of `out`.

    say: told what takes long. progress: makes a listener to the events of one job.
    Raises what `launch` raises.
    """
    plan = BenchPlan(
        variants=tuple(variants.values()), repeats=max(1, turns - 1), epochs_per_turn=TURN_EPOCHS
    )
    found: list[LivePlanner] = []
    for number in range(jobs):
        folder = out / f"job{number}"
        tails = _Tails(plan, progress(plan))
        report = run(plan, config, rates=[rate], out=folder, say=say, listen=tails)
        if report.results:
            found += _of_job(variants, plan, report.results, tails, folder / f"rate-{rate}")
    return [together([one for one in found if one.planner == name]) for name in variants if found]


class _Tails:
    """Keeps the p99 of steps of every epoch, by variant."""

    def __init__(self, plan: BenchPlan, forward: Listener) -> None:
        self._plan, self._forward = plan, forward
        self.seconds: dict[str, list[float]] = {}

    def __call__(self, rate: str, event: Event) -> None:
        self._forward(rate, event)
        if isinstance(event, EpochDone) and event.metrics.step_seconds_p99 is not None:
            text = self._plan.turn_of(event.metrics.epoch).variant.text
            self.seconds.setdefault(text, []).append(event.metrics.step_seconds_p99)


def _of_job(
    variants: dict[str, Variant],
    plan: BenchPlan,
    results: Sequence[Result],
    tails: _Tails,
    folder: Path,
) -> Iterable[LivePlanner]:
    spent = {each.variant: sum(sum(turn) for turn in each.epochs_of_turns) for each in results}
    for name, variant in variants.items():
        steered = folder / plan.folder_of(variant)
        stats = change_stats_in(steered) if name != UNSTEERED else ()
        errors = [abs(error) for each in stats for error in each.rows_errors]
        reports = [read_report(steered, each.rank) for each in stats]
        own = spent[variant.text]
        yield LivePlanner(
            planner=name,
            seconds=own,
            to_unsteered=_ratio(own, spent, variants.get(UNSTEERED)),
            to_embedded=_ratio(own, spent, variants.get("embedded")),
            step_ms_p99=_median([1000 * each for each in tails.seconds.get(variant.text, [])]),
            applied=sum(each.applied for each in stats),
            confirmed=sum(each.confirmed for each in stats),
            reverted=sum(each.reverted for each in stats),
            rows_error=_median(errors),
            models=tuple(r.counts.model for r in reports if r is not None and r.counts.model),
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
        models=tuple(model for each in jobs for model in each.models),
    )


def _spread(ratios: Sequence[Spread | None]) -> Spread | None:
    known = [each.median for each in ratios if each is not None]
    return Spread.of(known) if known else None


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
