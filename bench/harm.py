"""Whether steering does harm: steered and unsteered training take turns in one job, from one start.

A round's speed is the seconds of the unsteered turn over those of the steered turn (above 1:
steering is faster). A case is a graph at a rate; its speed is the median over rounds. A case has
several jobs, for they differ by a percent or two, and in every second one the steered loader is
made first. A study that was stopped goes on in the same folder: rounds that are done count, and
only missing ones are run.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from rudder.agents.controller.report import read_reports
from rudder.bench.gauge import ControllerGauge, Use, cpu_seconds_of_children
from rudder.bench.measure import links_for
from rudder.bench.plan import BenchPlan
from rudder.bench.results import BenchReport, Skipped, TurnDone, results_in
from rudder.bench.run import Watch, run
from rudder.bench.variants import Variant
from rudder.training.config import RunConfig
from rudder.training.errors import ConfigError
from rudder.training.settings import Frozen

FILE_NAME = "harm.json"
DATASETS = (
    "synthetic:tiny", "synthetic:community-200k", "debian", "synthetic:drift",
    "synthetic:products-s",
)  # fmt: skip
RATES = ("200mbit", "1gbit", "none")
TURN_STEPS = 180
"""A turn has at least so many steps: those of three epochs of the graph community-200k. In shorter
turns, noise of 20 % and more hides what steering costs."""
LEAST_MEDIAN = 0.99
LEAST_SPEED = 0.97
"""No harm: the median speed is at least LEAST_MEDIAN, its interval begins at LEAST_SPEED or above.
These are the project's goals, chosen near the noise of repeated epochs on a quiet machine."""
CONFIDENCE = 0.95
ROUNDS_PER_JOB = 4
STEERED = "lookahead:controller=on"


