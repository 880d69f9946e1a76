"""`rudder bench harm`: whether steering makes training slower than leaving it alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rudder.cli.options import BatchSize, EpochsPerTurn, Fanout, NewFolder, NumHosts, Repeats

if TYPE_CHECKING:
    from rich.table import Table

    from rudder.bench.harm import HarmReport


def harm(
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            help="Graph; repeatable. [dim]\\[default: tiny, community-200k, debian, drift,"
            " products-s][/dim]"
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
        typer.Option(help="Settings of both, as in buffer=0.25+lookahead=40. Default: train's."),
    ] = "",
    repeats: Repeats = 7,
    epochs_per_turn: EpochsPerTurn = 3,
    hosts: NumHosts = 2,
    batch_size: BatchSize = None,
    fanout: Fanout = None,
    out: NewFolder = None,
    json: Annotated[bool, typer.Option("--json", help="Print harm.json, nothing else.")] = False,
) -> None:
    """Compare steered with unsteered training from the same start, for each graph and rate.

    Both take turns in the same job. A round's speed is the unsteered seconds over the steered ones;
    shown are its median and, from 6 rounds on, a 95 % interval. The whole table takes an hour.

    Example: rudder bench harm --dataset synthetic:tiny --rate 200mbit
    """
    from rich.console import Console

    from rudder.bench.harm import DATASETS, RATES, measure_harm
    from rudder.bench.run import new_folder
    from rudder.cli.show.bench import tell_turn
    from rudder.cli.show.progress import say
    from rudder.training.config import run_config

    configs = [
        run_config(
            dataset=name, hosts=hosts, batch_size=batch_size, fanout=fanout, controller="none"
        )
        for name in dataset or DATASETS
    ]

    def show(report: HarmReport) -> None:
        if not report.is_complete:
            say("stopped before the end; these are the cases and rounds up to there")
        if json:
            typer.echo(report.model_dump_json(indent=2))
        else:
            Console().print(table_of(report), highlight=False)

    measure_harm(
        configs, rates=rate or RATES, start=start, repeats=repeats, epochs=epochs_per_turn,
        out=out or new_folder(), say=say, watch=tell_turn, show=show,
    )  # fmt: skip


def table_of(report: HarmReport) -> Table:
    """One line a case: the speed of steered training over that of unsteered training."""
    from rich.table import Table

    from rudder.cli.show import figures

    table = Table(box=None, pad_edge=False)
    for name in ("dataset", "rate"):
        table.add_column(name, overflow="fold")
    for name in ("unsteered s", "speed", "interval", "rounds", "changes", "core", "verdict"):
        table.add_column(name, justify="right", no_wrap=True)
    for case in report.cases:
        interval = case.interval
        table.add_row(
            case.dataset,
            case.rate,
            figures.seconds(case.unsteered_seconds),
            f"{case.speed:.3f}",
            f"{interval.low:.3f} - {interval.high:.3f} ({interval.confidence:.0%})",
            figures.count(len(case.speeds)),
            figures.count(case.applied),
            figures.percent(case.core),
            case.verdict,
        )
    return table
