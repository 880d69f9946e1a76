"""Whole runs of a simulated trainer: rescue, thrift, change, and harm that is not done."""

from __future__ import annotations

import asyncio

import pytest

from rudder.agents.planners.baselines import AdversarialPlanner
from rudder.agents.planners.embedded import EmbeddedPlanner
from rudder.bench.simulated.access_traces import ZipfStream
from rudder.bench.simulated.run import Run, simulate
from rudder.bench.simulated.trainer import Costs, SimulatedTrainer
from rudder.training.settings import BufferSettings
from rudder.training.steering_options import SteeringOptions
from tests.agents.steered import SLOW, STREAM, Believer, run, trainer_of

LOST = BufferSettings(capacity_rows=60, lookahead_batches=0, eviction_threshold=0.0)
GOOD = BufferSettings(capacity_rows=2500, lookahead_batches=48)
EPOCH = 5
"""Windows."""


def steered(trainer: SimulatedTrainer, *, windows: int = 40) -> Run:
    return run(trainer, planner=EmbeddedPlanner(), windows=windows)


def best_fixed_seconds(windows: int, *, costs: Costs = SLOW) -> float:
    """Of the last epoch, over a grid of capacity and lookahead."""
    return min(
        run(
            trainer_of(BufferSettings(capacity_rows=rows, lookahead_batches=ahead), costs=costs),
            windows=windows,
        ).seconds_between(windows - EPOCH, windows)
        for rows in (300, 1500, 3000, 6000)
        for ahead in (0, 48)
    )


@pytest.mark.parametrize("row_ms", [0.05, 0.1, 0.3])
def test_rescue_from_absurd_settings(row_ms: float) -> None:
    costs = Costs(row_ms=row_ms)
    lived = steered(trainer_of(LOST, costs=costs), windows=5 * EPOCH)
    best = best_fixed_seconds(5 * EPOCH, costs=costs)
    assert best / lived.seconds_between(2 * EPOCH, 3 * EPOCH) >= 0.9
    assert best / lived.seconds_between(4 * EPOCH, 5 * EPOCH) >= 0.97
    assert 1 <= len(lived.applied) <= 12


def test_memory_is_given_back_where_that_is_sought_and_only_there() -> None:
    large = BufferSettings(capacity_rows=6000, lookahead_batches=48)
    fixed = run(trainer_of(large), windows=60)
    trainer, options = trainer_of(large), SteeringOptions(objective="memory")
    lived = asyncio.run(simulate(trainer, options=options, windows=60))
    assert trainer.settings.capacity_rows <= 3500
    assert lived.seconds <= 1.01 * fixed.seconds
    assert steered(trainer_of(large), windows=60).applied == ()


def test_good_settings_come_to_no_harm() -> None:
    for seed in range(2):
        lived = steered(trainer_of(GOOD, seed=seed), windows=40)
        fixed = run(trainer_of(GOOD, seed=seed), windows=40)
        assert lived.seconds <= 1.01 * fixed.seconds


def test_a_network_that_becomes_slow_is_answered_within_an_epoch() -> None:
    fast, slow = Costs(row_ms=0.02), Costs(row_ms=0.3)

    def throttle(number: int, trainer: SimulatedTrainer) -> None:
        trainer.costs = fast if number < 8 * EPOCH else slow

    trainer = trainer_of(GOOD, costs=fast)
    lived = asyncio.run(
        simulate(trainer, planner=EmbeddedPlanner(), windows=12 * EPOCH, disturbance=throttle)
    )
    best = best_fixed_seconds(12 * EPOCH, costs=slow)
    assert best / lived.seconds_between(10 * EPOCH, 11 * EPOCH) >= 0.95


@pytest.mark.parametrize(("capacity_rows", "lookahead"), [(3500, 16), (3100, 48), (3200, 16)])
def test_what_is_expected_is_what_is_measured(capacity_rows: int, lookahead: int) -> None:
    settings = BufferSettings(capacity_rows=capacity_rows, lookahead_batches=lookahead)
    lived = steered(trainer_of(settings), windows=30)
    outcomes = [each.outcome for each in lived.applied if each.outcome is not None]
    assert outcomes
    for outcome in outcomes:
        assert outcome.rows_before
        assert outcome.rows_after
        assert outcome.rows_expected
        # Of a whole buffer hardly any rows are left, so the error is a share of those before.
        assert abs(outcome.rows_after - outcome.rows_expected) <= 0.02 * outcome.rows_before


def test_an_adversary_does_no_harm() -> None:
    assert worst_slowdown(seeds=range(2), windows=40) <= 1.05


@pytest.mark.slow
def test_twenty_adversaries_do_no_harm() -> None:
    assert worst_slowdown(seeds=range(20), windows=100) <= 1.05


def worst_slowdown(*, seeds: range, windows: int) -> float:
    def slowdown(seed: int) -> float:
        lived = run(
            trainer_of(GOOD, seed=seed), planner=AdversarialPlanner(seed=seed), windows=windows
        )
        return lived.seconds / run(trainer_of(GOOD, seed=seed), windows=windows).seconds

    return max(slowdown(seed) for seed in seeds)


def test_guard_and_trial_bound_the_harm_even_where_the_critic_believes_everything() -> None:
    lived = asyncio.run(
        simulate(trainer_of(GOOD), planner=AdversarialPlanner(), critic=Believer(), windows=100)
    )
    fixed = run(trainer_of(GOOD), windows=100)
    reverted = [
        each for each in lived.applied if each.outcome and each.outcome.result == "reverted"
    ]
    assert len(reverted) >= 2
    assert lived.seconds <= 1.1 * fixed.seconds


def test_windows_add_up() -> None:
    trainer = trainer_of(BufferSettings(capacity_rows=900), stream=ZipfStream(num_remote=3000))
    for window in run(trainer, windows=6).windows:
        rows = window.rows
        assert rows.hits + rows.rows_fetched.miss == rows.remote_rows
        assert window.accesses is not None
        assert sum(window.accesses.sizes) == rows.remote_rows  # all of so few nodes are sampled
        assert window.buffered_rows <= 900
    assert STREAM.batch(3).tolist() == STREAM.batch(3).tolist()
