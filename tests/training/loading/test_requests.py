"""Questions and answers, filed by the batch that asks."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from rudder.training.errors import RunError
from rudder.training.loading.batch import InFlightBatch
from rudder.training.loading.pacing import RATE_ANSWERS, Pacing
from rudder.training.loading.requests import PendingRequests
from rudder.training.partition_view import IntArray
from rudder.training.sampling.neighbor import Edges, LayerDraw
from rudder.training.wire.wire import Answer

_ROW_BYTES = 512


@dataclass
class InstantWire:
    """Answers the oldest question whenever it is asked to; nothing while `is_silent`."""

    is_silent: bool = False
    waiting: deque[tuple[int, Answer]] = field(default_factory=deque)
    num_asked: int = 0

    @property
    def num_open(self) -> int:
        return len(self.waiting)

    def sample(self, owner: int, nodes: IntArray, draw: LayerDraw) -> int:
        none = np.empty(0, dtype=np.int64)
        return self._ask(Edges(counts=np.zeros_like(nodes), sources=none, edge_ids=None))

    def pull(self, owner: int, ids: IntArray, names: Sequence[str], *, first: int) -> int:
        rows = torch.zeros(len(ids), _ROW_BYTES // 4)
        return self._ask(dict.fromkeys(names, rows))

    def receive(self, timeout_ms: int) -> tuple[int, Answer] | None:
        return None if self.is_silent or not self.waiting else self.waiting.popleft()

    def _ask(self, answer: Answer) -> int:
        self.num_asked += 1
        self.waiting.append((self.num_asked, answer))
        return self.num_asked


@dataclass
class RecordedLink:
    """Keeps the windows it got."""

    min_round_trip_s: float = 0.0
    windows: list[int] = field(default_factory=list)

    def limit_window(self, num_bytes: int) -> None:
        self.windows.append(num_bytes)


def _in_flight(number: int = 0) -> InFlightBatch:
    return InFlightBatch(number=number, seeds=np.arange(4))


def _nodes(count: int) -> IntArray:
    return np.arange(count, dtype=np.int64)


def test_each_batch_gets_its_own_answers() -> None:
    pending = PendingRequests(InstantWire(), pacing=Pacing({}))
    first, second = _in_flight(0), _in_flight(1)
    pending.sample(first, 1, _nodes(3), LayerDraw(5, key=0))
    ticket = pending.pull(second, 1, _nodes(7), ["feat"], first=0)
    assert pending.receive(0)
    assert first.is_answered
    assert not second.is_answered
    assert pending.receive(0)
    rows = second.answers[ticket]
    assert not isinstance(rows, Edges)
    assert rows["feat"].shape == (7, _ROW_BYTES // 4)
    assert pending.num_open == 0


def test_a_pull_is_counted_with_its_owner_and_a_sample_is_not() -> None:
    pending = PendingRequests(InstantWire(), pacing=Pacing({}))
    in_flight = _in_flight()
    pending.sample(in_flight, 1, _nodes(3), LayerDraw(5, key=0))
    pending.pull(in_flight, 2, _nodes(7), ["feat", "label"], first=0)
    while pending.receive(0):
        pass
    assert [(pull.owner, pull.rows) for pull in in_flight.pulls] == [(2, 7)]


def test_only_pulls_set_the_window_of_their_owner() -> None:
    link, other = RecordedLink(), RecordedLink()
    pending = PendingRequests(InstantWire(), pacing=Pacing({1: link, 2: other}))
    for number in range(RATE_ANSWERS):
        pending.sample(_in_flight(number), 2, _nodes(3), LayerDraw(5, key=0))
        pending.pull(_in_flight(number), 1, _nodes(100), ["feat"], first=0)
    while pending.receive(0):
        pass
    assert len(link.windows) == 1
    assert other.windows == []


def test_silence_of_the_servers_is_told_with_their_partitions() -> None:
    pending = PendingRequests(InstantWire(is_silent=True), pacing=Pacing({}))
    pending.pull(_in_flight(), 3, _nodes(1), ["feat"], first=0)
    assert not pending.receive(0)
    with pytest.raises(RunError, match=r"partitions \[3\]"):
        pending.check(timeout_s=0.0)


def test_nobody_complains_where_nothing_was_asked() -> None:
    PendingRequests(InstantWire(is_silent=True), pacing=Pacing({})).check(timeout_s=0.0)
