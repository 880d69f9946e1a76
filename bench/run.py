"""A benchmark from its plan to its report: prepared, measured, written after every turn."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rudder.bench.measure import links_for, measure
from rudder.bench.plan import BenchPlan
from rudder.bench.results import (
    FILE_NAME,
    BenchReport,
    MachineFacts,
    TurnDone,
    results_in,
    results_of,
)
from rudder.training.config import RunConfig
from rudder.training.errors import ConfigError
from rudder.training.partition.prepare import data_of, fitted
from rudder.training.versions import installed_versions

Watch = Callable[[TurnDone, BenchReport], None]
"""Told each turn that is done, and the report with all turns so far, in the caller's thread."""


def run(
    plan: BenchPlan,
    config: RunConfig,
    *,
    rates: list[str],
    out: Path,
    say: Callable[[str], None],
    watch: Watch = lambda turn, report: None,
    show: Callable[[BenchReport], None] = lambda report: None,
) -> BenchReport:
    """Prepare what is missing and measure; `bench.json` in `out` is written after every turn.

    say: told what takes long. show: given the last report, also when the benchmark is stopped by
    a signal or a failed trainer after some results; what stopped it is raised afterwards.
    """
    if config.launcher != "local":
        raise ConfigError.for_field(
            "hosts",
            value=",".join(config.machines) or config.launcher,
            allowed="a number of local hosts",
            remedy="measure on this machine: --hosts 2",
        )
    for variant in plan.variants:
        variant.config(config)
    links = links_for(config, rates)
    links.tell_skipped(say)
    started = time.strftime("%Y-%m-%dT%H:%M:%S")
    graph = data_of(config, progress=say)
    config = fitted(config, graph)
    plan = plan.for_epochs_of(graph.num_train // (config.batch_size * config.num_trainers))
    report = BenchReport(
        dataset=graph.dataset,
        command=shlex.join(["rudder", *sys.argv[1:]]),
        started=started,
        results=(),
        skipped=links.skipped,
        turns_done=0,
        turns_planned=len(plan.turns) * len(links.rates),
        repeats=plan.repeats,
        epochs_per_turn=plan.epochs_per_turn,
        network=links.network,
        config=config,
        machine=MachineFacts.here(),
        versions=installed_versions(),
    )
    turns: dict[str, list[TurnDone]] = {}

    def show_last(last: BenchReport) -> None:
        say(f"{last.turns_done} of {last.turns_planned} turns are done")
        if last.results or last.is_complete:
            show(last)

    with results_in(out / FILE_NAME, say=say, show=show_last) as keep:
        keep(report)

        def on_turn(done: TurnDone) -> None:
            nonlocal report
            turns.setdefault(done.rate, []).append(done)
            results = [result for each in turns.values() for result in results_of(each)]
            update = {"results": tuple(results), "turns_done": report.turns_done + 1}
            report = report.model_copy(update=update)
            keep(report)
            watch(done, report)

        measure(
            plan,
            config,
            links=links,
            graph=graph,
            out=out,
            on_turn=on_turn,
        )
    return report


def new_folder() -> Path:
    """Where results go if the user does not say."""
    return Path("runs") / time.strftime("bench-%Y%m%d-%H%M%S")
