"""What such rows cost earlier in the run."""

from __future__ import annotations

from rudder.agents.planners.hindsight import seen_wait_ms
from rudder.training.metrics import Window
from tests.agents.steered import SETTINGS, window_of


def _seen(*points: tuple[float, float]) -> list[Window]:
    return [
        window_of(16 * number, settings=SETTINGS, rows=rows, wait_ms=wait)
        for number, (rows, wait) in enumerate(points)
    ]


def test_the_wait_is_that_of_windows_with_more_rows_than_now_and_no_more_than_expected() -> None:
    seen = _seen((3000, 60), (1500, 12), (1400, 8), (1600, 10), (500, 0), (500, 0))
    assert seen_wait_ms(seen, more_than=500, up_to=1500) == 10.0


def test_one_window_tells_nothing() -> None:
    assert seen_wait_ms(_seen((1500, 12), (500, 0)), more_than=500, up_to=1500) is None


def test_rows_that_never_came_tell_nothing() -> None:
    assert seen_wait_ms(_seen((3000, 60), (3000, 60)), more_than=500, up_to=1500) is None
    assert seen_wait_ms([], more_than=0, up_to=1) is None
