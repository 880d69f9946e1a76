"""`rudder bench traffic`: what policies fetch on real runs of several graphs, beside the limit."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rudder.cli.options import (
    CAPACITIES,
    LOOKAHEAD,
    AsJson,
    BatchSize,
    Capacities,
    Fanout,
    Lookaheads,
    NumHosts,
    WarmEpochs,
)

if TYPE_CHECKING:
    from rudder.training.config import RunConfig


DATASETS = ("synthetic:community-200k", "synthetic:drift", "debian")
POLICIES = (
    "lookahead,lfu,lru,s3fifo,sieve,static:source=degree,static:source=presample,score:interval=32"
)


def traffic(
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            help="Graph: see `rudder prepare --help`; repeatable."
            f" [dim]\\[default: {', '.join(DATASETS)}][/dim]"
        ),
    ] = None,
    hosts: NumHosts = 2,
    batch_size: BatchSize = None,
    fanout: Fanout = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of each run. [dim]\\[default: 5][/dim]")
    ] = None,
    policies: Annotated[str, typer.Option(help="Policies with commas between them.")] = POLICIES,
    capacity: Capacities = CAPACITIES,
    lookahead: Lookaheads = LOOKAHEAD,
    warm_epochs: WarmEpochs = 1,
    out: Annotated[
        Path, typer.Option(help="Folder of recorded runs and pictures; runs there are used again.")
    ] = Path("runs/traffic"),
    json: AsJson = False,
) -> None:
    """Record a run of each graph, or use the one that is there, and replay it through policies.

    Example: rudder bench traffic --dataset synthetic:community-200k --dataset debian
    """
    from pydantic import RootModel

    from rudder.bench.results import write_json
    from rudder.cli.show import policies as figures
    from rudder.cli.show.policies import draw_traffic
    from rudder.cli.show.progress import say
    from rudder.training.config import run_config
    from rudder.training.simulate.study import Traffic

    asked = figures.question(policies, capacity, lookahead, warm_epochs=warm_epochs)
    configs = [
        run_config(dataset=name, hosts=hosts, batch_size=batch_size, fanout=fanout, epochs=epochs)
        for name in dataset or DATASETS
    ]
    answers: dict[str, list[Traffic]] = {}
    try:
        for config in configs:
            run_dir = recorded(config, out)
            _, rows = figures.simulate([run_dir], asked)
            answers[config.dataset] = rows
            write_json(RootModel[dict[str, list[Traffic]]](answers), out / "traffic.json")
            picture = run_dir.with_name(f"{run_dir.name}.png")
            draw_traffic(rows, picture, title=f"Rows fetched, {config.dataset}")
            if not json:
                figures.print_traffic(rows, title=config.dataset)
            say(f"run: {run_dir}, picture: {picture}")
    finally:
        if json and answers:
            report = RootModel[dict[str, list[Traffic]]](answers)
            typer.echo(report.model_dump_json(indent=2))


def recorded(config: RunConfig, out: Path) -> Path:
    """The folder of a whole recorded run of this config: one that is there, else a new one."""
    from rudder.cli.commands.train import run
    from rudder.cli.show.progress import say

    run_dir = next(folder for folder in _folders(config, out) if _is_whole(folder, config))
    if not run_dir.exists():
        say(f"recording {config.epochs} epochs of {config.dataset} into {run_dir}")
        run(
            config.model_copy(update={"run_dir": run_dir, "record_trace": True}),
            show=lambda _: None,
        )
    return run_dir


def _folders(config: RunConfig, out: Path) -> Iterator[Path]:
    """Where recordings of this config go; more than one, for the first may have been killed."""
    fanout = "-".join(map(str, config.fanout))
    text = f"{config.dataset}-{config.hosts}hosts-{config.batch_size}x{fanout}-{config.epochs}ep"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text)
    return itertools.chain([out / name], (out / f"{name}-{i}" for i in itertools.count(2)))


def _is_whole(folder: Path, config: RunConfig) -> bool:
    """Whether a run can be recorded there, or was, to its end."""
    from rudder.cli.show.summary import FILE_NAME

    traces = [folder / "traces" / f"rank{rank}.trace" for rank in range(config.num_trainers)]
    return not folder.exists() or all(file.exists() for file in (folder / FILE_NAME, *traces))
