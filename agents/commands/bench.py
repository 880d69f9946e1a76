"""`rudder bench`: measurements that anyone can repeat."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rudder.agents.command_lists import BatchSize, Fanout, NumHosts
from rudder.agents.commands import bench_policy, bench_traffic

if TYPE_CHECKING:
    from rudder.training.bench.plan import BenchPlan
    from rudder.training.bench.results import BenchReport
    from rudder.training.config import RunConfig

app = typer.Typer(
    help="Measure loaders and policies side by side, on the same work, in the same run.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
app.command("policy")(bench_policy.policy)
app.command("traffic")(bench_traffic.traffic)


@app.command("epochs")
def epochs(
    dataset: Annotated[
        str, typer.Option(help="Graph: see `rudder prepare --help`.")
    ] = "synthetic:community-200k",
    data: Annotated[
        Path | None, typer.Option(help="Folder that `rudder prepare` wrote; instead of --dataset.")
    ] = None,
    hosts: NumHosts = 2,
    rate: Annotated[
        list[str] | None,
        typer.Option(help="Rate of each host's link: none, 1gbit, 200mbit; repeatable."),
    ] = None,
    variants: Annotated[
        str,
        typer.Option(help="What to compare: stock, a policy, or policy:key=value+key=value."),
    ] = "stock,lookahead",
    repeats: Annotated[int, typer.Option(help="Rounds that count.", min=1)] = 3,
    epochs_per_turn: Annotated[
        int, typer.Option(help="Epochs of a variant before the next one's turn.", min=1)
    ] = 2,
    floor: Annotated[
        bool, typer.Option("--floor", help="Add the limit: the same loop without feature reads.")
    ] = False,
    batch_size: BatchSize = None,
    fanout: Fanout = None,
    buffer: Annotated[
        str | None,
        typer.Option(help="Share of the halo, rows or bytes. [dim]\\[default: 0.25][/dim]"),
    ] = None,
    lookahead: Annotated[
        int | None, typer.Option(help="Batches that are sampled ahead. [dim]\\[default: 16][/dim]")
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
    network: Annotated[
        Literal["auto", "namespace", "loopback"], typer.Option(help="How hosts are kept apart.")
    ] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="New folder for results and logs; default: bench/<time>.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print bench.json, nothing else.")] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table as Markdown, nothing else.")
    ] = False,
) -> None:
    """Seconds of an epoch per rate and variant, which take turns in the same trainers.

    Example: rudder bench epochs --rate none --rate 200mbit --variants stock,lookahead --floor
    """
    from rudder.agents.bench_report import as_markdown, print_report
    from rudder.training.bench.plan import BenchPlan
    from rudder.training.bench.variants import parse_variants
    from rudder.training.config import run_config

    config = run_config(
        dataset=dataset, data=data, hosts=hosts, batch_size=batch_size, fanout=fanout,
        buffer=buffer, lookahead=lookahead, model=model, hidden=hidden,
        trainers_per_host=trainers_per_host, network=network,
    )  # fmt: skip
    plan = BenchPlan(
        variants=parse_variants(variants + ",floor" * floor),
        repeats=repeats,
        epochs_per_turn=epochs_per_turn,
    )
    report = run(plan, config, rates=rate or ["none"], out=out or _new_folder())
    if json:
        typer.echo(report.model_dump_json(indent=2))
    elif markdown:
        typer.echo(as_markdown(report), nl=False)
    else:
        print_report(report)


def run(plan: BenchPlan, config: RunConfig, *, rates: list[str], out: Path) -> BenchReport:
    """Prepare what is missing, measure, and write the report into `out`."""
    from rudder.agents.bench_plot import draw
    from rudder.agents.bench_progress import BenchProgress
    from rudder.agents.bench_report import write_report
    from rudder.agents.commands.train import data_of
    from rudder.agents.progress import say
    from rudder.training.bench.machine import Machine
    from rudder.training.bench.measure import check_rates, measure
    from rudder.training.bench.results import BenchReport
    from rudder.training.versions import installed_versions

    check_rates(rates)
    started = time.strftime("%Y-%m-%dT%H:%M:%S")
    data_dir, manifest = data_of(config)
    progress = BenchProgress(plan, num_ranks=config.num_trainers, say=say)
    measured = measure(
        plan,
        config,
        rates=rates,
        manifest=manifest,
        data_dir=data_dir,
        out=out,
        on_event=progress.on_event,
    )
    report = BenchReport(
        dataset=manifest.dataset,
        command=shlex.join(["rudder", *sys.argv[1:]]),
        started=started,
        results=measured.results,
        skipped=measured.skipped,
        repeats=plan.repeats,
        epochs_per_turn=plan.epochs_per_turn,
        network=measured.network,
        config=config.model_copy(update={"data": data_dir}),
        machine=Machine.here(),
        versions=installed_versions(),
    )
    out.mkdir(parents=True, exist_ok=True)
    say(f"results: {write_report(report, out)}, picture: {draw(report, out)}")
    return report


def _new_folder() -> Path:
    return Path("bench") / time.strftime("%Y%m%d-%H%M%S")
