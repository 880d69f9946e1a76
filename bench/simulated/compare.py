"""Compares planners with each other and with fixed settings, on the same simulated workloads."""

from __future__ import annotations

import asyncio
import math
import statistics
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any

from rudder.agents.team import Team
from rudder.bench.simulated.cases import GRID, Case
from rudder.bench.simulated.run import Run, seconds_of, simulate
from rudder.bench.simulated.trainer import SimulatedTrainer
from rudder.training.settings import Frozen
from rudder.training.workload import Workload

TeamMaker = Callable[[Workload], Team]
Runner = Callable[[Coroutine[Any, Any, Run]], Run]


class CaseResult(Frozen):
    """A planner in a case. Seconds are simulated and of the whole run; fixed_seconds: with the
    settings that the case starts with; best_fixed_seconds: with the best settings of GRID;
    capacity_rows: at the end; rows_errors: as in SteeringCounts."""

    planner: str
    policy: str
    stream: str
    row_ms: float
    start: str
    seed: int
    seconds: float
    fixed_seconds: float
    best_fixed_seconds: float
    capacity_rows: int
    decisions: int
    proposed: int
    applied: int
    reverted: int
    rows_errors: tuple[float, ...]

    @property
    def to_fixed(self) -> float:
        """Time over the time with the settings it started with."""
        return self.seconds / self.fixed_seconds

    @property
    def to_best(self) -> float:
        """Time over the time with the best fixed settings."""
        return self.seconds / self.best_fixed_seconds


class Comparison(Frozen):
    """`planners.json` of simulated workloads: the results so far, of all planners."""

    workloads_done: int = 0
    workloads_planned: int
    standings: tuple[Standing, ...] = ()
    cases: tuple[CaseResult, ...] = ()

    def with_workload(self, results: Iterable[CaseResult]) -> Comparison:
        """This, and the results of all planners in a further workload."""
        cases = (*self.cases, *results)
        return Comparison(
            workloads_done=self.workloads_done + 1,
            workloads_planned=self.workloads_planned,
            standings=tuple(standings(cases)),
            cases=cases,
        )


class Standing(Frozen):
    """A planner over all cases: geometric means and worst of CaseResult's ratios, sums of counts,
    the mean capacity at the end, and the median size of the errors (None: no estimate was
    measured)."""

    planner: str
    cases: int
    to_fixed: float
    worst_to_fixed: float
    to_best: float
    worst_to_best: float
    capacity_rows: float
    decisions: int
    proposed: int
    applied: int
    reverted: int
    rows_error: float | None

    @classmethod
    def of(cls, results: Sequence[CaseResult]) -> Standing:
        """results: of one planner, at least one."""
        errors = [abs(error) for each in results for error in each.rows_errors]
        return cls(
            planner=results[0].planner,
            cases=len(results),
            to_fixed=_geometric_mean([each.to_fixed for each in results]),
            worst_to_fixed=max(each.to_fixed for each in results),
            to_best=_geometric_mean([each.to_best for each in results]),
            worst_to_best=max(each.to_best for each in results),
            capacity_rows=statistics.fmean(each.capacity_rows for each in results),
            decisions=sum(each.decisions for each in results),
            proposed=sum(each.proposed for each in results),
            applied=sum(each.applied for each in results),
            reverted=sum(each.reverted for each in results),
            rows_error=statistics.median(errors) if errors else None,
        )


def compare(
    teams: dict[str, TeamMaker], case: Case, *, windows: int, runner: Runner = asyncio.run
) -> Iterator[CaseResult]:
    """Every planner in a case, each with a new team; runner: `run_simulated` for models that take
    simulated time."""
    fixed = _fixed_seconds(case.trainer(), windows)
    best = min(_fixed_seconds(case.trainer(settings), windows) for settings in GRID)
    for name, make in teams.items():
        trainer = case.trainer()
        lived = runner(_steered(trainer, make(trainer.workload), windows))
        yield _result(name, case, lived, trainer, fixed=fixed, best=best)


def standings(results: Sequence[CaseResult]) -> list[Standing]:
    """One per planner, in the order of their first results."""
    names = dict.fromkeys(each.planner for each in results)
    return [Standing.of([each for each in results if each.planner == name]) for name in names]


def _fixed_seconds(trainer: SimulatedTrainer, windows: int) -> float:
    return seconds_of(tuple(trainer.window() for _ in range(windows)))


async def _steered(trainer: SimulatedTrainer, team: Team, windows: int) -> Run:
    try:
        return await simulate(trainer, team=team, windows=windows)
    finally:
        if team.asker is not None:
            await team.asker.close()


def _result(
    planner: str, case: Case, lived: Run, trainer: SimulatedTrainer, *, fixed: float, best: float
) -> CaseResult:
    outcomes = [each.outcome for each in lived.applied if each.outcome is not None]
    return CaseResult(
        planner=planner,
        policy=case.policy,
        stream=case.stream,
        row_ms=case.row_ms,
        start=case.start,
        seed=case.seed,
        seconds=lived.seconds,
        fixed_seconds=fixed,
        best_fixed_seconds=best,
        capacity_rows=trainer.settings.capacity_rows,
        decisions=len(lived.episodes),
        proposed=sum(not each.plan.change.is_empty for each in lived.episodes),
        applied=len(lived.applied),
        reverted=sum(each.result == "reverted" for each in outcomes),
        rows_errors=tuple(each.rows_error for each in outcomes if each.rows_error is not None),
    )


def _geometric_mean(values: Sequence[float]) -> float:
    return math.exp(statistics.fmean(math.log(value) for value in values))
