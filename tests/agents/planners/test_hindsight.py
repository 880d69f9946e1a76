"""What the run has seen of such rows."""

from __future__ import annotations

from rudder.agents.planners.evidence import fewest_rows, seen_wait_ms
from rudder.training.metrics import Window
from rudder.training.settings import BufferSettings
from tests.agents.steered import SETTINGS, window_of


def _seen(*points: tuple[float, float]) -> list[Window]:
    """Windows of a run, after its first one."""
    return [
        window_of(16 * number, settings=SETTINGS, rows=rows, wait_ms=wait)
        for number, (rows, wait) in enumerate([(1450, 90), *points])
    ]


def test_the_wait_is_that_of_windows_with_about_as_many_rows_as_expected() -> None:
    seen = _seen((3000, 60), (1500, 12), (1400, 8), (1600, 10), (900, 0), (900, 0), (500, 0))
    assert seen_wait_ms(seen, more_than=500, up_to=1500) == 10.0


def test_one_window_tells_unless_it_is_the_first_of_the_run() -> None:
    assert seen_wait_ms(_seen((1500, 12), (500, 0)), more_than=500, up_to=1500) == 12.0
    assert seen_wait_ms(_seen((500, 0)), more_than=500, up_to=1500) is None


def test_only_the_newest_windows_count() -> None:
    seen = _seen(*[(1500, 0)] * 20, *[(1500, 12)] * 8, (500, 0))
    assert seen_wait_ms(seen, more_than=500, up_to=1500) == 12.0


def test_rows_that_never_came_tell_nothing() -> None:
    assert seen_wait_ms(_seen((3000, 60), (3000, 60)), more_than=500, up_to=1500) is None
    assert seen_wait_ms([], more_than=0, up_to=1) is None


def test_the_fewest_rows_are_those_of_settings_not_of_a_lucky_window() -> None:
    settings = [BufferSettings(capacity_rows=rows) for rows in (1000, 2000, 1000)]
    rows = [(900, 500, 510, 505, 430), (300, 310, 305), (505, 500)]
    windows = [
        window_of(0, settings=kind, rows=each)
        for kind, group in zip(settings, rows, strict=True)
        for each in group
    ]
    assert fewest_rows(windows) == 305
    assert fewest_rows(windows[:5]) == 505
    assert fewest_rows([]) is None
