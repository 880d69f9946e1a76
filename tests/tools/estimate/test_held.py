"""Capacities that batches found, from what windows tell of their settings."""

from __future__ import annotations

from rudder.tools.estimate.growth import held_rows
from rudder.training.metrics import Window
from rudder.training.settings import BufferSettings
from tests.tools.runs import window


def told(*capacities: int, since: int | None = None) -> list[Window]:
    """One window after the other; since: told by the last one."""
    windows = [
        window(index, BufferSettings(capacity_rows=rows)) for index, rows in enumerate(capacities)
    ]
    return [*windows[:-1], windows[-1].model_copy(update={"settings_since": since})]


def test_a_change_counts_from_the_batch_that_the_window_tells() -> None:
    rows = held_rows(told(100, 700, since=20), first_step=0, num_batches=32)
    assert rows.tolist() == [100] * 20 + [700] * 12


def test_without_a_word_a_change_came_a_third_into_its_window() -> None:
    rows = held_rows(told(100, 700), first_step=0, num_batches=32)
    assert rows.tolist() == [100] * 21 + [700] * 11


def test_batches_ahead_of_the_last_window_still_find_what_was_there_before() -> None:
    rows = held_rows(told(100, 700, since=36), first_step=0, num_batches=40)
    assert rows.tolist() == [100] * 36 + [700] * 4


def test_what_a_buffer_lost_as_it_shrank_it_does_not_hold() -> None:
    rows = held_rows(told(700, 100, 300, since=32), first_step=0, num_batches=48)
    assert rows.tolist() == [100] * 32 + [300] * 16


def test_batches_before_the_first_window_had_what_it_had() -> None:
    windows = told(100, 100, 700)[1:]
    assert held_rows(windows, first_step=0, num_batches=40).tolist() == [100] * 37 + [700] * 3
