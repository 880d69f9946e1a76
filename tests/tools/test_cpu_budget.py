"""What a controller may spend, and that it is less where nobody waits."""

from __future__ import annotations

import time

import pytest

from rudder.tools.cpu_budget import CALM_CORE_FRACTION, MAX_CORE_FRACTION, CpuBudget


def test_what_is_spent_is_no_longer_left() -> None:
    budget = CpuBudget(fraction=0.0, initial_seconds=0.02)
    assert budget.has_left
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    assert not budget.has_left


def test_training_earns_a_share_of_its_time_and_nothing_else_does() -> None:
    budget = CpuBudget(fraction=0.5, initial_seconds=0.0)
    before = budget.left_seconds
    time.sleep(0.05)
    assert budget.left_seconds <= before
    budget.earn(10.0, is_needed=True)
    assert budget.left_seconds == pytest.approx(5.0, abs=0.1)


def test_less_is_earned_while_the_trainer_waits_for_nothing() -> None:
    budget = CpuBudget(initial_seconds=0.0)
    budget.earn(100.0, is_needed=False)
    assert budget.left_seconds == pytest.approx(100 * CALM_CORE_FRACTION, abs=0.1)
    assert CALM_CORE_FRACTION < MAX_CORE_FRACTION <= 0.05


def test_most_of_what_is_kept_for_a_start_is_for_trainers_that_wait() -> None:
    budget = CpuBudget(fraction=0.5, initial_seconds=1.0)
    budget.earn(0.0, is_needed=False)
    assert 0.1 < budget.left_seconds < 0.3
    budget.earn(0.0, is_needed=True)
    assert budget.left_seconds > 0.9
