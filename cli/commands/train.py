"""`rudder train`: prepare, launch, train, report."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rudder.cli.options import AsJson, settings, with_options
from rudder.cli.show.progress import say
from rudder.training.config import RunConfig, run_config
from rudder.training.machine import why_no_buffer
from rudder.training.model.own import OwnModel

if TYPE_CHECKING:
    from rudder.training.metrics import Summary


def tell_of_budget(config: RunConfig, *, row_bytes: int) -> None:
    """Tell where a steered run's memory budget leaves no buffer; the run goes on without one."""
    if config.steering is None:
        return
    budget = config.steering.memory_budget_bytes
    if problem := why_no_buffer(budget, trainers=config.trainers_per_host, row_bytes=row_bytes):
        say(problem)


def new_run_dir(dataset: str, *, parent: Path = Path("runs")) -> Path:
    """A path that does not exist yet: runs/<date>-<time>-<dataset>."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", dataset).strip("-")
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    candidates = itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2)))
    return next(path for name in candidates if not (path := parent / name).exists())


ERROR_FILE = "error.txt"
"""In the run's folder: why the run failed, also where nobody read standard error."""


@with_options(settings())
def train(
    *,
    collect: Annotated[
        bool,
        typer.Option(
            "--collect",
            help="Explore settings, to have something to fit: planner collect.",
            rich_help_panel="Steering",
        ),
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with these names; the command line wins.", rich_help_panel="Run"
        ),
    ] = None,
    json: AsJson = False,
    **options: Any,
) -> None:
    """Train a GNN on real DistDGL: servers and trainers as processes, on local hosts.

    Example: rudder train --dataset synthetic:tiny --hosts 2 --rate 200mbit --epochs 3
    """
    from rudder.agents.team import check_models
    from rudder.cli.show.summary import print_summary

    if collect:
        options["planner"] = _collecting(options["planner"])
    roles = options["llm_roles"]
    options["llm_roles"] = tuple(roles.split(",")) if roles else None
    effective = run_config(config, **options)
    check_models(effective.steering)
    run(effective, show=_print_json if json else print_summary)


def _collecting(planner: str | None) -> str:
    """The planner of `--collect`, which leaves no choice of another."""
    from rudder.training.errors import ConfigError

    if planner not in (None, "collect"):
        raise ConfigError.for_field(
            "planner",
            value=planner,
            allowed="with --collect only collect",
            remedy="leave out --collect, or --planner",
        )
    return "collect"


def _print_json(summary: Summary) -> None:
    typer.echo(summary.model_dump_json(indent=2))


def run(config: RunConfig, *, show: Callable[[Summary], object]) -> Summary:
    """Prepare what is missing, train, write the run's summary and show it.

    Raises MachineError where that, or anything else of the record, cannot be written; RunError,
    also written to `error.txt` in the run's folder, where the run failed.
    """
    from rudder.cli.after_run import keep_record, steering_of
    from rudder.cli.show.display import make_display
    from rudder.cli.show.progress import say
    from rudder.cli.show.summary import summarise
    from rudder.training.errors import RunError
    from rudder.training.job import Job
    from rudder.training.launch.run import launch
    from rudder.training.partition.prepare import data_of, fitted
    from rudder.training.versions import installed_versions

    if own := OwnModel.parse(config.model):
        own.check()
    graph = data_of(config, progress=say)
    run_dir = config.run_dir or new_run_dir(graph.dataset)
    config = fitted(config, graph).model_copy(update={"run_dir": run_dir})
    steered = run_dir if config.steering is not None else None
    tell_of_budget(config, row_bytes=graph.row_bytes)
    try:
        with make_display(
            num_ranks=config.num_trainers, epochs=config.epochs, steered=steered
        ) as display:
            reports = launch(
                config,
                graph=graph,
                run_dir=run_dir,
                on_event=display.on_event,
            )
    except RunError as error:
        with suppress(OSError):
            (run_dir / ERROR_FILE).write_text(f"{error}\n")
        raise
    summary = summarise(
        reports,
        evaluations=display.evaluations,
        config=config,
        dataset=graph.dataset,
        run_dir=run_dir,
        network=Job.read(run_dir / "job.json").network,
        versions=installed_versions(),
        steering=steering_of(config, run_dir),
    )
    try:
        keep_record(summary, config, run_dir)
    finally:
        show(summary)
    return summary
