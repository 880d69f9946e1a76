"""A benchmark from its plan to its report: prepared, measured, written down."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rudder.bench.measure import check_rates, measure
from rudder.bench.plan import BenchPlan
from rudder.bench.results import BenchReport, Machine, write_report
from rudder.training.config import RunConfig
from rudder.training.events import Event
from rudder.training.partition.prepare import data_of
from rudder.training.versions import installed_versions

Listener = Callable[[str, Event], None]


def _nobody(rate: str, event: Event) -> None:
    """Nobody listens."""


def run(
    plan: BenchPlan,
    config: RunConfig,
    *,
    rates: list[str],
    out: Path,
    say: Callable[[str], None],
    listen: Listener = _nobody,
) -> BenchReport:
    """Prepare what is missing, measure, and write the report into `out`.

    say: told what takes long. listen: told every event of a job, with the job's rate, in this
    thread.
    """
    check_rates(rates)
    started = time.strftime("%Y-%m-%dT%H:%M:%S")
    data_dir, manifest = data_of(config, progress=say)
    measured = measure(
        plan,
        config,
        rates=rates,
        manifest=manifest,
        data_dir=data_dir,
        out=out,
        on_event=listen,
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
    say(f"results: {write_report(report, out)}")
    return report


def new_folder() -> Path:
    """Where results go if the user does not say."""
    return Path("runs") / time.strftime("bench-%Y%m%d-%H%M%S")
