"""Where rounds fill the buffer: nothing without evidence, and no more than a window bears."""

from __future__ import annotations

import asyncio

import pytest

from rudder.agents.observer import EmbeddedObserver
from rudder.agents.planners.embedded import EmbeddedPlanner
from rudder.agents.planners.evidence import Rounds
from rudder.bench.simulated.trainer import Costs, SimulatedTrainer
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import BufferSettings
from rudder.training.workload import PolicyName
from tests.agents.steered import SLOW, STREAM, run, toolbox_after

SETTINGS = BufferSettings(capacity_rows=600, replacement_interval=32, eviction_threshold=0.2)


def trainer_of(policy: PolicyName, *, settings: BufferSettings = SETTINGS) -> SimulatedTrainer:
    return SimulatedTrainer(STREAM, settings=settings, costs=SLOW, policy=policy)


def rounds_of(toolbox: Toolbox) -> Rounds:
    return Rounds.of(toolbox, asyncio.run(EmbeddedObserver().observe(toolbox)))


def test_where_missed_rows_are_admitted_nothing_is_in_the_way() -> None:
    assert rounds_of(toolbox_after(trainer_of("lfu"), windows=4)) == Rounds()


def test_four_rounds_are_evidence_and_fewer_are_not() -> None:
    assert not rounds_of(toolbox_after(trainer_of("score"), windows=7)).are_enough
    assert rounds_of(toolbox_after(trainer_of("score"), windows=8)).are_enough


def test_where_no_round_comes_there_is_no_evidence() -> None:
    never = SETTINGS.model_copy(update={"replacement_interval": 0})
    assert not rounds_of(toolbox_after(trainer_of("score", settings=never), windows=20)).are_enough


def test_one_change_brings_no_more_rows_than_a_window_bears() -> None:
    toolbox = toolbox_after(trainer_of("score"), windows=8)
    observation = asyncio.run(EmbeddedObserver().observe(toolbox))
    cost = toolbox.whatif.cost
    assert cost is not None
    new_rows = rounds_of(toolbox).most_rows - SETTINGS.capacity_rows
    assert 0 < new_rows * cost.ms_per_row / 16 <= 0.2 * observation.step_ms


@pytest.mark.parametrize(("rows", "row_ms"), [(600, 0.1), (2500, 0.1), (2500, 0.05)])
def test_steering_the_published_policy_reverts_nothing_and_is_no_slower(
    rows: int, row_ms: float
) -> None:
    settings = SETTINGS.model_copy(update={"capacity_rows": rows})

    def trainer() -> SimulatedTrainer:
        return SimulatedTrainer(
            STREAM, settings=settings, costs=Costs(row_ms=row_ms), policy="score"
        )

    lived = run(trainer(), planner=EmbeddedPlanner(), windows=40)
    outcomes = [each.outcome.result for each in lived.applied if each.outcome is not None]
    assert "reverted" not in outcomes
    assert lived.seconds <= 1.01 * run(trainer(), windows=40).seconds
