"""Windows: sums over steps, times as the training thread sees them, nothing counted twice."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from rudder.training.control.messages import WINDOW_STEPS
from rudder.training.control.peers import FinishedWindow
from rudder.training.loading import window_meter
from rudder.training.loading.batch import Batch, StepAccounts
from rudder.training.loading.owner_accounts import Pull
from rudder.training.loading.window_meter import WindowMeter
from rudder.training.metrics import OwnerTraffic, RowCounts, RowsFetched, Seconds
from rudder.training.settings import BufferSettings

SETTINGS = BufferSettings(capacity_rows=10)


def step(
    meter: WindowMeter, number: int, *, wait: float = 0.0, compute: float = 0.0, shown: bool = True
) -> None:
    meter.begin()
    time.sleep(wait)
    accounts = StepAccounts(
        rows=RowCounts(remote_rows=5, hits=3, rows_fetched=RowsFetched(miss=2)),
        seconds=Seconds(exposed_wait=wait),
        pulls=(Pull(owner=number % 2, rows=number, seconds=0.5),),
        accesses=np.array([number], dtype=np.int32) if shown else None,
    )
    meter.hand_over(batch_of(number, accounts))
    time.sleep(compute)
    meter.finish()


def batch_of(number: int, accounts: StepAccounts) -> Batch:
    none = torch.empty(0)
    return Batch(number=number, input_nodes=none, seeds=none, blocks=[], accounts=accounts)


def window(meter: WindowMeter) -> FinishedWindow:
    assert meter.is_full
    return meter.window(settings=SETTINGS, buffered_rows=4, waiting_batches=2)


def test_a_window_has_the_sums_of_its_steps() -> None:
    meter = WindowMeter(3, rate=0.5)
    meter.start_epoch()
    for number in range(WINDOW_STEPS):
        assert not meter.is_full
        step(meter, number)
    done = window(meter)
    found = done.window
    assert (found.rank, found.index, found.epoch, found.first_step) == (3, 0, 0, 0)
    assert found.num_steps == WINDOW_STEPS
    assert found.rows.hits + found.rows.rows_fetched.miss == found.rows.remote_rows == 80
    assert found.owners == (
        OwnerTraffic(part=0, rows=56, pulls=8, seconds=4.0),
        OwnerTraffic(part=1, rows=64, pulls=8, seconds=4.0),
    )
    assert done.accesses is not None
    assert done.accesses.rate == 0.5
    assert [batch.tolist() for batch in done.accesses.batches] == [[n] for n in range(16)]


def test_a_long_window_ends_early_where_steps_have_become_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    meter = WindowMeter(0, wanted_steps=lambda: 512)
    meter.start_epoch()
    for number in range(20):
        step(meter, number)
    assert not meter.is_full
    monkeypatch.setattr(window_meter, "MAX_WINDOW_S", 0.05)
    step(meter, 20, wait=0.06)
    assert window(meter).window.num_steps == 21
    step(meter, 21, wait=0.06)
    assert not meter.is_full  # a window has 16 steps at least


def test_windows_follow_each_other_over_epochs_without_a_gap() -> None:
    meter = WindowMeter(0)
    found = []
    for epoch in range(3):
        meter.start_epoch()
        for number in range(epoch * 12, epoch * 12 + 12):
            step(meter, number)
            if meter.is_full:
                found.append(window(meter).window)
    assert [w.first_step for w in found] == [0, 16]
    assert [w.index for w in found] == [0, 1]
    assert [w.epoch for w in found] == [1, 2]
    assert [w.owners[0].rows for w in found] == [56, 56 + 8 * 16]


def test_a_step_is_its_wait_and_the_time_until_the_next_batch_is_wanted() -> None:
    meter = WindowMeter(0)
    meter.start_epoch()
    took = 0.0
    for number in range(WINDOW_STEPS):
        began = time.perf_counter()
        step(meter, number, wait=0.002, compute=0.003)
        took += time.perf_counter() - began
        time.sleep(0.005)  # between epochs, say
    found = window(meter).window
    assert found.wall_seconds is not None
    assert found.seconds.compute >= WINDOW_STEPS * 0.003
    assert found.wall_seconds >= found.seconds.compute + WINDOW_STEPS * 0.002
    assert found.wall_seconds <= took


def test_what_is_left_out_is_no_compute() -> None:
    meter = WindowMeter(0)
    meter.start_epoch()
    began, left_out = time.perf_counter(), 0.0
    for number in range(WINDOW_STEPS):
        meter.begin()
        meter.hand_over(batch_of(number, StepAccounts(RowCounts(), Seconds())))
        paused = time.perf_counter()
        time.sleep(0.004)
        left_out += (seconds := time.perf_counter() - paused)
        meter.leave_out(seconds)
        meter.finish()
    took = time.perf_counter() - began
    found = window(meter).window
    assert found.wall_seconds is not None
    assert 0 <= found.seconds.compute <= found.wall_seconds <= took - left_out + 1e-6


def test_a_window_with_a_step_whose_accesses_are_unknown_shows_none() -> None:
    meter = WindowMeter(0)
    meter.start_epoch()
    for number in range(WINDOW_STEPS):
        step(meter, number, shown=number > 0)
    assert window(meter).accesses is None
