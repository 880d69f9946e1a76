"""How fast steering finds good settings, in real jobs.

    python -m benchmarks.steering rescue --rate 200mbit --grid runs/grid/bench.json
    python -m benchmarks.steering change rate --rate 1gbit --to 200mbit

What is compared takes turns in the same job; benchmarks/README.md says what the columns mean.
`rudder bench harm` measures that steering does no harm from good settings.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import BaseModel, TypeAdapter

from rudder.agents.controller.report import read_reports
from rudder.bench.link import change_rate
from rudder.bench.plan import BenchPlan
from rudder.bench.results import BenchReport, TurnDone
from rudder.bench.run import run
from rudder.bench.variants import Variant
from rudder.cli.commands.steer import budget
from rudder.cli.show.bench import tell_turn
from rudder.cli.show.progress import say
from rudder.memory.run.run_reader import RunReader, run_file, run_files
from rudder.training.config import RunConfig, run_config
from rudder.training.errors import RudderError

CANDIDATES = tuple(f"lookahead:buffer={share}" for share in ("0.1", "0.25", "0.5", "1.0"))
STEERED = "lookahead:buffer=0.25+controller=on"
HALF = "lookahead:buffer=0.125"
LOST = "lookahead:buffer=0.01+lookahead=0+eviction_threshold=0+controller=on"
BEFORE = 1
"""Rounds that count before a change."""

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
Dataset = Annotated[str, typer.Option(help="Graph, see `rudder prepare --help`.")]
Rate = Annotated[str, typer.Option(help="Rate of each host's link: 200mbit, none.")]
Repeats = Annotated[int, typer.Option(help="Jobs: a rescue or a change happens once in each.")]
Epochs = Annotated[int, typer.Option(help="Epochs of a turn.")]
Fanout = Annotated[str | None, typer.Option(help="Neighbours per layer.")]
Out = Annotated[Path | None, typer.Option(help="New folder; default: runs/steering-<time>.")]
GRAPH, SLOW = "synthetic:community-200k", "200mbit"


class Speed(BaseModel):
    """The epochs of a steered variant beside those of the best fixed variant of the same job.

    speed: the best variant's seconds over the steered one's, per epoch, at the same place of a turn
    (1: as fast); best_s: that variant's median epochs, by place; applied, rows_errors: over all
    ranks; most: applied changes of the rank with most; capacity_rows: at the end, by rank.
    """

    dataset: str
    rate: str
    what: str
    repeat: int
    best: str
    best_s: tuple[float, ...]
    steered_s: tuple[float, ...]
    speed: tuple[float, ...]
    applied: int
    most: int
    capacity_rows: tuple[int | None, ...]
    rows_errors: tuple[float, ...]


@dataclass(frozen=True)
class Study:
    """Variants on one graph at one rate; `steered` is compared with the others."""

    config: RunConfig
    rate: str
    steered: str
    fixed: tuple[str, ...]
    what: str
    repeats: int
    out: Path

    def plan(self, *, repeats: int, epochs: int) -> BenchPlan:
        """The turns of a job."""
        variants = tuple(Variant(text=text) for text in (*self.fixed, self.steered))
        return BenchPlan(variants=variants, repeats=repeats, epochs_per_turn=epochs)

    def speeds(
        self, plan: BenchPlan, *, first: int, best_from: int, action: Callable[[Path], None] | None
    ) -> list[Speed]:
        """A job per repeat; first, best_from: rounds from which the steered variant's and the fixed
        variants' epochs count; action: called with the job's folder after round BEFORE."""
        rows = []
        for repeat in range(self.repeats):
            out = self.out / f"{self.what.replace(' ', '-')}{repeat}"
            folder = out / f"rate-{self.rate}"
            last = [turn for turn in plan.turns if turn.round == BEFORE][-1]

            def watch(
                done: TurnDone, report: BenchReport, folder: Path = folder, last: object = last
            ) -> None:
                tell_turn(done, report)
                if action is not None and done.turn == last:
                    action(folder)

            report = run(plan, self.config, rates=[self.rate], out=out, say=say, watch=watch)
            if report.skipped:
                raise SystemExit(f"rate {self.rate}: {report.skipped[0].reason}")
            steered = folder / plan.folder_of(Variant(text=self.steered))
            rows.append(self._speed(report, steered, repeat, first=first, best_from=best_from))
        return rows

    def _speed(
        self, report: BenchReport, steered: Path, repeat: int, *, first: int, best_from: int
    ) -> Speed:
        turns = {each.variant: each.epochs_of_turns for each in report.results}
        # A turn begins with empty queues and samples nothing beyond its end: epochs are compared
        # at the same place of a turn.
        medians = {
            text: tuple(
                statistics.median(place) for place in zip(*turns[text][best_from:], strict=False)
            )
            for text in self.fixed
        }
        best = min(medians, key=lambda text: sum(medians[text]))
        own = turns[self.steered][first:]
        counts = [each.counts for each in read_reports(steered)]
        return Speed(
            dataset=report.dataset,
            rate=self.rate,
            what=self.what,
            repeat=repeat,
            best=best,
            best_s=medians[best],
            steered_s=tuple(seconds for turn in own for seconds in turn),
            speed=tuple(a / b for turn in own for a, b in zip(medians[best], turn, strict=True)),
            applied=sum(each.applied for each in counts),
            most=max(each.applied for each in counts),
            capacity_rows=tuple(map(_last_capacity, run_files(steered))),
            rows_errors=tuple(error for each in counts for error in each.rows_errors),
        )


@app.command()
def rescue(
    dataset: Dataset = GRAPH, rate: Rate = SLOW,
    best: Annotated[str | None, typer.Option(help="Fixed variant to compare with.")] = None,
    grid: Annotated[
        Path | None, typer.Option(help="bench.json that names it, of `rudder bench grid`.")
    ] = None,
    repeats: Repeats = 3, epochs: Epochs = 5, fanout: Fanout = None, out: Out = None,
) -> None:  # fmt: skip
    """From 1 % of the halo, lookahead 0 and threshold 0: speed beside the grid's best point."""
    config, where = _config(dataset, fanout), _folder(out)
    if best is None and grid is None:
        raise SystemExit("error: give --best, or --grid with what `rudder bench grid` wrote")
    if grid is not None:
        best = BenchReport.model_validate_json(grid.read_text()).best.variant
    study = Study(config, rate, LOST, (best,), "rescue", repeats, where)
    plan = study.plan(repeats=1, epochs=epochs)
    _print(study.speeds(plan, first=0, best_from=1, action=None))


