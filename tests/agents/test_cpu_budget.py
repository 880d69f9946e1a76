"""What a controller may spend, and that it is less where nobody waits."""

from __future__ import annotations

import time

from rudder.agents.cpu_budget import CALM_CORE_FRACTION, CpuBudget


def _left_after(seconds: float, budget: CpuBudget) -> float:
    """What it earns in a while of sleep."""
    before = budget.left_seconds
    time.sleep(seconds)
    return budget.left_seconds - before


def test_what_is_spent_is_no_longer_left() -> None:
    budget = CpuBudget(fraction=0.0, initial_seconds=0.02)
    assert budget.has_left
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    assert not budget.has_left


def test_time_that_passes_earns_a_share_of_it() -> None:
    assert 0.09 < _left_after(0.2, CpuBudget(fraction=0.5, initial_seconds=0.0)) < 0.5


def test_less_is_earned_while_the_trainer_waits_for_nothing() -> None:
    budget = CpuBudget(fraction=0.5, initial_seconds=0.0)
    budget.needed(False)
    assert _left_after(0.2, budget) < 0.2 * 0.4
    budget.needed(True)
    assert _left_after(0.2, budget) > 0.09
    assert CALM_CORE_FRACTION < 0.05


def test_most_of_what_is_kept_for_a_start_is_for_trainers_that_wait() -> None:
    budget = CpuBudget(fraction=0.5, initial_seconds=1.0)
    budget.needed(False)
    assert 0.1 < budget.left_seconds < 0.3
    budget.needed(True)
    assert budget.left_seconds > 0.9
