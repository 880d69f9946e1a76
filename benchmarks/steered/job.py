"""A job of variants that take turns, and what its controllers did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rudder.bench.plan import BenchPlan
from rudder.bench.results import BenchReport, Result
from rudder.bench.run import run
from rudder.bench.steering_record import ChangeStats, change_stats_in
from rudder.bench.variants import Variant
from rudder.cli.show.progress import say
from rudder.training.config import RunConfig, run_config
from rudder.training.events import Event


@dataclass(frozen=True)
class Work:
    """What is trained on; None: the default of `rudder train`."""

    dataset: str
    rate: str
    fanout: str | None = None
    batch_size: int | None = None

    @property
    def config(self) -> RunConfig:
        network = "loopback" if self.rate == "loopback" else "auto"
        return run_config(
            dataset=self.dataset,
            fanout=self.fanout,
            batch_size=self.batch_size,
            network=network,
            controller="none",
        )

    @property
    def bench_rate(self) -> str:
        return "none" if self.rate == "loopback" else self.rate


@dataclass(frozen=True)
class Job:
    """A finished job."""

    plan: BenchPlan
    report: BenchReport
    folder: Path

    def result(self, text: str) -> Result:
        return next(each for each in self.report.results if each.variant == text)

    def stats(self, text: str) -> tuple[ChangeStats, ...]:
        return change_stats_in(self.folder / self.plan.folder_of(Variant(text=text)))


def nobody(rate: str, event: Event) -> None:
    pass


def folder_of(work: Work, out: Path) -> Path:
    return out / f"rate-{work.bench_rate}"


def measure(
    work: Work,
    plan: BenchPlan,
    *,
    out: Path,
    listen: Callable[[str, Event], None] = lambda rate, event: None,
) -> Job:
    report = run(plan, work.config, rates=[work.bench_rate], out=out, say=say, listen=listen)
    if report.skipped:
        raise SystemExit(f"rate {work.rate}: {report.skipped[0].reason}")
    return Job(plan, report, folder_of(work, out))


def plan_of(*texts: str, repeats: int, epochs: int) -> BenchPlan:
    variants = tuple(Variant(text=text) for text in dict.fromkeys(texts))
    return BenchPlan(variants=variants, repeats=repeats, epochs_per_turn=epochs)
