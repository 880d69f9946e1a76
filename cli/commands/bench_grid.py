"""`rudder bench grid`: the best fixed settings, found by trying them all in one job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rudder.cli.options import (
    BatchSize,
    Capacities,
    DataDir,
    EpochsPerTurn,
    Fanout,
    Graph,
    Lookaheads,
    Network,
    NewFolder,
    NumHosts,
    Repeats,
)

if TYPE_CHECKING:
    from rudder.bench.grid import Grid
    from rudder.bench.results import BenchReport, TurnDone


CAPACITIES = "0.02,0.05,0.1,0.25,0.5,1.0"
LOOKAHEADS = "0,8,16,40"


def grid(
    dataset: Graph = "synthetic:community-200k",
    data: DataDir = None,
    hosts: NumHosts = 2,
    rate: Annotated[str, typer.Option(help="Rate of each host's link: none, 200mbit.")] = "none",
    capacity: Capacities = CAPACITIES,
    lookahead: Lookaheads = LOOKAHEADS,
    repeats: Repeats = 3,
    epochs_per_turn: EpochsPerTurn = 2,
    batch_size: BatchSize = None,
    fanout: Fanout = None,
    network: Network = "auto",
    out: NewFolder = None,
    json: Annotated[bool, typer.Option("--json", help="Print grid.json, nothing else.")] = False,
) -> None:
    """Seconds of an epoch for every capacity with every lookahead, which take turns in one job.

    Example: rudder bench grid --rate 200mbit --capacity 0.05,0.25 --lookahead 0,40
    """
    from rudder.bench.grid import GridReport
    from rudder.bench.plan import BenchPlan
    from rudder.bench.run import new_folder, run
    from rudder.cli.show.bench import draw, print_grid, tell_turn, write_grid
    from rudder.cli.show.progress import say
    from rudder.training.config import run_config
    from rudder.training.errors import MachineError

    points = grid_of(capacity, lookahead)
    config = run_config(
        dataset=dataset, data=data, hosts=hosts, batch_size=batch_size, fanout=fanout,
        network=network, controller="none",
    )  # fmt: skip
    plan = BenchPlan(variants=points.variants, repeats=repeats, epochs_per_turn=epochs_per_turn)
    where = out or new_folder()

    def watch(done: TurnDone, bench: BenchReport) -> None:
        tell_turn(done, bench)
        if bench.results:
            write_grid(GridReport.of(points, bench), where)

    def show(bench: BenchReport) -> None:
        if bench.skipped:
            raise MachineError(bench.skipped[0].reason, remedy=bench.skipped[0].remedy)
        say(f"picture: {draw(bench, where)}")
        report = GridReport.of(points, bench)
        if json:
            typer.echo(report.model_dump_json(indent=2))
        else:
            print_grid(report)

    run(plan, config, rates=[rate], out=where, say=say, watch=watch, show=show)


def grid_of(capacity: str, lookahead: str) -> Grid:
    """The grid that two lists name; raises ConfigError for what is no setting."""
    from rudder.bench.grid import Grid
    from rudder.cli.options import parts, whole_numbers
    from rudder.training.settings import MAX_LOOKAHEAD_BATCHES

    return Grid(
        capacities=tuple(parts("capacity", capacity)),
        lookaheads=whole_numbers("lookahead", lookahead, at_most=MAX_LOOKAHEAD_BATCHES),
    )
