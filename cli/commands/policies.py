"""`rudder simulate`, `bench traffic` and `bench policy`: buffer policies without a live loader."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import RootModel

from rudder.bench import policy_cost
from rudder.bench.policy_cost import Cost
from rudder.bench.results import results_in, write_json
from rudder.bench.run import new_folder
from rudder.cli.commands.train import run
from rudder.cli.options import (
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
)
from rudder.cli.show.policies import check_picture, cost_table, draw_traffic, traffic_table
from rudder.cli.show.progress import counting, emit, say
from rudder.memory.run.run_folder import SUMMARY_FILE
from rudder.training.config import BUFFER_FORMS, BufferSize, RunConfig
from rudder.training.errors import ConfigError
from rudder.training.settings import MAX_LOOKAHEAD_BATCHES
from rudder.training.simulate.recording import find_traces, read_recording
from rudder.training.simulate.study import Study, Traffic, answer

WarmEpochs = Annotated[
    int, typer.Option(help="First epochs that only fill the buffer, and are not counted.", min=0)
]
CAPACITIES = "0.05,0.15,0.25,0.5"
LOOKAHEAD = "40"
DATASETS = ("synthetic:community-200k", "synthetic:drift", "debian")
POLICIES = (
    "lookahead,lfu,lru,s3fifo,sieve,static:source=degree,static:source=presample,score:interval=32"
)


@long_command
def simulate(
    trace: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders of `rudder train --record-trace`, or trace files; rows are summed.",
            show_default=False,
        ),
    ],
    policies: Annotated[
        str,
        typer.Option(help="Policies, with commas between them; OPT, the limit, is always added."),
    ] = "lookahead",
    capacity: Capacities = CAPACITIES,
    lookahead: Lookaheads = LOOKAHEAD,
    warm_epochs: WarmEpochs = 0,
    picture: Annotated[
        Path | None, typer.Option(help="Draw rows fetched against capacity (.png, .svg, .pdf).")
    ] = None,
    json: AsJson = False,
) -> None:
    """Replay recorded runs through buffer policies and the theoretical limit, without a cluster.

    Example: rudder simulate runs/demo --capacity 0.05,0.25 --picture demo.png
    """
    asked = study(policies, capacity, lookahead, warm_epochs=warm_epochs)
    if picture is not None:
        check_picture(picture)
    rows = _replayed(trace, asked)
    title = f"Rows fetched of {', '.join(map(str, trace))}"
    if picture is not None:
        draw_traffic(rows, picture, title=title)
    emit(rows, traffic_table(rows, title=title), json=json)


@long_command
@with_options(settings("hosts", "batch_size", "fanout", "epochs"))
def traffic(
    *,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            help="Graph: see `rudder prepare --help`; repeatable."
            f" [dim]\\[default: {', '.join(DATASETS)}][/dim]"
        ),
    ] = None,
    policies: Annotated[str, typer.Option(help="Policies with commas between them.")] = POLICIES,
    capacity: Capacities = CAPACITIES,
    lookahead: Lookaheads = LOOKAHEAD,
    warm_epochs: WarmEpochs = 1,
    out: Annotated[
        Path, typer.Option(help="Folder of recorded runs and pictures; runs there are used again.")
    ] = Path("runs/traffic"),
    json: AsJson = False,
    **options: Any,
) -> None:
    """Record a run of each graph, or use the one that is there, and replay it through policies.

    Example: rudder bench traffic --dataset synthetic:community-200k --dataset debian
    """
    asked = study(policies, capacity, lookahead, warm_epochs=warm_epochs)
    configs = configs_of(dataset or DATASETS, **options)
    answers: dict[str, list[Traffic]] = {}
    try:
        for config in configs:
            run_dir = recorded_run(config, out)
            rows = answers[config.dataset] = _replayed([run_dir], asked)
            write_json(RootModel[dict[str, list[Traffic]]](answers), out / "traffic.json")
            picture = run_dir.with_name(f"{run_dir.name}.png")
            draw_traffic(rows, picture, title=f"Rows fetched, {config.dataset}")
            if not json:
                emit(rows, traffic_table(rows, title=config.dataset), json=False)
            say(f"run: {run_dir}, picture: {picture}")
    finally:
        if json and answers:
            emit(answers, "", json=True)


@long_command
def policy(
    policies: Annotated[
        str | None,
        typer.Option(help="Policies with commas between them. [dim]\\[default: all][/dim]"),
    ] = None,
    capacity: Annotated[
        str, typer.Option(help="Buffer sizes in rows; each policy is timed at all of them.")
    ] = "10000,100000,1000000",
    remote_nodes: Annotated[
        str, typer.Option(help="Numbers of remote nodes; each policy is timed at all of them.")
    ] = "100000,1000000,10000000",
    inputs: Annotated[
        int, typer.Option(help="Remote nodes of a batch, where buffer sizes are compared.", min=1)
    ] = 100_000,
    batches: Annotated[int, typer.Option(help="Batches that are timed.", min=1)] = 60,
    out: NewFolder = None,
    json: AsJson = False,
) -> None:
    """Measure the processor time of policies per batch, as buffer and graph grow.

    Example: rudder bench policy --policies lookahead,lfu --capacity 1000000
    """
    sizes = whole_numbers("remote_nodes", remote_nodes, at_least=100)
    capacities = whole_numbers("capacity", capacity, at_least=1)

    def show(report: RootModel[list[Cost]]) -> None:
        emit(report, cost_table(report.root), json=json)

    rows: list[Cost] = []
    variants = parts("policies", policies) if policies else policy_cost.VARIANTS
    with (
        results_in((out or new_folder()) / "policy.json", say=say, show=show) as keep,
        counting("timing", total=len(variants), unit="policies") as advance,
    ):
        for variant in variants:
            say(f"timing {variant}")
            rows += policy_cost.series(
                variant, capacities, sizes, inputs=inputs, num_batches=batches
            )
            keep(RootModel[list[Cost]](rows))
            advance(1)


def study(policies: str, capacity: str, lookahead: str, *, warm_epochs: int) -> Study:
    """Read the lists of the command line; raises ConfigError that names what is wrong."""
    try:
        capacities = tuple(map(BufferSize.parse, parts("capacity", capacity)))
    except ValueError:
        raise ConfigError.for_field("capacity", value=capacity, allowed=BUFFER_FORMS) from None
    return Study(
        policies=tuple(parts("policies", policies)),
        capacities=capacities,
        lookaheads=whole_numbers("lookahead", lookahead, at_most=MAX_LOOKAHEAD_BATCHES),
        warm_epochs=warm_epochs,
    )


def _replayed(places: Sequence[Path], asked: Study) -> list[Traffic]:
    """Answer for all traces of these run folders and files; raises DataError, ConfigError."""
    recordings = [read_recording(file) for file in find_traces(list(places))]
    for each in recordings:
        if not each.is_whole:
            say(f"rank {each.header.rank} was killed: {each.num_observed} batches read")
    with counting("replaying", total=asked.num_replays, unit="replays") as advance:
        return answer(recordings, asked, on_replay=lambda: advance(1))


def recorded_run(config: RunConfig, out: Path) -> Path:
    """The folder of a whole recorded run of this config: one that is there, else a new one."""
    run_dir = next(folder for folder in _folders(config, out) if _is_whole(folder, config))
    if not run_dir.exists():
        say(f"recording {config.epochs} epochs of {config.dataset} into {run_dir}")
        update = {"run_dir": run_dir, "record_trace": True}
        run(config.model_copy(update=update), show=lambda _: None)
    return run_dir


def _folders(config: RunConfig, out: Path) -> Iterator[Path]:
    """Where recordings of this config go; more than one, for the first may have been killed."""
    fanout = "-".join(map(str, config.fanout))
    text = f"{config.dataset}-{config.hosts}hosts-{config.batch_size}x{fanout}-{config.epochs}ep"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text)
    return itertools.chain([out / name], (out / f"{name}-{i}" for i in itertools.count(2)))


def _is_whole(folder: Path, config: RunConfig) -> bool:
    """Whether a run can be recorded there, or was, to its end."""
    traces = [folder / "traces" / f"rank{rank}.trace" for rank in range(config.num_trainers)]
    return not folder.exists() or all(file.exists() for file in (folder / SUMMARY_FILE, *traces))
