"""`rudder bench`: measurements in real jobs that anyone can repeat."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rudder.bench.harm import DATASETS, RATES, HarmReport, measure_harm
from rudder.bench.plan import MAX_ROUNDS, BenchPlan
from rudder.bench.results import BenchReport
from rudder.bench.run import new_folder, run
from rudder.bench.variants import Grid, parse_variants
from rudder.cli.commands import bench_planners, policies
from rudder.cli.help import App
from rudder.cli.options import (
    LOCAL_HOSTS,
    AsJson,
    Capacities,
    Lookaheads,
    NewFolder,
    configs_of,
    long_command,
    parts,
    settings,
    whole_numbers,
    with_options,
)  # fmt: skip
from rudder.cli.show.bench import TurnLines, as_markdown, draw, grid_table, harm_table, report_text
from rudder.cli.show.progress import emit, say
from rudder.training.config import run_config
from rudder.training.errors import ConfigError
from rudder.training.settings import MAX_LOOKAHEAD_BATCHES

if TYPE_CHECKING:
    from types import FrameType

CAPACITIES = "0.02,0.05,0.1,0.25,0.5,1.0"
LOOKAHEADS = "0,8,16,40"
Repeats = Annotated[
    int, typer.Option(help="Rounds to measure, after one that warms up.", min=1, max=MAX_ROUNDS)
]
EpochsPerTurn = Annotated[
    int,
    typer.Option(help="Epochs of a variant before the next one's turn.", min=1, max=MAX_ROUNDS),
]
_WORK = settings("dataset", "data", "batch_size", "fanout", "network", hosts=LOCAL_HOSTS)
_OF_EPOCHS = settings(
    "trainers_per_host", "task", "max_seeds", "model", "hidden", "buffer", "lookahead"
)

app = App("Measure loaders and policies side by side, on the same work, in the same run.")
app.command("policy")(policies.policy)
app.command("traffic")(policies.traffic)
app.command("planners")(bench_planners.planners)


@app.callback()
def _end_in_order() -> None:
    """Measure loaders and policies side by side, on the same work, in the same run."""

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # what is measured is shown at the end
        signal.signal(signal.SIGTERM, leave)


@app.command("epochs")
@long_command
@with_options([*_WORK, *_OF_EPOCHS])
def epochs(
    *,
    rate: Annotated[
        list[str] | None,
        typer.Option(help="Rate of each host's link: none, 1gbit, 200mbit; repeatable."),
    ] = None,
    variants: Annotated[
        str,
        typer.Option(
            help="What to compare: stock, a policy, or policy:key=value+key=value; keys are the"
            " policy's own, buffer, lookahead, eviction_threshold, controller and planner."
        ),
    ] = "stock,lookahead",
    repeats: Repeats = 3,
    epochs_per_turn: EpochsPerTurn = 2,
    floor: Annotated[
        bool,
        typer.Option(
            "--floor", help="Also measure the limit: the same loop without feature reads."
        ),
    ] = False,
    out: NewFolder = None,
    json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print tables as Markdown.")] = False,
    **options: Any,
) -> None:
    """Measure the seconds per epoch of variants, which take turns in the same trainers.

    Example: rudder bench epochs --rate none --rate 200mbit --variants stock,lookahead --floor
    """
    chosen = parse_variants(variants + ",floor" * floor)
    plan = BenchPlan(variants=chosen, repeats=repeats, epochs_per_turn=epochs_per_turn)
    config, where = run_config(**options, controller="none"), out or new_folder()
    if floor and config.task == "link-prediction":
        raise ConfigError.for_field(
            "floor",
            value=True,
            allowed="a limit of node classification",
            remedy="leave out --floor",
        )

    def show(report: BenchReport) -> None:
        say(f"picture: {draw(report, where)}")
        if markdown and not json:
            typer.echo(as_markdown(report), nl=False)
        else:
            emit(report, report_text(report), json=json)

    run(plan, config, rates=rate or ["none"], out=where, say=say, watch=TurnLines(), show=show)


@app.command("grid")
@long_command
@with_options(_WORK)
def grid(
    *,
    rate: Annotated[str, typer.Option(help="Rate of each host's link: none, 200mbit.")] = "none",
    capacity: Capacities = CAPACITIES,
    lookahead: Lookaheads = LOOKAHEADS,
    repeats: Repeats = 3,
    epochs_per_turn: EpochsPerTurn = 2,
    out: NewFolder = None,
    json: AsJson = False,
    **options: Any,
) -> None:
    """Measure the seconds per epoch of every capacity with every lookahead, in one job.

    Example: rudder bench grid --rate 200mbit --capacity 0.05,0.25 --lookahead 0,40
    """
    points = grid_of(capacity, lookahead)
    plan = BenchPlan(variants=points.variants, repeats=repeats, epochs_per_turn=epochs_per_turn)
    config, where = run_config(**options, controller="none"), out or new_folder()

    def show(bench: BenchReport) -> None:
        say(f"picture: {draw(bench, where)}")
        emit(bench, grid_table(points, bench), json=json)

    run(plan, config, rates=[rate], out=where, say=say, watch=TurnLines(), show=show)


def grid_of(capacity: str, lookahead: str) -> Grid:
    """The grid of two lists; raises ConfigError for values that are no settings."""
    return Grid(
        capacities=tuple(parts("capacity", capacity)),
        lookaheads=whole_numbers("lookahead", lookahead, at_most=MAX_LOOKAHEAD_BATCHES),
    )


@app.command("harm")
@long_command
@with_options(settings("batch_size", "fanout", hosts=LOCAL_HOSTS))
def harm(
    *,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            help="Graph: see `rudder prepare --help`; repeatable."
            f" [dim]\\[default: {', '.join(DATASETS)}][/dim]"
        ),
    ] = None,
    rate: Annotated[
        list[str] | None,
        typer.Option(
            help="Rate of each host's link; repeatable."
            " [dim]\\[default: 200mbit, 1gbit, none][/dim]"
        ),
    ] = None,
    start: Annotated[
        str,
        typer.Option(help="Settings that both start with: buffer=0.25+lookahead=40."),
    ] = "",
    repeats: Annotated[
        int, typer.Option(help="Rounds of each case, in all; each job warms up first.", min=1)
    ] = 7,
    epochs_per_turn: EpochsPerTurn = 3,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for results and logs; earlier results there are continued."
            " Default: runs/bench-<time>."
        ),
    ] = None,
    json: AsJson = False,
    **options: Any,
) -> None:
    """Compare steered with unsteered training from the same start, for each graph and rate.

    Both take turns of at least 180 steps in the same job. A job has four rounds; in every second
    job the steered loader is made first. A round's speed is the unsteered seconds over the steered
    ones; shown are its median and, from 6 rounds on, an interval that has it at 95 % where rounds
    are independent. Jobs differ by a percent or two: take several of them for a close call. A case
    takes 2 to 6 minutes, all 15 more than an hour. Rates that this machine cannot give to a link
    are left out. Each finished round is kept: the same command with the same --out goes on where it
    was stopped, and with more --repeats it adds rounds to cases that are unclear.

    Example: rudder bench harm --dataset synthetic:tiny --rate 200mbit --out runs/harm
    """
    configs = configs_of(dataset or DATASETS, controller="none", **options)

    def show(report: HarmReport) -> None:
        if not report.is_complete:
            say("stopped before the end; these are the cases and rounds so far")
        emit(report, harm_table(report), json=json)

    measure_harm(
        configs, rates=rate or RATES, start=start, repeats=repeats, epochs=epochs_per_turn,
        out=out or new_folder(), say=say, watch=TurnLines(), show=show,
    )  # fmt: skip
