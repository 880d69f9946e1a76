"""A benchmark: one job per rate, and what came of all of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rudder.bench.plan import PROGRAM, BenchPlan
from rudder.bench.results import Result, Skipped, results_of
from rudder.training.config import RunConfig, run_config
from rudder.training.errors import ConfigError, MachineError
from rudder.training.events import Event
from rudder.training.hosts.cluster import open_cluster
from rudder.training.job import Job
from rudder.training.launch.run import launch
from rudder.training.manifest import Manifest

_log = logging.getLogger(__name__)
UNLIMITED = "none"
"""The rate of a link without a limit."""


@dataclass(frozen=True)
class Measured:
    """All results, the rates that could not be had, and what lay between the hosts."""

    results: tuple[Result, ...]
    skipped: tuple[Skipped, ...]
    network: str


def check_rates(rates: Sequence[str]) -> None:
    """Raise ConfigError for what is no rate, or is named twice."""
    for rate in rates:
        if rate != UNLIMITED:
            run_config(rate=rate)
    if len(set(rates)) < len(rates):
        raise ConfigError.for_field("rate", value=list(rates), allowed="different rates")


def measure(
    plan: BenchPlan,
    config: RunConfig,
    *,
    rates: Sequence[str],
    manifest: Manifest,
    data_dir: Path,
    out: Path,
    on_event: Callable[[str, Event], None],
) -> Measured:
    """Run a job per rate, each in a folder of `out`; `on_event` is told the rate, too.

    Where the machine lends no namespaces, rates are skipped and the hosts share the loopback.
    Raises what `launch` raises.
    """
    for variant in plan.variants:
        variant.config(config)
    refusal = _refusal(config)
    network = "namespace" if refusal is None else "loopback"
    results: list[Result] = []
    skipped: list[Skipped] = []
    for rate in rates:
        if rate != UNLIMITED and refusal is not None:
            skipped.append(Skipped(rate=rate, reason=refusal.message, remedy=refusal.remedy))
            _log.warning("rate %s is left out: %s", rate, refusal)
            continue

        def tell(event: Event, rate: str = rate) -> None:
            on_event(rate, event)

        update = {"rate": None if rate == UNLIMITED else rate, "network": network}
        run_dir = out / f"rate-{rate}"
        reports = launch(
            config.model_copy(update=update),
            manifest=manifest,
            data_dir=data_dir,
            run_dir=run_dir,
            on_event=tell,
            program=PROGRAM,
            program_options=plan.model_dump(mode="json"),
        )
        network = Job.read(run_dir / "job.json").network
        results += results_of(plan, reports, rate=rate)
    return Measured(tuple(results), tuple(skipped), network)


def _refusal(config: RunConfig) -> MachineError | None:
    """Why hosts cannot have a network of their own here, with a limited rate; None if they can."""
    if config.network == "loopback":
        return MachineError(
            "rates need namespaces, and the network is loopback",
            remedy="use --network auto",
        )
    try:
        with open_cluster("namespace", num_hosts=1, rate="1gbit"):
            return None
    except MachineError as refusal:
        if config.network == "namespace":
            raise
        return refusal
