"""Who called which tool: two rows of the audit log for every call, under the agent that made it."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np

from rudder.agents.guard import Guard
from rudder.memory.decision_inputs import DecisionInputs, Node, Passage
from rudder.memory.journal import AuditEntry, Journal
from rudder.tools.calls import ToolCall, ToolResult
from rudder.tools.estimate.history import History
from rudder.tools.toolbox import Toolbox
from rudder.training.steering_options import SteeringOptions


def fingerprint(history: History) -> int | None:
    """CRC-32 of what the estimator replays; None where nothing was sampled.

    Uses before the trace count as nodes and a rounded sum, for their last digits depend on the
    machine.
    """
    trace = history.trace
    if trace is None:
        return None
    used_before = np.packbits(trace.heat.of_nodes > 0)
    plain = f"{trace.first_step} {trace.num_batches} {trace.rate} {trace.heat.total:.6g}"
    crc = zlib.crc32(plain.encode())
    for part in (trace.nodes.astype("<i8"), trace.bounds.astype("<i8"), used_before):
        crc = zlib.crc32(part.tobytes(), crc)
    return crc


class Recorder(Protocol):
    """Told by the graph of each decision's way through it; one decision at a time."""

    def begin(self, toolbox: Toolbox, *, episode_id: str) -> None:
        """A decision begins."""

    def passing(self, node: Node, toolbox: Toolbox) -> AbstractContextManager[None]:
        """Around what a node does."""


class NullRecorder:
    """Keeps nothing."""

    def begin(self, toolbox: Toolbox, *, episode_id: str) -> None:
        """Do nothing."""

    def passing(self, node: Node, toolbox: Toolbox) -> AbstractContextManager[None]:
        """Do nothing around it."""
        return contextlib.nullcontext()


NO_RECORDER = NullRecorder()


class DecisionRecorder:
    """Writes into the journal once there is a plan, and again after each further node."""

    def __init__(self, journal: Journal, *, guard: Guard, options: SteeringOptions) -> None:
        """guard: the one of the graph; options: what its roles were made of."""
        self._journal, self._guard, self._options = journal, guard, options
        self._inputs: DecisionInputs | None = None

    def begin(self, toolbox: Toolbox, *, episode_id: str) -> None:
        """Look at everything before the observer does, for looking teaches the estimator."""
        self._inputs = DecisionInputs(
            episode_id=episode_id,
            objective=self._options.objective,
            tolerance=self._options.tolerance,
            seed=self._options.seed,
            memory_budget_bytes=toolbox.limits.memory_budget_bytes,
            learned=toolbox.whatif.learned,
            guard=self._guard.state,
            fingerprint=fingerprint(toolbox.history),
        )

    @contextlib.contextmanager
    def passing(self, node: Node, toolbox: Toolbox) -> Iterator[None]:
        """Note how many windows are known before and after."""
        begin = toolbox.history.version
        yield
        if self._inputs is None:
            return
        passage = Passage(node=node, begin=begin, end=toolbox.history.version)
        self._inputs = self._inputs.model_copy(
            update={"passages": (*self._inputs.passages, passage)}
        )
        if node != "observe":
            self._journal.add_inputs(self._inputs)


_AGENTS: dict[Node, str] = {
    "observe": "observer",
    "plan": "planner",
    "reconsider": "planner",
    "criticise": "critic",
    "guard": "guard",
}
_NOBODY = "act"
"""Stands in the log for calls from outside a decision."""


class CallLog:
    """Follows a decision through the graph, as its recorder; `write` is a toolbox's `on_call`."""

    def __init__(self, journal: Journal, *, recorder: Recorder = NO_RECORDER) -> None:
        """recorder: told the same, for replay."""
        self._journal, self._recorder = journal, recorder
        self._agent = _NOBODY
        self._step = 0
        self._episode_id: str | None = None

    def begin(self, toolbox: Toolbox, *, episode_id: str) -> None:
        """A decision begins; what is called from now on belongs to it."""
        self._episode_id, self._step = episode_id, toolbox.history.next_step
        self._recorder.begin(toolbox, episode_id=episode_id)

    @contextlib.contextmanager
    def passing(self, node: Node, toolbox: Toolbox) -> Iterator[None]:
        """Calls within are those of the node's agent."""
        self._agent = _AGENTS[node]
        try:
            with self._recorder.passing(node, toolbox):
                yield
        finally:
            self._agent = _NOBODY

    def write(self, call: ToolCall, result: ToolResult, latency_ms: float) -> None:
        """Log a call and its result, joined by the call's id."""
        asked = AuditEntry(
            kind="call",
            call_id=call.call_id,
            agent=self._agent,
            tool=call.tool,
            step=self._step,
            episode_id=self._episode_id,
            arguments=call.model_dump_json(include={"arguments"}),
        )
        answered = {
            "kind": "result",
            "arguments": None,
            "result": result.content,
            "outcome": result.outcome,
            "error_type": result.error_type,
            "latency_ms": latency_ms,
        }
        self._journal.log(asked)
        self._journal.log(asked.model_copy(update=answered))
