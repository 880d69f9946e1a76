"""Whether steering helps, and does no harm: measured in real jobs, beside fixed settings.

    python benchmarks/steering.py harm --dataset synthetic:community-200k --rate 200mbit
    python benchmarks/steering.py rescue --rate 200mbit --grid runs/grid/grid.json --json

What is compared takes turns in the same job; benchmarks/README.md says what the columns mean.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer
from steered import change as changes
from steered.adversary import adversary as measure_adversary
from steered.adversary import live_adversary
from steered.estimate_error import estimate_error as measure_estimate_error
from steered.harm import harm as measure_harm
from steered.job import Work
from steered.kills import kills as measure_kills
from steered.rescue import rescue as measure_rescue
from steered.show import show
from steered.thrift import thrift as measure_thrift

from rudder.bench.grid import GridReport
from rudder.bench.plan import BenchPlan
from rudder.bench.run import run
from rudder.cli.commands.bench_grid import CAPACITIES, LOOKAHEADS, grid_of
from rudder.cli.show.bench import read_grid, write_grid
from rudder.cli.show.progress import say
from rudder.training.errors import RudderError

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
Dataset = Annotated[str, typer.Option(help="Graph, see `rudder prepare --help`.")]
Rate = Annotated[str, typer.Option(help="Rate of each host's link: 200mbit, none, loopback.")]
Repeats = Annotated[int, typer.Option(help="Rounds that count, or jobs where one is one case.")]
Epochs = Annotated[int, typer.Option(help="Epochs of a turn.")]
Fanout = Annotated[str | None, typer.Option(help="Neighbours per layer.")]
BatchSize = Annotated[int | None, typer.Option(help="Seeds per trainer and step.")]
Out = Annotated[Path | None, typer.Option(help="New folder; default: runs/steering-<time>.")]
Json = Annotated[bool, typer.Option("--json", help="Print rows as JSON, nothing else.")]
GRAPH, SLOW = "synthetic:community-200k", "200mbit"


@app.command()
def harm(
    dataset: Dataset = GRAPH, rate: Rate = SLOW, settings: str = "buffer=0.25+lookahead=40",
    repeats: Repeats = 5, epochs: Epochs = 3, fanout: Fanout = None, batch_size: BatchSize = None,
    out: Out = None, json: Json = False,
) -> None:  # fmt: skip
    """From good settings: left alone, watched (planner fixed), and steered."""
    work = Work(dataset, rate, fanout, batch_size)
    rows = measure_harm(work, settings=settings, repeats=repeats, epochs=epochs, out=_folder(out))
    show(rows, as_json=json)


@app.command()
def rescue(
    dataset: Dataset = GRAPH, rate: Rate = SLOW,
    best: Annotated[str | None, typer.Option(help="Fixed variant to compare with.")] = None,
    grid: Annotated[
        Path | None, typer.Option(help="grid.json that names it; default: measure the grid now.")
    ] = None,
    repeats: Repeats = 3, epochs: Epochs = 5, fanout: Fanout = None, batch_size: BatchSize = None,
    out: Out = None, json: Json = False,
) -> None:  # fmt: skip
    """From 1 % of the halo, lookahead 0 and threshold 0: speed beside the grid's best point."""
    work, where = Work(dataset, rate, fanout, batch_size), _folder(out)
    if best is None:
        report = read_grid(grid) if grid is not None else _measure_grid(work, where / "grid")
        best = report.best.variant
    rows = measure_rescue(work, best=best, repeats=repeats, epochs=epochs, out=where)
    show(rows, as_json=json)


