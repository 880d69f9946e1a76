"""From sampled shares to shares of all rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rudder.tools.estimate.calibration import Learned
from rudder.tools.estimate.sampled import SampledBatch, SampledTrace
from rudder.tools.estimate.whatif import WhatIf
from rudder.training.settings import BufferSettings
from tests.agents.steered import toolbox_after, trainer_of
from tests.tools.runs import window

shares = st.floats(0.01, 0.99)


def trace(num_batches: int = 64) -> SampledTrace:
    batches = [SampledBatch(step, np.arange(10)) for step in range(num_batches)]
    return SampledTrace.of(batches, rate=0.1)


def test_nothing_measured_changes_nothing() -> None:
    assert Learned().share(0.3) == pytest.approx(0.3)
    assert not Learned().is_measured


@given(shares, shares, st.floats(0, 1), st.floats(0, 1))
def test_shares_rise_from_nothing_to_all_through_what_was_measured(
    sampled: float, measured: float, one: float, other: float
) -> None:
    calibration = Learned(sampled=sampled, measured=measured, is_measured=True)
    assert calibration.share(0) == 0
    assert calibration.share(1) == pytest.approx(1)
    assert calibration.share(sampled) == pytest.approx(measured)
    low, high = sorted((one, other))
    assert calibration.share(low) <= calibration.share(high) + 1e-12


def test_it_compares_the_same_batches() -> None:
    rows = np.array([9] * 16 + [3] * 16 + [5] * 32)
    settings = BufferSettings(capacity_rows=10)
    windows = tuple(window(i, settings, fetched=25, remote=100) for i in (1, 2))
    found = Learned().from_windows(rows, trace(), windows)
    assert found.sampled == pytest.approx(0.4)
    assert found.measured == pytest.approx(0.25)


def test_one_window_is_too_few_and_absurd_ratios_are_bounded() -> None:
    rows = np.full(64, 5)
    settings = BufferSettings(capacity_rows=10)
    assert Learned().from_windows(rows, trace(), (window(0, settings),)) == Learned()
    absurd = tuple(window(i, settings, fetched=1, remote=100) for i in (1, 2))
    found = Learned().from_windows(rows, trace(), absurd)
    assert found.measured == pytest.approx(0.25)


WRONG = Learned(sampled=0.5, measured=0.3, is_measured=False, error_fraction=0.4)


def test_a_fresh_estimator_knows_nothing() -> None:
    whatif = toolbox_after(trainer_of(), windows=1).whatif
    assert whatif.learned == Learned(
        sampled=0.5, measured=0.5, is_measured=False, error_fraction=None
    )


def test_two_estimators_of_the_same_windows_agree_only_if_they_have_learned_the_same() -> None:
    toolbox = toolbox_after(trainer_of())
    one, history = toolbox.whatif, toolbox.history
    one.present()
    one.note_error(1.0)
    learned = one.learned
    other = WhatIf(history)
    assert other.present() != one.present()
    other.learn(learned)
    assert other.present() == one.present()
    assert other.learned == learned


def test_what_windows_tell_replaces_what_was_told() -> None:
    toolbox = toolbox_after(trainer_of())
    other = WhatIf(toolbox.history)
    other.learn(WRONG)
    assert other.present().rows_fetched.mid == toolbox.whatif.present().rows_fetched.mid
    assert other.learned.is_measured