class ConfidenceInterval(Frozen):
    """An interval for a median, whatever the distribution; few values give a low confidence."""

    low: float
    high: float
    confidence: float

    @classmethod
    def of(cls, values: Sequence[float]) -> ConfidenceInterval:
        """The narrowest interval between two of the values with CONFIDENCE, or the widest one.

        The median lies outside the k-th least and k-th largest of n independent values with the
        chance that fewer than k of n coin flips are heads, twice (the sign test's interval).
        """
        ranked, n = sorted(values), len(values)

        def confidence(k: int) -> float:
            return 1 - 2 * sum(math.comb(n, i) for i in range(k)) / float(2**n)

        enough = [k for k in range(1, n // 2 + 1) if confidence(k) >= CONFIDENCE]
        k = max(enough, default=1)
        return cls(low=ranked[k - 1], high=ranked[n - k], confidence=max(0.0, confidence(k)))


class TurnCost(Frozen):
    """A turn: seconds of an epoch, and processor seconds of the whole job, of all its epochs."""

    seconds: float
    cpu_seconds: float


class Round(Frozen):
    """One turn of each."""

    unsteered: TurnCost
    steered: TurnCost

    @property
    def speed(self) -> float:
        """How many times as fast the steered turn was."""
        return self.unsteered.seconds / self.steered.seconds


class Harm(Frozen):
    """One graph at one rate."""

    dataset: str
    rate: str
    rounds: tuple[Round, ...] = Field(description="that count")
    applied: int = Field(description="changes, of all ranks")
    core: float | None = Field(
        description="share of a core that the busiest controller took, over the turns of both"
    )

    @property
    def unsteered_seconds(self) -> float:
        """Of an epoch, median over rounds."""
        return statistics.median(each.unsteered.seconds for each in self.rounds)

    @property
    def speeds(self) -> tuple[float, ...]:
        """Of each round."""
        return tuple(each.speed for each in self.rounds)

    @property
    def speed(self) -> float:
        """Median over rounds."""
        return statistics.median(self.speeds)

    @property
    def cpu(self) -> float:
        """Processor time of servers, trainers and controllers in a steered turn over that in an
        unsteered one, median over rounds: other work on the machine changes it little."""
        ratios = (each.steered.cpu_seconds / each.unsteered.cpu_seconds for each in self.rounds)
        return statistics.median(ratios)

    @property
    def interval(self) -> ConfidenceInterval:
        """Where the median speed lies."""
        return ConfidenceInterval.of(self.speeds)

    @property
    def verdict(self) -> Literal["no harm", "harm", "unclear"]:
        """unclear: the interval is too wide to tell; more repeats narrow it."""
        if self.interval.high < LEAST_MEDIAN:
            return "harm"
        is_safe = self.speed >= LEAST_MEDIAN and self.interval.low >= LEAST_SPEED
        return "no harm" if is_safe else "unclear"

    def joined(self, more: Harm) -> Harm:
        """With the rounds of a later job of the same case."""
        cores = [each for each in (self.core, more.core) if each is not None]
        return self.model_copy(
            update={
                "rounds": self.rounds + more.rounds,
                "applied": self.applied + more.applied,
                "core": max(cores, default=None),
            }
        )


class HarmReport(Frozen):
    """`harm.json`: the cases so far, which may have fewer rounds than planned; setup: what all of
    them have in common, in words; skipped: rates that this machine could not give to a link."""

    setup: str
    cases: tuple[Harm, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    is_complete: bool = False

    def case(self, dataset: str, rate: str) -> Harm | None:
        """What is known of a case."""
        wanted = (dataset, rate)
        return next((each for each in self.cases if (each.dataset, each.rate) == wanted), None)

    def num_rounds(self, dataset: str, rate: str) -> int:
        """Rounds of a case that are done."""
        known = self.case(dataset, rate)
        return 0 if known is None else len(known.rounds)

    def with_case(self, case: Harm) -> HarmReport:
        """With this one in place of what was known of it."""
        known = [(each.dataset, each.rate) for each in self.cases]
        cases = list(self.cases)
        if (case.dataset, case.rate) in known:
            cases[known.index((case.dataset, case.rate))] = case
        else:
            cases.append(case)
        return self.model_copy(update={"cases": tuple(cases)})


def measure_harm(
    configs: Sequence[RunConfig],
    *,
    rates: Sequence[str],
    start: str,
    repeats: int,
    epochs: int,
    out: Path,
    say: Callable[[str], None],
    watch: Watch,
    show: Callable[[HarmReport], None],
) -> HarmReport:
    """Measure every config's graph at every rate until it has `repeats` rounds, ROUNDS_PER_JOB in a
    job; `harm.json` in `out` is written after each turn, and gone on with if it is there.

    start: options of a variant, such as buffer=0.25+lookahead=40; empty: the defaults.
    say, watch, show: as in `bench.run.run`, whose errors are raised, too. Raises ConfigError where
    `harm.json` is of another setup.
    """
    links = links_for(configs[0], rates)  # a wrong rate is told before hours of rounds
    links.tell_skipped(say)
    variants = (
        Variant(text=f"lookahead:{start}" if start else "lookahead"),
        Variant(text=f"{STEERED}+{start}" if start else STEERED),
    )
    plan = BenchPlan(variants=variants, epochs_per_turn=epochs, least_turn_steps=TURN_STEPS)
    report = _earlier(out / FILE_NAME, setup=_setup(configs[0], start=start, epochs=epochs))
    report = report.model_copy(update={"skipped": links.skipped})
    cases, begun, num_run = list(itertools.product(configs, links.rates)), time.monotonic(), 0
    with results_in(out / FILE_NAME, say=say, show=show, goes_on=True) as keep:
        for number, (config, rate) in enumerate(cases, start=1):
            say(f"case {number} of {len(cases)}: {config.dataset}, rate {rate}")
            if report.num_rounds(config.dataset, rate) >= repeats:
                say(f"its {repeats} rounds are done")
                continue
            while (done := report.num_rounds(config.dataset, rate)) < repeats:
                order = variants[::-1] if done // ROUNDS_PER_JOB % 2 else variants
                update = {"variants": order, "repeats": min(repeats - done, ROUNDS_PER_JOB)}
                job = _Job(plan.model_copy(update=update), _free_folder(out), config, rate)
                report = _measured(report, job, keep=keep, say=say, watch=watch)
            num_run += 1
            minutes = (time.monotonic() - begun) / 60 / num_run * (len(cases) - number)
            say(f"{minutes:.0f} minutes are left, if other cases take as long")
        report = report.model_copy(update={"is_complete": True})
        keep(report)
    return report


def _measured(
    report: HarmReport,
    job: _Job,
    *,
    keep: Callable[[HarmReport], None],
    say: Callable[[str], None],
    watch: Watch,
) -> HarmReport:
    """The report with the rounds of one more job, kept after each turn."""
    known = report.case(job.config.dataset, job.rate)

    def on_turn(done: TurnDone, bench: BenchReport) -> None:
        nonlocal report
        watch(done, bench)
        job.take(done)
        if (found := job.case) is not None:
            report = report.with_case(known.joined(found) if known else found)
            keep(report)

    run(job.plan, job.config, rates=[job.rate], out=job.folder, say=say, watch=on_turn)
    return report


def _setup(config: RunConfig, *, start: str, epochs: int) -> str:
    return (
        f"{config.hosts} hosts, batch size {config.batch_size},"
        f" fan-out {','.join(map(str, config.fanout))},"
        f" {epochs} epochs or {TURN_STEPS} steps a turn, start {start or 'as by default'}"
    )


def _earlier(file: Path, *, setup: str) -> HarmReport:
    """The report to go on with; an empty one where there is none. Raises ConfigError."""
    if not file.exists():
        return HarmReport(setup=setup)
    try:
        known = HarmReport.model_validate_json(file.read_text())
    except ValueError:
        raise ConfigError(
            f"{file} is no report of this version", remedy="choose a new folder with --out"
        ) from None
    if known.setup != setup:
        raise ConfigError(
            f"{file} has another setup: {known.setup}; asked for: {setup}",
            remedy="ask for the same, or choose a new folder with --out",
        )
    return known.model_copy(update={"is_complete": False})


def _free_folder(out: Path) -> Path:
    return next(folder for i in itertools.count() if not (folder := out / f"job{i}").exists())


class _Job:
    """One job of a case, while its turns come."""

    def __init__(self, plan: BenchPlan, folder: Path, config: RunConfig, rate: str) -> None:
        self.plan, self.folder, self.config, self.rate = plan, folder, config, rate
        self._gauge = ControllerGauge(folder / f"rate-{rate}" / "control")
        self._cpu_seconds = self._seconds = 0.0
        self._warm: dict[str, Use] = {}
        self._turns: dict[int, dict[Variant, TurnCost]] = {}

    def take(self, done: TurnDone) -> None:
        """A turn has just ended: see what it took."""
        before, self._cpu_seconds = self._cpu_seconds, cpu_seconds_of_children()
        uses = self._gauge.read()
        if done.turn.round == 0:
            self._warm = uses
            return
        self._seconds += done.mean_seconds * done.turn.num_epochs
        spent = TurnCost(seconds=done.mean_seconds, cpu_seconds=self._cpu_seconds - before)
        self._turns.setdefault(done.turn.round, {})[done.turn.variant] = spent

    @property
    def case(self) -> Harm | None:
        """The whole rounds that count; None before there is one."""
        fixed, steered = sorted(self.plan.variants, key=lambda each: each.text.startswith(STEERED))
        rounds = tuple(
            Round(unsteered=turns[fixed], steered=turns[steered])
            for turns in self._turns.values()
            if len(turns) == len(self.plan.variants)
        )
        if not rounds:
            return None
        folder = self.folder / f"rate-{self.rate}" / self.plan.folder_of(steered)
        return Harm(
            dataset=self.config.dataset,
            rate=self.rate,
            rounds=rounds,
            applied=sum(each.counts.applied for each in read_reports(folder)),
            core=max(self._cores(), default=None),
        )

    def _cores(self) -> Iterator[float]:
        """Share of a core of each controller, over all turns that count."""
        for name, use in self._gauge.read().items():
            if name in self._warm:
                yield (use.cpu_seconds - self._warm[name].cpu_seconds) / self._seconds
