"""The one recorder of decisions: it writes what a decision rests on and whom it asked into the
journal, while the decision is made.

Before a decision has any effect, its inputs are kept, so that it can be made again. Every call of a
tool and every question to a language model is kept under the agent that made it, with the id of the
decision's episode. What an agent in plain code reads is one call and one result for each tool, with
lists of what was asked and answered, written together with the decision's inputs.
"""

from __future__ import annotations

import contextlib
import uuid
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel

from rudder.agents.guard import Guard
from rudder.agents.llm.exchange import Exchange
from rudder.agents.objective import Preference
from rudder.memory.journal import AuditEntry, CallOutcome, DecisionInputs, Journal, Node, Passage
from rudder.memory.records import GuardResult, Plan, Verdict
from rudder.tools.calls import AgentRead, ToolCall, ToolResult
from rudder.tools.estimate.history import History
from rudder.tools.toolbox import Toolbox


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


def _heading(words: Plan | Verdict | GuardResult) -> tuple[str, str, CallOutcome]:
    """Agent, tool and outcome of a row that says what an agent came to."""
    if isinstance(words, Plan):
        return "planner", "plan", "answered"
    if isinstance(words, Verdict):
        return "critic", "review", "refused" if words.decision == "refuse" else "approved"
    return "guard", "review", "approved" if words.allowed else "refused"


def _rows_of(reads: Sequence[AgentRead], row: AuditEntry) -> Iterator[AuditEntry]:
    """What one agent in plain code has read: a call and a result for each tool, of all that it was
    asked. row: of the agent, without what was called."""
    for tool in dict.fromkeys(read.tool for read in reads):
        own = [read for read in reads if read.tool == tool]
        named = {"tool": tool, "call_id": uuid.uuid4().hex}
        asked, answers = _list([read.asked for read in own]), _list([read.answer for read in own])
        yield row.model_copy(update={**named, "arguments": asked})
        answered = {"kind": "result", "outcome": "answered", "result": answers}
        yield row.model_copy(update={**named, **answered})


def _list(models: Sequence[BaseModel]) -> str:
    return f"[{','.join(each.model_dump_json(exclude_defaults=True) for each in models)}]"


_AGENTS: dict[Node, str] = {
    "observe": "observer",
    "plan": "planner",
    "reconsider": "planner",
    "criticise": "critic",
    "guard": "guard",
}


@dataclass(frozen=True)
class _Caller:
    """Who calls tools and asks models; agent: `act` outside a decision."""

    agent: str = "act"
    step: int = 0
    episode_id: str | None = None


_NOBODY = _Caller()
_caller: ContextVar[_Caller] = ContextVar("caller", default=_NOBODY)
"""An inquiry that a node begins and leaves to go on in the background goes on as its caller."""


@contextlib.contextmanager
def _calling(caller: _Caller) -> Iterator[None]:
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)


class Recorder:
    """Told by the graph of each decision's way through it; one decision at a time. Keeps nothing:
    DecisionRecorder does."""

    def begin(self, toolbox: Toolbox, *, episode_id: str) -> None:
        """A decision begins; what is called from now on belongs to it."""

    def passing(self, node: Node, toolbox: Toolbox) -> AbstractContextManager[None]:
        """Around what a node does."""
        return contextlib.nullcontext()

    def said(self, words: Plan | Verdict | GuardResult) -> None:
        """What planner, critic or guard came to, before anything is done about it."""


NO_RECORDER = Recorder()


class DecisionRecorder(Recorder):
    """Writes into the journal; `on_call` is for a toolbox, `on_exchange` for an asker."""

    def __init__(
        self, journal: Journal, *, guard: Guard, preference: Preference, seed: int = 0
    ) -> None:
        """guard, preference, seed: of the graph and its roles."""
        self._journal, self._guard = journal, guard
        self._preference, self._seed = preference, seed
        self._inputs: DecisionInputs | None = None
        self._step = 0
        self._calls: list[AuditEntry] = []

    @property
    def _episode_id(self) -> str | None:
        return None if self._inputs is None else self._inputs.episode_id

    def begin(self, toolbox: Toolbox, *, episode_id: str) -> None:
        """Look at everything before the observer does, for looking teaches the estimator."""
        self._step, self._calls = toolbox.history.next_step, []
        self._inputs = DecisionInputs(
            episode_id=episode_id,
            objective=self._preference.objective,
            tolerance=self._preference.tolerance,
            seed=self._seed,
            memory_budget_bytes=toolbox.limits.memory_budget_bytes,
            learned=toolbox.whatif.learned,
            guard=self._guard.state,
            fingerprint=fingerprint(toolbox.history),
        )

    @contextlib.contextmanager
    def passing(self, node: Node, toolbox: Toolbox) -> Iterator[None]:
        """Note how many windows are known before and after; calls within are the node's agent's."""
        begin = toolbox.history.version
        with _calling(_Caller(_AGENTS[node], self._step, self._episode_id)):
            yield
        if self._inputs is None:
            return
        self._calls += _rows_of(toolbox.take_reads(), self._row(_AGENTS[node]))
        passage = Passage(node=node, begin=begin, end=toolbox.history.version)
        self._inputs = self._inputs.model_copy(
            update={"passages": (*self._inputs.passages, passage)}
        )
        if node != "observe":
            self._journal.add_inputs(self._inputs, calls=self._calls)
            self._calls = []

    def asking(self, step: int) -> AbstractContextManager[None]:
        """What is called within, or begun there, is the planner's, in no decision."""
        return _calling(_Caller(_AGENTS["plan"], step))

    def _row(self, agent: str, tool: str = "", **values: object) -> AuditEntry:
        """A row of this decision."""
        at = {"step": self._step, "episode_id": self._episode_id, "call_id": uuid.uuid4().hex}
        row = {"kind": "call", "agent": agent, "tool": tool, **at, **values}
        return AuditEntry.model_validate(row)

    def said(self, words: Plan | Verdict | GuardResult) -> None:
        """Log it; a model's calls are rows of their own."""
        agent, tool, outcome = _heading(words)
        said = words.model_dump_json(exclude={"calls"})
        self._journal.log(self._row(agent, tool, kind="note", outcome=outcome, result=said))

    def on_call(self, call: ToolCall, result: ToolResult, latency_ms: float) -> None:
        """Log a call of a tool and its result, joined by the call's id."""
        caller = _caller.get()
        asked = AuditEntry(
            kind="call",
            call_id=call.call_id,
            agent=caller.agent,
            tool=call.tool,
            step=caller.step,
            episode_id=caller.episode_id,
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

    def on_exchange(self, exchange: Exchange) -> None:
        """Keep a question to a model and its answer, under the decision that began to ask."""
        call = exchange.to_model_call(uuid.uuid4().hex, episode_id=_caller.get().episode_id)
        self._journal.add_model_call(call)
