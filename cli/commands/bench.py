"""`rudder bench`: measurements that anyone can repeat."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rudder.cli.commands import bench_grid, bench_harm, bench_planners, bench_policy, bench_traffic
from rudder.cli.help import App
from rudder.cli.options import (
    BatchSize,
    DataDir,
    EpochsPerTurn,
    Fanout,
    Graph,
    Network,
    NewFolder,
    NumHosts,
    Repeats,
)

if TYPE_CHECKING:
    from types import FrameType

    from rudder.bench.results import BenchReport


app = App("Measure loaders and policies side by side, on the same work, in the same run.")
app.command("policy")(bench_policy.policy)
app.command("traffic")(bench_traffic.traffic)
app.command("grid")(bench_grid.grid)
app.command("harm")(bench_harm.harm)
app.command("planners")(bench_planners.planners)


@app.callback()
def _end_in_order() -> None:
    """Measure loaders and policies side by side, on the same work, in the same run."""

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # what is measured is shown at the end
        signal.signal(signal.SIGTERM, leave)


@app.command("epochs")
def epochs(
    dataset: Graph = "synthetic:community-200k",
    data: DataDir = None,
    hosts: NumHosts = 2,
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
        bool, typer.Option("--floor", help="Add the limit: the same loop without feature reads.")
    ] = False,
    batch_size: BatchSize = None,
    fanout: Fanout = None,
    buffer: Annotated[
        str | None,
        typer.Option(help="auto, a share of the halo, rows or bytes. [dim]\\[default: auto][/dim]"),
    ] = None,
    lookahead: Annotated[
        int | None, typer.Option(help="Batches that are sampled ahead. [dim]\\[default: 40][/dim]")
    ] = None,
    model: Annotated[
        Literal["sage", "gat"] | None, typer.Option(help="[dim]\\[default: sage][/dim]")
    ] = None,
    hidden: Annotated[
        int | None, typer.Option(help="Width of a layer. [dim]\\[default: 64][/dim]")
    ] = None,
    trainers_per_host: Annotated[
        int | None, typer.Option(help="Trainers on each host. [dim]\\[default: 1][/dim]")
    ] = None,
    network: Network = "auto",
    out: NewFolder = None,
    json: Annotated[bool, typer.Option("--json", help="Print bench.json, nothing else.")] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table as Markdown, nothing else.")
    ] = False,
) -> None:
    """Seconds of an epoch per rate and variant, which take turns in the same trainers.

    Example: rudder bench epochs --rate none --rate 200mbit --variants stock,lookahead --floor
    """
    from rudder.bench.plan import BenchPlan
    from rudder.bench.run import new_folder, run
    from rudder.bench.variants import parse_variants
    from rudder.cli.show.bench import as_markdown, draw, print_report, tell_turn
    from rudder.cli.show.progress import say
    from rudder.training.config import run_config

    config = run_config(
        dataset=dataset, data=data, hosts=hosts, batch_size=batch_size, fanout=fanout,
        buffer=buffer, lookahead=lookahead, model=model, hidden=hidden,
        trainers_per_host=trainers_per_host, network=network, controller="none",
    )  # fmt: skip
    plan = BenchPlan(
        variants=parse_variants(variants + ",floor" * floor),
        repeats=repeats,
        epochs_per_turn=epochs_per_turn,
    )
    where = out or new_folder()

    def show(report: BenchReport) -> None:
        say(f"picture: {draw(report, where)}")
        if json:
            typer.echo(report.model_dump_json(indent=2))
        elif markdown:
            typer.echo(as_markdown(report), nl=False)
        else:
            print_report(report)

    run(plan, config, rates=rate or ["none"], out=where, say=say, watch=tell_turn, show=show)
