"""Questions to other partitions, filed by the batch that asks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rudder.training.errors import RunError
from rudder.training.loading.batch import InFlightBatch
from rudder.training.loading.owner_accounts import Pull
from rudder.training.loading.pacing import Pacing
from rudder.training.partition_view import IntArray, PartitionView
from rudder.training.sampling.neighbor import LayerDraw
from rudder.training.wire.connections import server_links
from rudder.training.wire.lean import LeanWire
from rudder.training.wire.services import services_registered
from rudder.training.wire.stock import StockWire
from rudder.training.wire.wire import Answer, Wire, num_bytes_of


@dataclass(frozen=True)
class _Question:
    """num_rows, asked: of a pull; when it was asked for."""

    in_flight: InFlightBatch
    owner: int
    num_rows: int = 0
    asked: float = 0.0


class PendingRequests:
    """Sends a batch's questions and puts each answer with the batch that waits for it."""

    def __init__(self, wire: Wire, *, pacing: Pacing) -> None:
        self._wire = wire
        self._pacing = pacing
        self._asked: dict[int, _Question] = {}
        self._last_answer = time.monotonic()

    @property
    def num_open(self) -> int:
        """Questions without an answer."""
        return len(self._asked)

    def sample(
        self, in_flight: InFlightBatch, owner: int, nodes: IntArray, draw: LayerDraw
    ) -> None:
        """Ask for in-edges of nodes."""
        self._file(_Question(in_flight, owner), self._wire.sample(owner, nodes, draw))

    def pull(
        self,
        in_flight: InFlightBatch,
        owner: int,
        ids: IntArray,
        keys: Sequence[str],
        *,
        first: int,
    ) -> int:
        """Ask for rows, as `Wire.pull` does; returns the ticket of the answer."""
        question = _Question(in_flight, owner, num_rows=len(ids), asked=time.perf_counter())
        return self._file(question, self._wire.pull(owner, ids, keys, first=first))

    def _file(self, question: _Question, ticket: int) -> int:
        if not self._asked:
            self._last_answer = time.monotonic()
        question.in_flight.tickets.append(ticket)
        self._asked[ticket] = question
        return ticket

    def receive(self, timeout_ms: int) -> bool:
        """Wait for one answer and file it; False after the time is up."""
        answer = self._wire.receive(timeout_ms)
        if answer is None:
            return False
        self._last_answer = time.monotonic()
        ticket, content = answer
        question = self._asked.pop(ticket)
        question.in_flight.answers[ticket] = content
        if question.num_rows:
            self._pulled(question, content)
        return True

    def _pulled(self, question: _Question, answer: Answer) -> None:
        now, asked, owner = time.perf_counter(), question.asked, question.owner
        pull = Pull(owner=owner, rows=question.num_rows, seconds=now - asked)
        question.in_flight.pulls.append(pull)
        self._pacing.answered(owner, num_bytes_of(answer), asked=asked, now=now)

    def check(self, *, timeout_s: float) -> None:
        """Raise RunError when open questions have had no answer for so long."""
        if not self._asked or time.monotonic() - self._last_answer <= timeout_s:
            return
        owners = sorted({question.owner for question in self._asked.values()})
        raise RunError(
            f"no answer from the graph servers of partitions {owners} for {timeout_s:g} s",
            remedy="look whether the servers on those hosts are alive, and at their logs",
        )


def open_requests(view: PartitionView, *, with_edge_ids: bool) -> PendingRequests:
    """Pending requests with our own wire where the servers know it, else with DGL's requests."""
    pacing = Pacing(server_links())
    if services_registered():
        return PendingRequests(LeanWire(view, with_edge_ids=with_edge_ids), pacing=pacing)
    return PendingRequests(StockWire(with_edge_ids=with_edge_ids), pacing=pacing)
