"""`rudder demo`: the same training with plain DistDGL and with Rudder, on a slow link."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rudder.cli.options import long_command
from rudder.cli.show.progress import say
from rudder.training.config import RunConfig, run_config


@long_command
def demo(
    rate: Annotated[str, typer.Option(help="Rate of the link between the two hosts.")] = "200mbit",
    epochs: Annotated[int, typer.Option(help="Epochs of each run.", min=2)] = 3,
    dataset: Annotated[
        str, typer.Option(help="Graph: see `rudder prepare --help`.")
    ] = "synthetic:community-200k",
) -> None:
    """Train with plain DistDGL and with Rudder over a slow link, and compare: takes 2 minutes.

    Where this machine cannot limit a link, both train without a limit.

    Example: rudder demo --rate 1gbit --epochs 5
    """
    from rich.console import Console

    from rudder.cli.commands.train import new_run_dir, run
    from rudder.cli.show.report import write_report
    from rudder.cli.show.runs import comparison
    from rudder.memory.run.run_folder import RunFacts, StoredRun
    from rudder.training.doctor import check_rate_limit

    limit = check_rate_limit()
    if limit.state != "ok":
        say(f"{limit.found}; {limit.remedy}")
    runs = new_run_dir("demo")
    folders = [runs.with_name(f"{runs.name}-{loader}") for loader in ("stock", "rudder")]
    for folder, who in zip(folders, ("plain DistDGL", "Rudder, steered"), strict=True):
        say(f"-- {who}: {epochs} epochs")
        config = _config(folder, dataset, rate if limit.state == "ok" else None, epochs)
        run(config, show=lambda summary: None)
    stored = [StoredRun(folder) for folder in folders]
    Console().print(comparison([RunFacts.of(each) for each in stored]), highlight=False)
    page = runs.with_suffix(".html")
    write_report(stored, page)
    typer.echo(f"both over time, with each decision and its story: {page}")


def _config(folder: Path, dataset: str, rate: str | None, epochs: int) -> RunConfig:
    """Nothing of earlier runs helps, so that what is seen is what a first run gives."""
    return run_config(
        None, loader=folder.name.rpartition("-")[2], run_dir=folder, dataset=dataset, rate=rate,
        epochs=epochs, memory=Path("none"), checkpoint_every="none",
    )  # fmt: skip
