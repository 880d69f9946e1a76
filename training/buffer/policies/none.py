"""No buffer: every remote row is fetched whenever a batch needs it."""

from __future__ import annotations

import numpy as np

from rudder.training.buffer.policy import IntArray, Plan
from rudder.training.settings import BufferSettings, Change


class NoBuffer:
    """Keeps nothing; its lookahead only hides latency."""

    num_buffered = 0
    num_bytes = 0

    def __init__(self, *, lookahead_batches: int) -> None:
        self._settings = BufferSettings(capacity_rows=0, lookahead_batches=lookahead_batches)

    @property
    def settings(self) -> BufferSettings:
        """The settings in force."""
        return self._settings

    def observe(self, nodes: IntArray) -> None:
        """Nothing is learned."""

    def plan(self, nodes: IntArray) -> Plan:
        """Everything is a miss."""
        nothing = np.empty(0, dtype=np.int64)
        return Plan(hits=nothing, hit_slots=nothing, misses=np.arange(len(nodes)))

    def skip(self, nodes: IntArray) -> None:
        """Nothing is learned."""

    def refusal(self, change: Change) -> str | None:
        """Only the lookahead can be changed."""
        for name, unchanged in Change():
            if name != "lookahead_batches" and getattr(change, name) != unchanged:
                return f"{name} means nothing to the policy `none`, which has no buffer"
        return None

    def apply(self, change: Change) -> None:
        """Set the lookahead."""
        self._settings = change.over(self._settings)
