"""Adversary: a planner that proposes the worst legal change each time, on a simulated trainer."""

from __future__ import annotations

import asyncio

from rudder.agents.planners.adversarial import AdversarialPlanner
from rudder.agents.planners.fixed import FixedPlanner
from rudder.agents.roles import Planner
from rudder.agents.simulated import Costs, SimulatedTrainer
from rudder.agents.simulation import Run, simulate
from rudder.agents.streams import ZipfStream
from rudder.training.settings import BufferSettings
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
