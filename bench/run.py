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
    Machine,
    TurnDone,
    check_new,
    results_of,
    write_report,
)
from rudder.training.config import RunConfig
from rudder.training.partition.prepare import data_of
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
    file = check_new(out / FILE_NAME)
    for variant in plan.variants:
        variant.config(config)
    links = links_for(config, rates)
    for skipped in links.skipped:
        say(f"rate {skipped.rate} is left out: {skipped.reason}")
    started = time.strftime("%Y-%m-%dT%H:%M:%S")
    data_dir, manifest = data_of(config, progress=say)
    report = BenchReport(
        dataset=manifest.dataset,
        command=shlex.join(["rudder", *sys.argv[1:]]),
        started=started,
        results=(),
        skipped=links.skipped,
        turns_done=0,
        turns_planned=len(plan.turns) * len(links.rates),
        repeats=plan.repeats,
        epochs_per_turn=plan.epochs_per_turn,
        network=links.network,
        config=config.model_copy(update={"data": data_dir}),
        machine=Machine.here(),
        versions=installed_versions(),
    )
    keeper = _Keeper(report, out, watch)
    try:
        measure(
            plan,
            config,
            links=links,
            manifest=manifest,
            data_dir=data_dir,
            out=out,
            on_turn=keeper.add,
        )
    finally:
        say(f"results: {file}, {keeper.report.turns_done} of {report.turns_planned} turns")
        if keeper.report.results or keeper.report.is_complete:
            show(keeper.report)
    return keeper.report


class _Keeper:
    """Keeps the report of the turns so far, in `bench.json` as well."""

    def __init__(self, report: BenchReport, out: Path, watch: Watch) -> None:
        self.report = report
        self._out, self._watch = out, watch
        self._turns: dict[str, list[TurnDone]] = {}
        write_report(report, out)

    def add(self, done: TurnDone) -> None:
        """Take in a turn."""
        self._turns.setdefault(done.rate, []).append(done)
        results = [result for turns in self._turns.values() for result in results_of(turns)]
        update = {"results": tuple(results), "turns_done": self.report.turns_done + 1}
        self.report = self.report.model_copy(update=update)
        write_report(self.report, self._out)
        self._watch(done, self.report)


def new_folder() -> Path:
    """Where results go if the user does not say."""
    return Path("runs") / time.strftime("bench-%Y%m%d-%H%M%S")
