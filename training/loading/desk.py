"""Questions to other partitions, filed by the batch that asks."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rudder.training.errors import RunError
from rudder.training.loading.batch import Journey
from rudder.training.partition_view import IntArray
from rudder.training.wire.wire import Wire


class Desk:
    """Sends a batch's questions and puts each answer with the batch that waits for it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._asked: dict[int, tuple[Journey, int]] = {}
        self._last_answer = time.monotonic()

    @property
    def num_open(self) -> int:
        """Questions without an answer."""
        return len(self._asked)

    def sample(self, journey: Journey, owner: int, nodes: IntArray, fanout: int) -> None:
        """Ask for in-edges of nodes."""
        self._file(journey, owner, self._wire.sample(owner, nodes, fanout))

    def pull(self, journey: Journey, owner: int, nodes: IntArray, keys: Sequence[str]) -> int:
        """Ask for rows of nodes; returns the ticket of the answer."""
        return self._file(journey, owner, self._wire.pull(owner, nodes, keys))

    def _file(self, journey: Journey, owner: int, ticket: int) -> int:
        if not self._asked:
            self._last_answer = time.monotonic()
        journey.tickets.append(ticket)
        self._asked[ticket] = (journey, owner)
        return ticket

    def receive(self, timeout_ms: int) -> bool:
        """Wait for one answer and file it; False after the time is up."""
        answer = self._wire.receive(timeout_ms)
        if answer is None:
            return False
        self._last_answer = time.monotonic()
        ticket, content = answer
        journey, _ = self._asked.pop(ticket)
        journey.answers[ticket] = content
        return True

    def check(self, *, timeout_s: float) -> None:
        """Raise RunError when open questions have had no answer for so long."""
        if not self._asked or time.monotonic() - self._last_answer <= timeout_s:
            return
        owners = sorted({owner for _, owner in self._asked.values()})
        raise RunError(
            f"no answer from the graph servers of partitions {owners} for {timeout_s:g} s",
            remedy="look whether the servers on those hosts are alive, and at their logs",
        )
