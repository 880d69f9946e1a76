"""The study of an idle controller, in short."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.idle_controller import measure


@pytest.mark.slow
def test_a_controller_that_can_gain_nothing_soon_has_no_accesses_sampled(tmp_path: Path) -> None:
    found = measure(tmp_path, seconds=40)
    assert found[0].core_percent > 0
    assert found[-1].sampled_windows == 0
    assert found[-1].window_steps > 16
