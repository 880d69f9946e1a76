"""`rudder train`: prepare, launch, train, report."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from rudder.cli.show.progress import say
from rudder.training.config import RunConfig, run_config
from rudder.training.machine import why_no_buffer
from rudder.training.steering_options import Objective, PlannerName
from rudder.training.workload import LivePolicy

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


_DEFAULTS = RunConfig()


def _help(name: str, text: str) -> str:
    default = getattr(_DEFAULTS, name)
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
    return text if default is None else f"{text} [dim]\\[default: {shown}][/dim]"


def train(
    dataset: Annotated[
        str | None, typer.Option(help=_help("dataset", "Graph: see `rudder prepare --help`."))
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder that `rudder prepare` wrote; instead of --dataset.")
    ] = None,
    hosts: Annotated[
        int | None, typer.Option(help=_help("hosts", "Local hosts, one partition each."))
    ] = None,
    trainers_per_host: Annotated[
        int | None, typer.Option(help=_help("trainers_per_host", "Trainers on each host."))
    ] = None,
    servers_per_host: Annotated[
        int | None, typer.Option(help=_help("servers_per_host", "Graph servers on each host."))
    ] = None,
    model: Annotated[
        Literal["sage", "gat"] | None, typer.Option(help=_help("model", "GraphSAGE or GAT."))
    ] = None,
    num_layers: Annotated[
        int | None, typer.Option(help="Layers; must match --fanout. Default: its length.")
    ] = None,
    hidden: Annotated[int | None, typer.Option(help=_help("hidden", "Width of a layer."))] = None,
    heads: Annotated[
        int | None, typer.Option(help=_help("heads", "Attention heads of gat."))
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(help=_help("dropout", "Dropout between layers."))
    ] = None,
    fanout: Annotated[
        str | None,
        typer.Option(help=_help("fanout", "Neighbours per layer, input layer first; -1: all.")),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help=_help("batch_size", "Seeds per trainer and step."))
    ] = None,
    epochs: Annotated[int | None, typer.Option(help=_help("epochs", "Epochs."))] = None,
    lr: Annotated[float | None, typer.Option(help=_help("lr", "Learning rate of Adam."))] = None,
    eval_every: Annotated[
        int | None,
        typer.Option(help=_help("eval_every", "Epochs between evaluations; 0: at the end only.")),
    ] = None,
    device: Annotated[
        Literal["cpu", "cuda"] | None, typer.Option(help=_help("device", "Where models live."))
    ] = None,
    loader: Annotated[
        Literal["rudder", "stock"] | None,
        typer.Option(help=_help("loader", "Rudder's loader, or plain DistDGL.")),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar=f"<{'|'.join(get_args(LivePolicy))}>",
            help=_help("policy", "What stays in the buffer."),
        ),
    ] = None,
    buffer: Annotated[
        str | None,
        typer.Option(help=_help("buffer", "A share of the halo (0.25), rows or bytes (64MiB).")),
    ] = None,
    lookahead: Annotated[
        int | None, typer.Option(help=_help("lookahead", "Batches that are sampled ahead."))
    ] = None,
    eviction_threshold: Annotated[
        float | None,
        typer.Option(
            help="Rows with more predicted uses per batch stay, 0 to 1. Default: the policy's own."
        ),
    ] = None,
    replacement_interval: Annotated[
        int | None,
        typer.Option(
            help=_help("replacement_interval", "Batches between rounds of score; 0: on request.")
        ),
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help=_help("alpha", "Decay of score's unused rows per batch."))
    ] = None,
    start: Annotated[
        Literal["empty", "degree", "random"] | None,
        typer.Option(help=_help("start", "Rows that score fetches first.")),
    ] = None,
    score_faithful: Annotated[
        bool | None,
        typer.Option(
            "--score-faithful/--no-score-faithful",
            help=_help("score_faithful", "score with the bugs of the published code."),
        ),
    ] = None,
    static_source: Annotated[
        Literal["degree", "presample", "vip"] | None,
        typer.Option(help=_help("static_source", "What static's set is chosen by.")),
    ] = None,
    controller: Annotated[
        Literal["on", "none"] | None,
        typer.Option(help=_help("controller", "Agents that steer the buffer while it trains.")),
    ] = None,
    planner: Annotated[
        PlannerName | None,
        typer.Option(
            help=_help("planner", "Who proposes changes; adversarial, for tests: the worst ones.")
        ),
    ] = None,
    planner_model: Annotated[
        Path | None, typer.Option(help="File that `rudder fit` wrote, for a fitted planner.")
    ] = None,
    planner_refit_every: Annotated[
        int | None, typer.Option(help="Measured changes after which a fitted planner learns on.")
    ] = None,
    collect: Annotated[
        bool, typer.Option("--collect", help="Explore, to have something to fit: planner collect.")
    ] = False,
    objective: Annotated[
        Objective | None,
        typer.Option(help=_help("objective", "What steering makes least.")),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(help=_help("tolerance", "Slowdown that a smaller buffer may cost.")),
    ] = None,
    memory_budget: Annotated[
        str | None,
        typer.Option(help="Bytes of all buffers of a host: 2GiB. Default: what it has left."),
    ] = None,
    memory: Annotated[
        Path | None,
        typer.Option(help="File of past episodes, or `none`. Default: the user's own."),
    ] = None,
    llm: Annotated[
        str | None,
        typer.Option(help="Address of an OpenAI-compatible model that plans, up to /v1."),
    ] = None,
    llm_model: Annotated[str | None, typer.Option(help="The model's name there.")] = None,
    llm_roles: Annotated[
        str | None,
        typer.Option(
            help="Roles that ask it: observer,planner,critic. [dim]\\[default: planner][/dim]"
        ),
    ] = None,
    llm_deadline: Annotated[
        float | None,
        typer.Option(help=_help("llm_deadline", "Seconds for all questions of a decision.")),
    ] = None,
    llm_answer_tokens: Annotated[
        int | None,
        typer.Option(help=_help("llm_answer_tokens", "Tokens of one answer, with reasoning.")),
    ] = None,
    llm_extra: Annotated[
        str | None, typer.Option(help="JSON object of further fields of each request.")
    ] = None,
    llm_max_calls: Annotated[
        int | None, typer.Option(help=_help("llm_max_calls", "Questions of a trainer's run."))
    ] = None,
    llm_max_tokens: Annotated[
        int | None, typer.Option(help=_help("llm_max_tokens", "Tokens of a trainer's run."))
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help=_help("seed", "Seed of model, order and sampling."))
    ] = None,
    record_trace: Annotated[
        bool | None,
        typer.Option(
            "--record-trace/--no-record-trace",
            help=_help("record_trace", "Keep each rank's remote ids for `rudder simulate`."),
        ),
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Folder of the run; default: runs/<time>-<dataset>.")
    ] = None,
    network: Annotated[
        Literal["auto", "namespace", "loopback"] | None,
        typer.Option(help=_help("network", "How local hosts are kept apart.")),
    ] = None,
    rate: Annotated[
        str | None, typer.Option(help="Rate of each host's link: 200mbit, 1gbit. Default: free.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="First port; default: a free one.")] = None,
    start_timeout: Annotated[
        float | None,
        typer.Option(help=_help("start_timeout", "Seconds until all trainers must train.")),
    ] = None,
    stall_timeout: Annotated[
        float | None,
        typer.Option(help=_help("stall_timeout", "Seconds without progress that end a run.")),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with these names; the command line wins.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print summary.json, nothing else.")] = False,
) -> None:
    """Train a GNN on real DistDGL: servers and trainers as processes, on local hosts.

    Example: rudder train --dataset synthetic:tiny --hosts 2 --rate 200mbit --epochs 3
    """
    options = {
        name: value for name, value in locals().items() if name not in ("config", "json", "collect")
    }
    from rudder.agents.learned.planner import check_model
    from rudder.agents.llm.endpoint import check_endpoint
    from rudder.cli.show.summary import print_summary

    options["planner"] = _collecting(planner) if collect else planner
    options["llm_roles"] = tuple(llm_roles.split(",")) if llm_roles else None
    effective = run_config(config, **options)
    check_model(effective.planner, effective.planner_model)
    check_endpoint(effective.steering)
    run(effective, show=_print_json if json else print_summary)


def _collecting(planner: str | None) -> str:
    """The planner of `--collect`, which leaves no choice of another."""
    from rudder.training.errors import ConfigError

    if planner not in (None, "collect"):
        raise ConfigError.for_field(
            "planner",
            value=planner,
            allowed="with collect none but collect",
            remedy="leave out --collect, or --planner",
        )
    return "collect"


def _print_json(summary: Summary) -> None:
    typer.echo(summary.model_dump_json(indent=2))


def run(config: RunConfig, *, show: Callable[[Summary], object]) -> Summary:
    """Prepare what is missing, train, show the run's summary and write it.

    Raises MachineError where that, or anything else of the record, cannot be written.
    """
    # MOVED
    # MOVED
    from rudder.cli.after_run import keep_record, steering_of
    from rudder.cli.show.display import make_display
    from rudder.cli.show.progress import say
    from rudder.cli.show.summary import summarise
    from rudder.training.job import Job
    from rudder.training.launch.run import launch
    from rudder.training.partition.prepare import data_of
    from rudder.training.versions import installed_versions

    data_dir, manifest = data_of(config, progress=say)
    run_dir = config.run_dir or new_run_dir(manifest.dataset)
    config = config.model_copy(update={"run_dir": run_dir, "data": data_dir})
    steered = run_dir if config.steering is not None else None
    tell_of_budget(config, row_bytes=manifest.row_bytes)
    with make_display(
        num_ranks=config.num_trainers, epochs=config.epochs, steered=steered
    ) as display:
        reports = launch(
            config,
            manifest=manifest,
            data_dir=data_dir,
            run_dir=run_dir,
            on_event=display.on_event,
        )
    summary = summarise(
        reports,
        evaluations=display.evaluations,
        config=config,
        dataset=manifest.dataset,
        run_dir=run_dir,
        network=Job.read(run_dir / "job.json").network,
        versions=installed_versions(),
        steering=steering_of(config, run_dir),
    )
    show(summary)
    keep_record(summary, config, run_dir)
    return summary
