"""Which windows tell of the present."""

from __future__ import annotations

from rudder.tools.estimate.means import has_slowed, of_now
from rudder.training.metrics import Window
from tests.agents.steered import SETTINGS, window_of


def _waiting(*waits_ms: float) -> list[Window]:
    """Windows whose trainer computes for 20 ms a step."""
    return [
        window_of(16 * number, settings=SETTINGS, wait_ms=wait)
        for number, wait in enumerate(waits_ms)
    ]


def test_windows_before_a_jump_are_of_other_circumstances() -> None:
    windows = _waiting(0, 1, 0, 18, 20)
    assert of_now(windows) == tuple(windows[3:])


def test_a_jump_down_counts_as_well() -> None:
    windows = _waiting(18, 20, 0, 0, 1)
    assert of_now(windows) == tuple(windows[2:])


def test_one_window_that_stands_out_is_chance() -> None:
    windows = _waiting(0, 1, 0, 18)
    assert of_now(windows) == tuple(windows)


def test_what_comes_and_goes_is_no_jump() -> None:
    windows = _waiting(0, 9, 0, 9, 0, 0, 0)
    assert of_now(windows) == tuple(windows)


def test_what_waits_much_the_same_is_all_of_now() -> None:
    windows = _waiting(4, 5, 6, 3, 8)
    assert of_now(windows) == tuple(windows)
    assert of_now([]) == ()


def _with_rows(*points: tuple[float, float]) -> list[Window]:
    return [
        window_of(16 * number, settings=SETTINGS, rows=rows, wait_ms=wait)
        for number, (rows, wait) in enumerate(points)
    ]


def test_a_link_has_slowed_where_as_many_rows_are_waited_for_much_longer() -> None:
    assert has_slowed(_with_rows((900, 60), (200, 0), (240, 1), (220, 0), (210, 8)))


def test_more_rows_than_ever_do_not_tell_that_a_link_has_slowed() -> None:
    assert not has_slowed(_with_rows((900, 60), (200, 0), (200, 0), (300, 0), (800, 40)))
    assert not has_slowed(_with_rows((900, 60), (200, 0), (800, 40), (200, 0), (790, 40)))


def test_a_run_that_begins_does_not_tell_that_a_link_has_slowed() -> None:
    assert not has_slowed([])
    assert not has_slowed(_with_rows((200, 0), (200, 20)))