@app.command()
def thrift(
    dataset: Dataset = GRAPH, rate: Rate = "loopback", buffer: str = "0.25",
    repeats: Repeats = 5, epochs: Epochs = 3, fanout: Fanout = None, batch_size: BatchSize = None,
    out: Out = None, json: Json = False,
) -> None:  # fmt: skip
    """Where the buffer hides all communication: memory given back, and what it costs."""
    work = Work(dataset, rate, fanout, batch_size)
    rows = measure_thrift(work, buffer=buffer, repeats=repeats, epochs=epochs, out=_folder(out))
    show(rows, as_json=json)


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
    repeats: Repeats = 3, epochs: Epochs = 3, fanout: Fanout = None, batch_size: BatchSize = None,
    out: Out = None, json: Json = False,
) -> None:  # fmt: skip
    """Something changes while the job goes on: speed beside the best fixed settings after it."""
    graph = dataset or ("synthetic:drift" if what == "drift" else GRAPH)
    work = Work(graph, rate or ("1gbit" if what == "rate" else SLOW), fanout, batch_size)
    where = _folder(out)
    if what == "rate":
        rows = changes.cut_rate(work, to=to, repeats=repeats, epochs=epochs, out=where)
    elif what == "budget":
        rows = changes.halve_budget(work, repeats=repeats, epochs=epochs, out=where)
    else:
        rows = changes.drift(work, repeats=repeats, epochs=epochs, out=where)
    show(rows, as_json=json)


@app.command()
def estimate_error(
    folders: Annotated[list[Path], typer.Argument(help="Runs and benchmarks, or above them.")],
    json: Json = False,
) -> None:
    """Share of applied changes whose rows fetched were foreseen within 5 %."""
    show(measure_estimate_error(folders), as_json=json)


@app.command()
def kills(
    dataset: Dataset = "synthetic:tiny", rate: Rate = "none",
    signals: Annotated[int, typer.Option(help="SIGKILL and SIGSTOP, over all runs.")] = 50,
    pause: Annotated[float, typer.Option(help="Mean seconds between two of them.")] = 6.0,
    epochs: Annotated[int, typer.Option(help="Epochs of a run.")] = 150,
    fanout: Fanout = None, batch_size: BatchSize = None, out: Out = None, json: Json = False,
) -> None:  # fmt: skip
    """Controllers die or stop at random moments: batches, accuracy and pace beside a calm run."""
    work = Work(dataset, rate, fanout, batch_size)
    rows = measure_kills(work, signals=signals, pause_s=pause, epochs=epochs, out=_folder(out))
    show(rows, as_json=json)


@app.command()
def adversary(
    seeds: Annotated[int, typer.Option(help="Simulated runs.")] = 20,
    windows: Annotated[int, typer.Option(help="Windows of 16 steps, of a simulated run.")] = 100,
    live: Annotated[bool, typer.Option("--live", help="In a real job, in turns.")] = False,
    dataset: Dataset = GRAPH, rate: Rate = SLOW, settings: str = "buffer=0.25+lookahead=40",
    repeats: Repeats = 4, epochs: Epochs = 3, fanout: Fanout = None, batch_size: BatchSize = None,
    out: Out = None, json: Json = False,
) -> None:  # fmt: skip
    """A planner that wants harm, beside the planner `fixed`: slowdown of the whole run.

    On a simulated trainer; the options from --dataset on are those of --live.
    """
    if not live:
        show(measure_adversary(seeds=seeds, windows=windows), as_json=json)
        return
    work = Work(dataset, rate, fanout, batch_size)
    rows = live_adversary(work, settings=settings, repeats=repeats, epochs=epochs, out=_folder(out))
    show(rows, as_json=json)


def _measure_grid(work: Work, out: Path) -> GridReport:
    grid = grid_of(CAPACITIES, LOOKAHEADS)
    plan = BenchPlan(variants=grid.variants, repeats=1, epochs_per_turn=2)
    report = GridReport.of(grid, run(plan, work.config, rates=[work.bench_rate], out=out, say=say))
    write_grid(report, out)
    return report


def _folder(out: Path | None) -> Path:
    return out or Path("runs") / time.strftime("steering-%Y%m%d-%H%M%S")


def main() -> None:
    try:
        app()
    except RudderError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
