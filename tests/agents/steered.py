"""Parts of decisions for tests: observations, windows, and simulated runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rudder.agents.planners.baselines import FixedPlanner
from rudder.agents.roles import Planner
from rudder.bench.simulated.access_traces import ZipfStream
from rudder.bench.simulated.run import Run, simulate
from rudder.bench.simulated.trainer import Costs, SimulatedTrainer
from rudder.memory.records import Episode, Observation, Plan, Verdict
from rudder.tools.calls import Effect, Range
from rudder.tools.estimate.history import History
from rudder.tools.estimate.whatif import WhatIf
from rudder.tools.limits import Limits
from rudder.tools.toolbox import Toolbox
from rudder.training.metrics import RowCounts, RowsFetched, Seconds, Window
from rudder.training.settings import Applied, BufferSettings, Change

SLOW = Costs(row_ms=0.1)
"""A network that a buffer of a third of the nodes can hide."""
SETTINGS = BufferSettings(capacity_rows=2500, lookahead_batches=32)
STREAM = ZipfStream(num_remote=6000, draws=600)


def trainer_of(
    settings: BufferSettings = SETTINGS,
    *,
    costs: Costs = SLOW,
    stream: ZipfStream = STREAM,
    seed: int = 0,
) -> SimulatedTrainer:
    return SimulatedTrainer(stream, settings=settings, costs=costs, seed=seed)


def run(trainer: SimulatedTrainer, *, planner: Planner | None = None, windows: int = 40) -> Run:
    return asyncio.run(simulate(trainer, planner=planner or FixedPlanner(), windows=windows))


def toolbox_after(
    trainer: SimulatedTrainer,
    *,
    windows: int = 8,
    budget_bytes: int | None = None,
    own: Sequence[Episode] = (),
) -> Toolbox:
    """What is known after so many windows under the trainer's settings; own: episodes of the run,
    the newest first."""
    history = History(trainer.workload)
    for _ in range(windows):
        history.add(trainer.window())
    limits = Limits.of(trainer.workload, memory_budget_bytes=budget_bytes)
    return Toolbox(history, limits, WhatIf(history), lambda limit: own[:limit])


def observation_of(**values: object) -> Observation:
    usual: dict[str, object] = {
        "step": 160,
        "window": 9,
        "steps_left": 1000,
        "settings": SETTINGS,
        "bottleneck": "network",
        "trend": "steady",
        "hit_fraction": 0.5,
        "remote_rows": 400.0,
        "rows_fetched": 200.0,
        "exposed_wait_ms": 5.0,
        "step_ms": 25.0,
        "noise_rows": 2.0,
        "noise_wait_ms": 0.1,
        "headroom_rows": 50.0,
        "headroom_wait_ms": 5.0,
        "spare_ms": -5.0,
        "drift": 0.0,
        "working_set_rows": 5000,
    }
    return Observation.model_validate({**usual, **values})


def effect_of(rows: float, wait_ms: float, *, buffer_bytes: int = 0) -> Effect:
    return Effect(
        rows_fetched=Range(low=rows, mid=rows, high=rows),
        exposed_wait_ms=Range(low=wait_ms, mid=wait_ms, high=wait_ms),
        buffer_bytes=buffer_bytes,
    )


def applied_of(change: Change, *, step: int = 160, before: BufferSettings = SETTINGS) -> Applied:
    return Applied(
        command_id="c", outcome="applied", rank=0, step=step, settings=change.over(before)
    )


def window_of(
    first_step: int,
    *,
    settings: BufferSettings,
    rows: float = 200.0,
    wait_ms: float = 5.0,
    compute_ms: float = 20.0,
    buffered_rows: int | None = None,
) -> Window:
    """Sixteen steps with 400 remote rows each."""
    return Window(
        rank=0,
        index=first_step // 16,
        epoch=0,
        first_step=first_step,
        num_steps=16,
        rows=RowCounts(
            remote_rows=6400,
            hits=6400 - round(16 * rows),
            rows_fetched=RowsFetched(miss=round(16 * rows)),
        ),
        seconds=Seconds(exposed_wait=16 * wait_ms / 1000, compute=16 * compute_ms / 1000),
        settings=settings,
        buffered_rows=settings.capacity_rows if buffered_rows is None else buffered_rows,
        waiting_batches=0,
    )


class Believer:
    """A critic that approves whatever it is told: what is left then is guard and trial."""

    name = "believer"

    async def review(
        self, observation: Observation, recalled: object, plan: Plan, toolbox: Toolbox
    ) -> Verdict:
        return Verdict(
            decision="approve",
            critic=self.name,
            change=plan.change,
            expected=plan.expected,
            reason="it says so",
        )