@app.command()
def change(
    what: Annotated[Literal["rate", "budget", "drift"], typer.Argument(help="What changes.")],
    dataset: Annotated[
        str | None, typer.Option(help="Default: community-200k; drift for `drift`.")
    ] = None,
    rate: Annotated[
        str | None, typer.Option(help="At first. Default: 1gbit for `rate`, else 200mbit.")
    ] = None,
    to: Annotated[str, typer.Option(help="The rate after the change of `rate`.")] = SLOW,
    repeats: Repeats = 3, epochs: Epochs = 3, fanout: Fanout = None, out: Out = None,
) -> None:  # fmt: skip
    """Something changes while the job goes on: speed beside the best fixed settings after it."""
    graph = dataset or ("synthetic:drift" if what == "drift" else GRAPH)
    fixed = (HALF,) if what == "budget" else CANDIDATES
    name = f"rate to {to}" if what == "rate" else what
    first_rate = rate or ("1gbit" if what == "rate" else SLOW)
    config = _config(graph, fanout)
    study = Study(config, first_rate, STEERED, fixed, name, repeats, _folder(out))
    plan = study.plan(repeats=BEFORE + 2, epochs=epochs)
    actions = {
        "rate": lambda job: change_rate(to),
        "budget": lambda job: _halve_budget(job, plan),
        "drift": None,
    }
    after = BEFORE + 1
    _print(study.speeds(plan, first=after, best_from=after, action=actions[what]))


def _print(rows: list[Speed]) -> None:
    print(TypeAdapter(list[Speed]).dump_json(rows, indent=2).decode())


def _last_capacity(file: Path) -> int | None:
    with RunReader(file) as reader:
        windows = reader.windows()
    return windows[-1].settings.capacity_rows if windows else None


def _halve_budget(job: Path, plan: BenchPlan) -> None:
    """The budget of the host becomes half of what the steered buffers hold."""
    folder = job / plan.folder_of(Variant(text=STEERED))
    with RunReader(run_file(folder, rank=0)) as reader:
        workload = next(iter(reader.workloads().values()))
    held = workload.defaults.capacity_rows * workload.row_bytes * workload.trainers_on_host
    with contextlib.redirect_stdout(sys.stderr):  # standard output is for rows
        budget(job, str(held // 2))


def _config(dataset: str, fanout: str | None) -> RunConfig:
    return run_config(dataset=dataset, fanout=fanout, controller="none")


def _folder(out: Path | None) -> Path:
    return out or Path("runs") / time.strftime("steering-%Y%m%d-%H%M%S")


if __name__ == "__main__":
    try:
        app()
    except RudderError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(error.exit_code) from None
