"""Who called which tool: two rows of the audit log for every call, under the agent that made it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rudder.agents.replay.recorder import NO_RECORDER, Recorder
from rudder.memory.decision_inputs import Node
from rudder.memory.journal import AuditEntry, Journal
from rudder.tools.calls import ToolCall, ToolResult
from rudder.tools.toolbox import Toolbox

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
