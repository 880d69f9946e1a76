"""How many bytes of answers may be under way: enough to keep a link busy, few enough to keep its
queue short, so that the trainers' gradients do not wait behind rows that are needed later.

A trainer asks for several batches ahead, and servers send as fast as TCP lets them. On a slow link
that fills a queue, in which the all-reduce of every step stands, too. The bytes under way to a
trainer are bounded by the window that it offers, so it offers what the link delivers in a few
milliseconds: window = rate x (target + 2 x round trip). The rate is that of answers while some are
waited for. Below a link's rate a window of that size more than fills the round trip, so the rate
measured grows, and the window with it, until the link is busy; more than that only adds delay.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Protocol

QUEUE_TARGET_S = 0.0025
"""Delay that answers may cause in a link's queue."""
MIN_WINDOW_BYTES = 64 * 1024
"""Less costs throughput wherever this process waits for a core (measured; docs/pacing.md)."""
RATE_ANSWERS = 16
"""Answers that a rate is taken from; before there are so many, windows are left open."""
_MAX_WINDOW_BYTES = 2**30
_SAME = 0.125
"""Windows that differ by a smaller share are not worth a system call."""


class Link(Protocol):
    """What is paced: the way from one partition's servers to here."""

    @property
    def min_round_trip_s(self) -> float:
        """Round trip of an empty link, in seconds."""

    def limit_window(self, num_bytes: int) -> None:
        """Let so many bytes be under way."""


class Pacer:
    """Sets the window of one link by the answers that come over it."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._answers: deque[tuple[int, float]] = deque(maxlen=RATE_ANSWERS)
        self._last = 0.0
        self._window = 0

    def answered(self, num_bytes: int, *, asked: float, now: float) -> None:
        """An answer has come; asked, now: seconds of one clock."""
        self._answers.append((num_bytes, now - max(asked, self._last)))
        self._last = now
        if len(self._answers) == RATE_ANSWERS:
            self._offer(self._wanted())

    def _offer(self, window: int) -> None:
        if abs(window - self._window) > _SAME * self._window:
            self._window = window
            self._link.limit_window(window)

    def _wanted(self) -> int:
        num_bytes = sum(size for size, _ in self._answers)
        seconds = sum(busy for _, busy in self._answers)
        return window_bytes(num_bytes, seconds, round_trip_s=self._link.min_round_trip_s)


def window_bytes(num_bytes: int, seconds: float, *, round_trip_s: float) -> int:
    """Window for a link that delivers `num_bytes` in `seconds`."""
    allowed = num_bytes * (QUEUE_TARGET_S + 2 * round_trip_s)
    if allowed >= _MAX_WINDOW_BYTES * seconds:
        return _MAX_WINDOW_BYTES
    return max(MIN_WINDOW_BYTES, int(allowed / seconds))


class Pacing:
    """A pacer for each partition behind a network; answers of others are not paced."""

    def __init__(self, links: Mapping[int, Link]) -> None:
        self._pacers = {owner: Pacer(link) for owner, link in links.items()}

    def answered(self, owner: int, num_bytes: int, *, asked: float, now: float) -> None:
        """Rows have come from `owner`."""
        if (pacer := self._pacers.get(owner)) is not None:
            pacer.answered(num_bytes, asked=asked, now=now)
