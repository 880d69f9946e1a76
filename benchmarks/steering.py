"""How fast steering finds good settings, in real jobs.

    python -m benchmarks.steering rescue --rate 200mbit --grid runs/grid/bench.json
    python -m benchmarks.steering rate --rate 1gbit --to 200mbit
    python -m benchmarks.steering budget
    python -m benchmarks.steering drift

What is compared takes turns in the same job; prints a line for each job, and benchmarks/README.md
says what it means. `rudder bench harm` measures that steering does no harm from good settings.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.shared import run_study
from rudder.agents.controller.report import read_reports
from rudder.bench.link import change_rate
from rudder.bench.plan import BenchPlan
from rudder.bench.results import BenchReport, TurnDone
from rudder.bench.run import run
from rudder.bench.variants import Variant
from rudder.cli.commands.steer import budget
from rudder.cli.show.bench import TurnLines
from rudder.cli.show.progress import say
from rudder.memory.run.run_reader import RunReader, run_file, run_files
from rudder.training.config import run_config
from rudder.training.errors import ConfigError, MachineError

CANDIDATES = tuple(f"lookahead:buffer={share}" for share in ("0.1", "0.25", "0.5", "1.0"))
STEERED = "lookahead:buffer=0.25+controller=on"
HALF = "lookahead:buffer=0.125"
LOST = "lookahead:buffer=0.01+lookahead=0+eviction_threshold=0+controller=on"
BEFORE = 1
"""Rounds that count before a change."""
KINDS = ("rescue", "rate", "budget", "drift")


def measure(options: Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """A job per repeat: the epochs of the steered variant beside those of the best fixed one."""
    what = str(options.what)
    if what not in KINDS:
        raise ConfigError.for_field(
            "what", value=what, allowed=" or ".join(KINDS), remedy="name one of them"
        )
    is_rescue = what == "rescue"
    steered, fixed = (LOST, (_best(options),)) if is_rescue else (STEERED, CANDIDATES)
    fixed = (HALF,) if what == "budget" else fixed
    graph = "synthetic:drift" if what == "drift" else "synthetic:community-200k"
    config = run_config(
        dataset=options.dataset or graph, fanout=options.fanout or None, controller="none",
        hosts=options.hosts, batch_size=options.batch_size,
    )  # fmt: skip
    rate = options.rate or ("1gbit" if what == "rate" else "200mbit")
    plan = BenchPlan(
        variants=tuple(Variant(text=text) for text in (*fixed, steered)),
        repeats=1 if is_rescue else BEFORE + 2,
        epochs_per_turn=options.epochs or (5 if is_rescue else 3),
    )
    last = [turn for turn in plan.turns if turn.round == BEFORE][-1]
    out = Path(options.out or time.strftime("runs/steering-%Y%m%d-%H%M%S"))
    tell = TurnLines()
    for repeat in range(options.repeats):
        job = out / f"{what}{repeat}"
        own = job / f"rate-{rate}" / plan.folder_of(Variant(text=steered))

        def watch(done: TurnDone, report: BenchReport, own: Path = own) -> None:
            tell(done, report)
            if done.turn == last and what == "rate":
                change_rate(options.to)
            if done.turn == last and what == "budget":
                _halve_budget(own)

        report = run(plan, config, rates=[rate], out=job, say=say, watch=watch)
        if report.skipped:
            raise MachineError(report.skipped[0].reason, remedy=report.skipped[0].remedy)
        first = 0 if is_rescue else BEFORE + 1
        found = _speeds(report, own, steered, fixed, first=first, best_from=max(first, 1))
        yield {"dataset": report.dataset, "rate": rate, "what": what, "repeat": repeat, **found}


def _best(options: Namespace) -> str:
    if options.grid:
        return BenchReport.model_validate_json(Path(options.grid).read_text()).best.variant
    if not options.best:
        raise ConfigError(
            "a rescue needs settings to compare with",
            remedy="give --best, or --grid with what `rudder bench grid` wrote",
        )
    return str(options.best)


def _speeds(
    report: BenchReport, own: Path, steered: str, fixed: tuple[str, ...], *, first: int,
    best_from: int,
) -> dict[str, Any]:  # fmt: skip
    """first, best_from: rounds from which the steered and the fixed variants' epochs count."""
    turns = {each.variant: each.epochs_of_turns for each in report.results}
    # A turn begins with empty queues and samples nothing beyond its end: epochs are compared
    # at the same place of a turn.
    medians = {
        text: [statistics.median(place) for place in zip(*turns[text][best_from:], strict=False)]
        for text in fixed
    }
    best = min(medians, key=lambda text: sum(medians[text]))
    counted = turns[steered][first:]
    counts = [each.counts for each in read_reports(own)]
    return {
        "best": best,
        "best_s": medians[best],
        "steered_s": [seconds for turn in counted for seconds in turn],
        "speed": [a / b for turn in counted for a, b in zip(medians[best], turn, strict=True)],
        "decisions": sum(each.decisions for each in counts),
        "applied": sum(each.applied for each in counts),
        "most": max(each.applied for each in counts),
        "capacity_rows": [_last_capacity(file) for file in run_files(own)],
        "rows_errors": [error for each in counts for error in each.rows_errors],
    }


def _last_capacity(file: Path) -> int | None:
    with RunReader(file) as reader:
        windows = reader.windows()
    return windows[-1].settings.capacity_rows if windows else None


def _halve_budget(own: Path) -> None:
    """The budget of the host becomes half of what the steered buffers hold."""
    with RunReader(run_file(own, rank=0)) as reader:
        workload = next(iter(reader.workloads().values()))
    held = workload.defaults.capacity_rows * workload.row_bytes * workload.trainers_on_host
    with contextlib.redirect_stdout(sys.stderr):  # standard output is for rows
        budget(own.parents[1], str(held // 2))


if __name__ == "__main__":
    run_study(
        __doc__, measure, positional=("what", None), dataset="", rate="", to="200mbit", best="",
        grid="", fanout="", hosts=2, batch_size=512, repeats=3, epochs=0, out="",
    )  # fmt: skip
