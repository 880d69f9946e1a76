"""Change: the rate is cut, the budget is halved, or the graph drifts, while the job goes on."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rudder.bench.gauge import AtEndOfRound
from rudder.bench.link import change_rate
from rudder.bench.plan import BenchPlan
from rudder.cli.commands.steer import budget
from rudder.memory.run.run_file import run_file
from rudder.memory.run.run_reader import RunReader
from steered.job import Work, folder_of, measure, plan_of
from steered.speed import Speed, speed_of

CANDIDATES = tuple(f"lookahead:buffer={share}" for share in ("0.1", "0.25", "0.5", "1.0"))
STEERED = "lookahead:buffer=0.25+controller=on"
HALF = "lookahead:buffer=0.125"
_BEFORE = 1
"""Rounds that count before the change."""


def cut_rate(work: Work, *, to: str, repeats: int, epochs: int, out: Path) -> list[Speed]:
    """Fixed variants of CANDIDATES, and a steered one, when the rate becomes `to`."""

    def action(plan: BenchPlan, job: Path) -> None:
        change_rate(to)

    return _at_a_change(
        work, CANDIDATES, f"rate to {to}", action, repeats=repeats, epochs=epochs, out=out
    )


def halve_budget(work: Work, *, repeats: int, epochs: int, out: Path) -> list[Speed]:
    """A fixed variant with half the rows, and a steered one whose budget becomes half its rows."""

    def action(plan: BenchPlan, job: Path) -> None:
        steered = plan.folder_of(next(each for each in plan.variants if each.text == STEERED))
        with RunReader(run_file(job / steered, rank=0)) as reader:
            workload = next(iter(reader.workloads().values()))
        held = workload.defaults.capacity_rows * workload.row_bytes * workload.trainers_on_host
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for rows
            budget(job, str(held // 2))

    return _at_a_change(
        work, (HALF,), "half the budget", action, repeats=repeats, epochs=epochs, out=out
    )


def drift(work: Work, *, repeats: int, epochs: int, out: Path) -> list[Speed]:
    """Fixed variants of CANDIDATES, and a steered one, on a graph whose hot nodes change within
    every epoch; nothing else changes."""

    def action(plan: BenchPlan, job: Path) -> None:
        pass

    return _at_a_change(work, CANDIDATES, "drift", action, repeats=repeats, epochs=epochs, out=out)


def _at_a_change(
    work: Work,
    fixed: Sequence[str],
    what: str,
    action: Callable[[BenchPlan, Path], None],
    *,
    repeats: int,
    epochs: int,
    out: Path,
) -> list[Speed]:
    """A job per repeat: a warm-up round, a round, the change, two more rounds."""
    plan = plan_of(*fixed, STEERED, repeats=_BEFORE + 2, epochs=epochs)
    rows = []
    for repeat in range(repeats):
        where = out / f"change{repeat}"
        folder = folder_of(work, where)
        moment = AtEndOfRound(
            plan,
            _BEFORE,
            num_ranks=work.config.num_trainers,
            action=lambda folder=folder: action(plan, folder),
        )
        job = measure(work, plan, out=where, listen=moment)
        after = _BEFORE + 1
        rows.append(
            speed_of(
                job,
                STEERED,
                rate=work.rate,
                what=what,
                repeat=repeat,
                first_round=after,
                best_from_round=after,
            )
        )
    return rows
