"""`rudder train`: prepare, launch, train, report."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rudder.cli.detached import Parting, part
from rudder.cli.options import AsJson, long_command, settings, with_options
from rudder.cli.show.progress import say, stages, this_clock
from rudder.training.config import RunConfig, run_config
from rudder.training.hosts.names import hosts_in
from rudder.training.machine import why_no_buffer
from rudder.training.model.own import OwnModel

if TYPE_CHECKING:
    from rudder.cli.head_keeper import HeadKeeper
    from rudder.training.events import Event
    from rudder.training.metrics import Summary
    from rudder.training.partitioned_graph import PartitionedGraph


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


@long_command
@with_options(settings())
def train(
    *,
    collect: Annotated[
        bool,
        typer.Option(
            "--collect",
            help="Try settings at random, for `rudder fit` to learn from: planner collect.",
            rich_help_panel="Steering",
        ),
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with these options; the command line overrides it.",
            rich_help_panel="Run",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Continue a run: its folder, or one of its checkpoints. Options that are given"
            " override those of the run.",
            rich_help_panel="Run",
        ),
    ] = None,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes", "-y", help="Do not ask before using --goal.", rich_help_panel="Steering"
        ),
    ] = False,
    hosts_file: Annotated[
        Path | None,
        typer.Option(
            help="Instead of --hosts: file with one machine on each line, as NAME or NAME ADDRESS.",
            rich_help_panel="Graph and hosts",
        ),
    ] = None,
    detach: Annotated[
        bool,
        typer.Option(
            "--detach",
            help="Print a line of JSON when all trainers train, and go on in the background:"
            " see `rudder runs wait`.",
            rich_help_panel="Run",
        ),
    ] = False,
    json: AsJson = False,
    **options: Any,
) -> None:
    """Train a GNN on real DistDGL: servers and trainers as processes, on local hosts or machines.

    Example: rudder train --dataset synthetic:tiny --hosts 2 --rate 200mbit --epochs 3
    """
    from rudder.cli.show.summary import print_summary
    from rudder.training.hosts.agent import run_agent
    from rudder.training.hosts.starters import NodePlace

    if collect:
        options["planner"] = _collecting(options["planner"])
    if hosts_file is not None:
        options["hosts"] = hosts_in(hosts_file)
    options |= slurm_hosts(os.environ, options)
    place = NodePlace.from_environment(os.environ) if options["launcher"] == "env" else None
    if place is not None and place.rank > 0:
        run_agent(place.head)
        return
    if options["goal"] is not None:
        from rudder.cli.goal import with_goal

        options = with_goal(options, yes=yes)
    roles = options["llm_roles"]
    options["llm_roles"] = tuple(roles.split(",")) if roles else None
    if resume is None:
        effective = run_config(config, **options)
    else:
        effective = config_of_resumed(resume, config_file=config, **options)
    if effective.steering is not None and effective.steering.names_model:
        from rudder.agents.team import check_models  # takes a second to import

        check_models(effective.steering)
    pipe = None
    if detach and (pipe := part()) is None:
        return
    show = _print_json if json else print_summary
    run(effective, show=show, resume=resume, foreground=pipe)


def config_of_resumed(resume: Path, *, config_file: Path | None, **options: Any) -> RunConfig:
    """The settings of the run that `--resume` names, with changes; raises ConfigError.

    One that has trained all its epochs needs more of them.
    """
    from rudder.memory.run.run_folder import SUMMARY_FILE
    from rudder.training.checkpoint.reader import resumed_config, run_of
    from rudder.training.errors import ConfigError

    for name, value in (("config", config_file), ("run_dir", options.get("run_dir"))):
        if value is not None:
            raise ConfigError.for_field(
                name, value=str(value), allowed="nothing beside --resume, which has both"
            )
    run_dir = run_of(resume)
    before, effective = resumed_config(run_dir), resumed_config(run_dir, **options)
    if (run_dir / SUMMARY_FILE).exists() and effective.epochs <= before.epochs:
        raise ConfigError.for_field(
            "epochs",
            value=effective.epochs,
            allowed=f"more than {before.epochs}, as {run_dir} is finished",
            remedy="train on with more --epochs, or use the model: see `rudder predict`",
        )
    return effective


def slurm_hosts(variables: Mapping[str, str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Inside an allocation of several Slurm nodes: one host on each, unless options say else."""
    nodes = variables.get("SLURM_JOB_NUM_NODES", "")
    if not nodes.isdecimal() or int(nodes) < 2 or options["hosts"] or options["network"]:
        return {}
    if options["launcher"] not in (None, "slurm"):
        return {}
    return {"hosts": int(nodes), "launcher": "slurm"}


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


