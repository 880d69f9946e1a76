"""How far ahead of the trainer a loader's thread is given seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest

from rudder.training.loading.arguments import Course
from rudder.training.loading.epoch_queue import EpochQueue
from rudder.training.loading.loader_thread import LoaderThread
from rudder.training.loading.seed_order import SeedBatch, SeedOrder
from rudder.training.settings import BufferSettings

NUM_BATCHES = 4
ORDER = SeedOrder(
    np.arange(NUM_BATCHES * 2),
    Course.of(batch_size=2, shuffle=False, drop_last=False, epochs=None, seed=0),
    phases=None,
    seed=(0,),
)


class Given:
    """A thread that keeps what it is given."""

    def __init__(self, *, lookahead: int) -> None:
        self.settings = BufferSettings(
            capacity_rows=10, lookahead_batches=lookahead, replacement_interval=0
        )
        self.batches: list[SeedBatch] = []

    def add(self, batches: Sequence[SeedBatch]) -> None:
        self.batches.extend(batches)

    def drop_all(self) -> None:
        self.batches.clear()


def queue(thread: Given, *, epochs: int | None) -> EpochQueue:
    return EpochQueue(ORDER, cast("LoaderThread", thread), epochs=epochs)


@pytest.mark.parametrize(("lookahead", "epochs_ahead"), [(0, 1), (4, 1), (5, 2), (9, 3), (1000, 6)])
def test_at_the_end_of_an_epoch_the_lookahead_still_has_seeds(
    lookahead: int, epochs_ahead: int
) -> None:
    thread = Given(lookahead=lookahead)
    queue(thread, epochs=7).begin()
    assert len(thread.batches) == NUM_BATCHES * (1 + epochs_ahead)


def test_nothing_is_given_ahead_where_nobody_knows_what_follows() -> None:
    thread = Given(lookahead=100)
    queue(thread, epochs=None).begin()
    assert len(thread.batches) == NUM_BATCHES


def test_every_epoch_is_given_once() -> None:
    thread, epochs = Given(lookahead=10), 5
    epoch_queue = queue(thread, epochs=epochs)
    for _ in range(epochs):
        epoch_queue.begin()
        epoch_queue.end(finished=True)
    assert len(thread.batches) == NUM_BATCHES * epochs


def test_an_epoch_left_early_has_those_after_it_given_again() -> None:
    thread = Given(lookahead=10)
    epoch_queue = queue(thread, epochs=5)
    epoch_queue.begin()
    epoch_queue.end(finished=False)
    assert not thread.batches
    epoch_queue.begin()
    assert len(thread.batches) == NUM_BATCHES * 4


@pytest.mark.parametrize("lookahead", [0, 10])
def test_the_epoch_after_one_left_early_does_not_depend_on_how_far_ahead_seeds_were_given(
    lookahead: int,
) -> None:
    thread = Given(lookahead=lookahead)
    epoch_queue = queue(thread, epochs=5)
    epoch_queue.begin()
    epoch_queue.end(finished=False)
    epoch_queue.begin()
    found = [batch.draw_key for batch in thread.batches[:NUM_BATCHES]]
    assert found == [batch.draw_key for batch in ORDER.epoch(1)]


@pytest.mark.parametrize("skipped", [0, 1, NUM_BATCHES])
def test_a_resumed_run_has_the_rest_of_its_epoch_and_those_after_it(skipped: int) -> None:
    thread = Given(lookahead=100)
    EpochQueue(
        ORDER, cast("LoaderThread", thread), epochs=5, first_epoch=2, skipped=skipped
    ).begin()
    wanted = [*ORDER.epoch(2)[skipped:], *ORDER.epoch(3), *ORDER.epoch(4)]
    assert [batch.draw_key for batch in thread.batches] == [batch.draw_key for batch in wanted]
