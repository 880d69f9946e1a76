"""When decisions are made, and what becomes of a trial when the limits come down."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from rudder.agents.planners.proposals import keep, propose
from rudder.agents.steering import Steering
from rudder.bench.simulated.run import simulate
from rudder.bench.simulated.trainer import Costs, SimulatedTrainer
from rudder.memory.journal import AuditEntry, Journal, Recalled
from rudder.memory.records import Observation, Plan
from rudder.tools.constants import HOLDS_ALL_WINDOW_S
from rudder.tools.limits import Limits
from rudder.tools.toolbox import Toolbox
from rudder.training.control.messages import FULL_ATTENTION
from rudder.training.settings import BufferSettings, Change
from rudder.training.steering_options import SteeringOptions
from tests.agents.steered import SETTINGS, STREAM, Believer, trainer_of

ROW_BYTES = 400


class Shrinker:
    """Shrinks the buffer once, by far too much; `toolbox` is None until then."""

    name = "shrinker"

    def __init__(self) -> None:
        self.toolbox: Toolbox | None = None

    async def plan(
        self, observation: Observation, recalled: Sequence[Recalled], toolbox: Toolbox
    ) -> Plan:
        if self.toolbox is not None or not toolbox.whatif.is_ready:
            return keep(self.name, "done")
        self.toolbox = toolbox
        change = Change(capacity_rows=SETTINGS.capacity_rows // 4)
        return propose(self.name, change, whatif=toolbox.whatif, reason="less")


def test_what_a_trial_takes_back_is_no_more_than_the_limits_then_allow() -> None:
    planner, trainer = Shrinker(), trainer_of(costs=Costs(row_ms=0.3))
    limit = SETTINGS.capacity_rows * 4 // 5

    def cut(number: int, trainer: SimulatedTrainer) -> None:
        if planner.toolbox is not None:
            budget = limit * ROW_BYTES
            planner.toolbox.set_limits(Limits.of(trainer.workload, memory_budget_bytes=budget))

    lived = asyncio.run(
        simulate(trainer, planner=planner, critic=Believer(), windows=16, disturbance=cut)
    )
    outcomes = [each.outcome.result for each in lived.applied if each.outcome is not None]
    assert outcomes == ["reverted"]
    assert trainer.settings.capacity_rows == limit


class FullOnce(Journal):
    """Has no room for the first command that takes a change back."""

    num_refused = 0

    def log(self, entry: AuditEntry) -> bool:
        is_refused = entry.tool == "revert_change" and self.num_refused == 0
        self.num_refused += is_refused
        return not is_refused


def test_a_change_that_cannot_be_taken_back_on_record_stays_on_trial_until_it_can() -> None:
    journal, trainer = FullOnce(), trainer_of(costs=Costs(row_ms=0.3))
    lived = asyncio.run(
        simulate(trainer, planner=Shrinker(), critic=Believer(), windows=16, journal=journal)
    )
    outcomes = [each.outcome.result for each in lived.episodes if each.outcome is not None]
    assert journal.num_refused == 1
    assert outcomes.count("reverted") == 1
    assert trainer.settings == SETTINGS


FULL = SETTINGS.model_copy(update={"capacity_rows": STREAM.num_remote})


@pytest.mark.parametrize(
    ("settings", "options", "decides"),
    [
        (FULL, SteeringOptions(), False),
        (FULL, SteeringOptions(objective="memory"), True),
        (FULL, SteeringOptions(planner="heuristic"), True),
        (FULL.model_copy(update={"lookahead_batches": 4}), SteeringOptions(), True),
        (FULL.model_copy(update={"capacity_rows": 5999}), SteeringOptions(), True),
    ],
)
def test_a_buffer_for_all_remote_rows_leaves_nothing_to_decide(
    settings: BufferSettings, options: SteeringOptions, decides: bool
) -> None:
    trainer = trainer_of(settings, costs=Costs(row_ms=0.1))
    lived = asyncio.run(simulate(trainer, windows=24, options=options))
    assert bool(lived.episodes) == decides
    assert any(window.accesses for window in lived.windows) == decides
    longest_s = max(window.trained_seconds for window in lived.windows)
    assert decides or longest_s >= HOLDS_ALL_WINDOW_S


def test_a_cut_budget_is_kept_to_by_a_controller_that_rests() -> None:
    trainer = trainer_of(FULL)
    limits = Limits.of(trainer.workload, memory_budget_bytes=3000 * ROW_BYTES)
    steering = Steering(
        trainer.workload, sender=trainer, journal=Journal(), options=SteeringOptions()
    )

    async def steer() -> None:
        await trainer.attend(steering.attention)
        steering.note(trainer.window())
        steering.toolbox.set_limits(limits)
        await steering.keep_to_limits()
        assert steering.attention == FULL_ATTENTION  # of the first window under the limit, too
        steering.note(trainer.window())

    asyncio.run(steer())
    assert trainer.settings.capacity_rows == 3000
    assert steering.attention == FULL_ATTENTION