def run(
    config: RunConfig,
    *,
    show: Callable[[Summary], object],
    resume: Path | None = None,
    foreground: int | None = None,
) -> Summary:
    """Prepare what is missing, train, write the run's summary and show it.

    resume: a run, or one of its checkpoints, to go on with; config has its folder; foreground: what
    `rudder.cli.detached.part` returned.
    Raises MachineError where that, or anything else of the record, cannot be written; RunError,
    also written to `error.txt` in the run's folder, where the run failed.
    """
    from rudder.cli.head_keeper import HeadKeeper
    from rudder.cli.tracking import check_trackers, tracking
    from rudder.memory.run.run_folder import ERROR_FILE
    from rudder.training.checkpoint.reader import find_checkpoint
    from rudder.training.partition.prepare import data_of, fitted

    if own := OwnModel.parse(config.model):
        own.check()
    keeper = HeadKeeper(config)
    check_trackers(config.track)
    with stages() as stage:
        graph = data_of(config, progress=stage.tell, count=stage.count)
    run_dir = config.run_dir or new_run_dir(graph.dataset)
    config = fitted(config, graph).model_copy(update={"run_dir": run_dir})
    checkpoint = None if resume is None else find_checkpoint(resume, config, graph)
    if checkpoint is not None:
        (run_dir / ERROR_FILE).unlink(missing_ok=True)
        say(f"going on after {checkpoint.manifest.step:,} steps, from {checkpoint.folder}")
    tell_of_budget(config, row_bytes=graph.row_bytes)
    if config.hours is not None and config.goal is None:
        say(f"schedule {config.hours}, by {this_clock()}")
    with tracking(config, run_dir) as note:
        watchers = [note]
        if foreground is not None:
            ranks = config.num_trainers
            watchers.append(Parting(foreground, num_ranks=ranks, run_dir=run_dir))
        return _train(
            config,
            graph=graph,
            run_dir=run_dir,
            watchers=watchers,
            keeper=keeper,
            show=show,
            resume_from=None if checkpoint is None else checkpoint.folder.absolute(),
        )


def _train(
    config: RunConfig,
    *,
    graph: PartitionedGraph,
    run_dir: Path,
    watchers: Sequence[Callable[[Event], None]],
    keeper: HeadKeeper,
    show: Callable[[Summary], object],
    resume_from: Path | None,
) -> Summary:
    """Train, and write summary and page; watchers: told of every event."""
    from rudder.cli.after_run import keep_record, keep_report, steering_of
    from rudder.cli.show.display import make_display
    from rudder.cli.show.summary import summarise
    from rudder.memory.run.run_folder import ERROR_FILE
    from rudder.training.checkpoint.format import checkpoints_of
    from rudder.training.errors import RunError, StoppedError
    from rudder.training.job import Job
    from rudder.training.launch.restarts import launch_with_restarts
    from rudder.training.steering_options import OWN_PLANNERS
    from rudder.training.versions import installed_versions
    from rudder.training.workload import OWN_POLICIES

    steered = run_dir if config.steering is not None else None
    try:
        with (
            make_display(
                num_ranks=config.num_trainers,
                epochs=config.epochs,
                steered=steered,
            ) as display,
            keeper.watch(run_dir),
        ):

            def tell_all(event: Event) -> None:
                for watch in (*watchers, display.on_event):
                    watch(event)

            reports = launch_with_restarts(
                config,
                graph=graph,
                run_dir=run_dir,
                on_event=tell_all,
                resume_from=resume_from,
                tell=say,
            )
    except StoppedError:
        raise
    except RunError as error:
        if checkpoints_of(run_dir):
            error.remedy += f"\n  to go on from a checkpoint: rudder train --resume {run_dir}"
        with suppress(OSError):
            (run_dir / ERROR_FILE).write_text(f"{error}\n")
        keep_report(run_dir)
        raise
    summary = summarise(
        reports,
        evaluations=display.evaluations,
        config=config,
        dataset=graph.dataset,
        run_dir=run_dir,
        network=Job.read(run_dir / "job.json").network,
        versions=installed_versions(
            OWN_POLICIES.package(config.policy), OWN_PLANNERS.package(config.planner)
        ),
        steering=steering_of(config, run_dir),
    )
    try:
        keep_record(summary, config, run_dir, check_heads=keeper.check)
    finally:
        show(summary)
        keep_report(run_dir)
    return summary
