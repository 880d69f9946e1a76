"""Adversary: a planner that proposes the worst legal change each time, beside fixed settings."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rudder.agents.planners.baselines import AdversarialPlanner, FixedPlanner
from rudder.agents.roles import Planner
from rudder.bench.simulated.access_traces import ZipfStream
from rudder.bench.simulated.run import Run, simulate
from rudder.bench.simulated.trainer import Costs, SimulatedTrainer
from rudder.training.settings import BufferSettings
from steered.job import Job, Work, measure, plan_of
from steered.show import Row

STREAM = ZipfStream(num_remote=6000, draws=600)
SLOW = Costs(row_ms=0.1)
GOOD = BufferSettings(capacity_rows=2500, lookahead_batches=48)


class Adversary(Row):
    """slowdown: simulated seconds of the whole run over those of `fixed`, less 1."""

    seed: int
    slowdown: float
    applied: int
    reverted: int


class LiveAdversary(Row):
    """Of a whole job, its warm-up round too: run_s: seconds of the variant's turns; slowdown: over
    those of the planner `fixed`, less 1; rounds: the same of each round; the other columns are of
    all ranks."""

    dataset: str
    rate: str
    variant: str
    run_s: float
    slowdown: float
    rounds: tuple[float, ...]
    applied: int
    confirmed: int
    reverted: int


def adversary(*, seeds: int, windows: int) -> list[Adversary]:
    return [_one(seed, windows) for seed in range(seeds)]


def _one(seed: int, windows: int) -> Adversary:
    lived = _live(AdversarialPlanner(seed=seed), seed, windows)
    fixed = _live(FixedPlanner(), seed, windows)
    outcomes = [each.outcome for each in lived.applied if each.outcome is not None]
    return Adversary(
        seed=seed,
        slowdown=lived.seconds / fixed.seconds - 1,
        applied=len(lived.applied),
        reverted=sum(outcome.result == "reverted" for outcome in outcomes),
    )


def _live(planner: Planner, seed: int, windows: int) -> Run:
    trainer = SimulatedTrainer(STREAM, settings=GOOD, costs=SLOW, seed=seed)
    return asyncio.run(simulate(trainer, planner=planner, windows=windows))


def live_adversary(
    work: Work, *, settings: str, repeats: int, epochs: int, out: Path
) -> list[LiveAdversary]:
    """settings: `buffer=0.25+lookahead=40`, where both planners start."""
    start = f"lookahead:{settings}+controller=on"
    fixed, harmful = f"{start}+planner=fixed", f"{start}+planner=adversarial"
    plan = plan_of(fixed, harmful, repeats=repeats, epochs=epochs)
    job = measure(work, plan, out=out)
    return [_live_row(job, text, work, fixed) for text in (fixed, harmful)]


def _live_row(job: Job, text: str, work: Work, fixed: str) -> LiveAdversary:
    own, base = _round_seconds(job, text), _round_seconds(job, fixed)
    stats = job.stats(text)
    return LiveAdversary(
        dataset=work.dataset,
        rate=work.rate,
        variant=text,
        run_s=sum(own),
        slowdown=sum(own) / sum(base) - 1,
        rounds=tuple(mine / theirs - 1 for mine, theirs in zip(own, base, strict=True)),
        applied=sum(each.applied for each in stats),
        confirmed=sum(each.confirmed for each in stats),
        reverted=sum(each.reverted for each in stats),
    )


def _round_seconds(job: Job, text: str) -> list[float]:
    return [sum(turn) for turn in job.result(text).epochs_of_turns]
