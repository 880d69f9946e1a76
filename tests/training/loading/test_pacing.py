"""Windows that keep a link busy and its queue short."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rudder.training.loading.pacing import (
    MIN_WINDOW_BYTES,
    QUEUE_TARGET_S,
    RATE_ANSWERS,
    Pacing,
    window_bytes,
)

_MB = 1_000_000


@dataclass
class SimulatedLink:
    """A link of `rate` bytes/s over which one transfer runs at a time, under the window it got."""

    rate: float
    min_round_trip_s: float = 0.0001
    windows: list[int] = field(default_factory=list)

    @property
    def window(self) -> float:
        return self.windows[-1] if self.windows else float("inf")

    @property
    def throughput(self) -> float:
        return min(self.rate, self.window / self.min_round_trip_s)

    @property
    def queue_s(self) -> float:
        """How long a byte stands in the queue: what is under way and not on the wire itself."""
        return max(0.0, self.window / self.rate - self.min_round_trip_s)

    def limit_window(self, num_bytes: int) -> None:
        self.windows.append(num_bytes)

    def answer(self, pacing: Pacing, sizes: list[int]) -> None:
        """All are asked for at once, and come one after the other."""
        now = asked = len(self.windows) * 1000.0
        for size in sizes:
            now += size / self.throughput
            pacing.answered(0, size, asked=asked, now=now)


def test_windows_are_left_open_until_a_rate_is_known() -> None:
    link = SimulatedLink(rate=25 * _MB)
    link.answer(Pacing({0: link}), [_MB] * (RATE_ANSWERS - 1))
    assert link.windows == []


@given(
    mbit=st.floats(250, 100_000),
    round_trip_ms=st.floats(0.01, 20),
    size=st.integers(10_000, 50_000_000),
)
def test_a_link_stays_busy_and_its_queue_short(
    mbit: float, round_trip_ms: float, size: int
) -> None:
    link = SimulatedLink(rate=mbit * 1e6 / 8, min_round_trip_s=round_trip_ms / 1000)
    link.answer(Pacing({0: link}), [size] * 4 * RATE_ANSWERS)
    assert link.throughput == link.rate
    assert link.queue_s <= QUEUE_TARGET_S + link.min_round_trip_s + 1e-3


@given(slow=st.integers(25, 100), faster=st.integers(2, 40), round_trip_ms=st.floats(0.01, 5))
def test_a_link_that_becomes_faster_is_used(slow: int, faster: int, round_trip_ms: float) -> None:
    link = SimulatedLink(rate=slow * _MB, min_round_trip_s=round_trip_ms / 1000)
    pacing = Pacing({0: link})
    link.answer(pacing, [_MB] * 2 * RATE_ANSWERS)
    link.rate *= faster
    link.answer(pacing, [_MB] * 20 * RATE_ANSWERS)
    assert link.throughput == link.rate


def test_time_in_which_nothing_was_asked_does_not_count() -> None:
    busy, idle = SimulatedLink(rate=100 * _MB), SimulatedLink(rate=100 * _MB)
    always, now_and_then = Pacing({0: busy}), Pacing({0: idle})
    for number in range(RATE_ANSWERS):
        always.answered(0, _MB, asked=0.0, now=0.01 * (number + 1))
        now_and_then.answered(0, _MB, asked=float(number), now=number + 0.01)
    assert idle.windows == pytest.approx(busy.windows, abs=2)


def test_a_window_is_never_too_small_for_a_process_that_waits_for_a_core() -> None:
    assert window_bytes(1000, 10.0, round_trip_s=0.0) == MIN_WINDOW_BYTES


def test_answers_that_came_together_open_the_window() -> None:
    assert window_bytes(_MB, 0.0, round_trip_s=0.0) > 100 * _MB


def test_links_are_paced_on_their_own() -> None:
    fast, slow = SimulatedLink(rate=500 * _MB), SimulatedLink(rate=50 * _MB)
    pacing = Pacing({0: fast, 2: slow})
    now = 0.0
    for _ in range(RATE_ANSWERS):
        pacing.answered(0, _MB, asked=now, now=now + _MB / fast.rate)
        pacing.answered(2, _MB, asked=now, now=now + _MB / slow.rate)
        now += 1.0
    assert fast.window == pytest.approx(10 * slow.window, rel=0.01)


def test_a_partition_without_a_link_is_not_paced() -> None:
    link = SimulatedLink(rate=50 * _MB)
    pacing = Pacing({0: link})
    for number in range(2 * RATE_ANSWERS):
        pacing.answered(1, _MB, asked=number, now=number + 0.1)
    assert link.windows == []
