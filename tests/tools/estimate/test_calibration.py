"""From sampled shares to shares of all rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rudder.tools.estimate.calibration import Calibration
from rudder.tools.estimate.sampled import SampledBatch, SampledTrace
from rudder.training.settings import BufferSettings
from tests.tools.runs import window

shares = st.floats(0.01, 0.99)


def trace(num_batches: int = 64) -> SampledTrace:
    batches = [SampledBatch(step, np.arange(10)) for step in range(num_batches)]
    return SampledTrace.of(batches, rate=0.1)


def test_nothing_measured_changes_nothing() -> None:
    assert Calibration().share(0.3) == pytest.approx(0.3)
    assert not Calibration().is_measured


@given(shares, shares, st.floats(0, 1), st.floats(0, 1))
def test_shares_rise_from_nothing_to_all_through_what_was_measured(
    sampled: float, measured: float, one: float, other: float
) -> None:
    calibration = Calibration(sampled, measured, is_measured=True)
    assert calibration.share(0) == 0
    assert calibration.share(1) == pytest.approx(1)
    assert calibration.share(sampled) == pytest.approx(measured)
    low, high = sorted((one, other))
    assert calibration.share(low) <= calibration.share(high) + 1e-12


def test_it_compares_the_same_batches() -> None:
    rows = np.array([9] * 16 + [3] * 16 + [5] * 32)
    settings = BufferSettings(capacity_rows=10)
    windows = tuple(window(i, settings, fetched=25, remote=100) for i in (1, 2))
    found = Calibration.of(rows, trace(), windows)
    assert found is not None
    assert found.sampled == pytest.approx(0.4)
    assert found.measured == pytest.approx(0.25)


def test_one_window_is_too_few_and_absurd_ratios_are_bounded() -> None:
    rows = np.full(64, 5)
    settings = BufferSettings(capacity_rows=10)
    assert Calibration.of(rows, trace(), (window(0, settings),)) is None
    absurd = tuple(window(i, settings, fetched=1, remote=100) for i in (1, 2))
    found = Calibration.of(rows, trace(), absurd)
    assert found is not None
    assert found.measured == pytest.approx(0.25)
