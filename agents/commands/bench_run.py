"""A benchmark from its plan to its report: prepared, measured, written down."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rudder.training.bench.plan import BenchPlan
    from rudder.training.bench.results import BenchReport
    from rudder.training.config import RunConfig
    from rudder.training.events import Event

    Listener = Callable[[str, Event], None]


def _nobody(rate: str, event: Event) -> None:
    """Nobody listens."""


def run(
    plan: BenchPlan,
    config: RunConfig,
    *,
    rates: list[str],
    out: Path,
    listen: Listener = _nobody,
) -> BenchReport:
    """Prepare what is missing, measure, and write the report into `out`.

    listen: told every event, with its rate, in this thread while the job goes on.
    """
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

    def tell(rate: str, event: Event) -> None:
        progress.on_event(rate, event)
        listen(rate, event)

    measured = measure(
        plan,
        config,
        rates=rates,
        manifest=manifest,
        data_dir=data_dir,
        out=out,
        on_event=tell,
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


def new_folder() -> Path:
    """Where results go if the user does not say."""
    return Path("bench") / time.strftime("%Y%m%d-%H%M%S")
