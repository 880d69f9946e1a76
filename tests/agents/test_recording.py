"""Tool calls in the audit log stand under the agent that made them, with their episode."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from rudder.agents.graph import build_graph, decide
from rudder.agents.guard import Guard
from rudder.agents.objective import Preference
from rudder.agents.observer import EmbeddedObserver
from rudder.agents.planners.baselines import FixedPlanner
from rudder.agents.planners.proposals import propose
from rudder.agents.recording import DecisionRecorder
from rudder.memory.journal import AuditEntry, DecisionInputs, Journal, Recalled
from rudder.memory.records import Observation, Plan, Verdict
from rudder.tools.calls import ToolCall
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import Change
from tests.agents.steered import Believer, toolbox_after, trainer_of
from tests.tools.runs import call_of


@dataclass
class Log(Journal):
    """Keeps the audit rows."""

    entries: list[AuditEntry] = field(default_factory=list)

    def log(self, entry: AuditEntry) -> bool:
        self.entries.append(entry)
        return True

    def add_inputs(self, inputs: DecisionInputs, *, calls: Sequence[AuditEntry] = ()) -> None:
        self.entries += calls


class ReadingObserver(EmbeddedObserver):
    """Reads a tool first."""

    async def observe(self, toolbox: Toolbox) -> Observation:
        toolbox.call(call_of("read_metrics", num_windows=1))
        return await super().observe(toolbox)


class ReadingCritic(Believer):
    """Reads a tool first."""

    async def review(
        self, observation: Observation, recalled: object, plan: Plan, toolbox: Toolbox
    ) -> Verdict:
        toolbox.call(call_of("read_buffer_state"))
        return await super().review(observation, recalled, plan, toolbox)


class Shrinking(FixedPlanner):
    """Proposes a smaller buffer, after a call that no tool answers."""

    async def plan(
        self, observation: Observation, recalled: Sequence[Recalled], toolbox: Toolbox
    ) -> Plan:
        toolbox.call(ToolCall(call_id="wrong", tool="no_such_tool", arguments={}))
        change = Change(capacity_rows=2000)
        return propose("shrinking", change, whatif=toolbox.whatif, reason="a test")


def decided() -> list[AuditEntry]:
    log = Log()
    guard = Guard()
    recorder = DecisionRecorder(log, guard=guard, preference=Preference())
    toolbox = toolbox_after(trainer_of())
    toolbox.on_call = recorder.on_call
    graph = build_graph(
        observer=ReadingObserver(),
        planner=Shrinking(),
        critic=ReadingCritic(),
        guard=guard,
        recall=lambda _: (),
        recorder=recorder,
    )
    asyncio.run(decide(graph, toolbox=toolbox, episode_id="e1"))
    return log.entries


def test_each_call_stands_under_the_agent_that_made_it() -> None:
    asked = [(row.agent, row.tool) for row in decided() if row.kind == "call"]
    assert asked == [
        ("observer", "read_metrics"),
        ("planner", "no_such_tool"),
        ("observer", "read_metrics"),
        ("observer", "estimate_effect"),
        ("planner", "estimate_effect"),
        ("critic", "read_buffer_state"),
    ]


def test_what_plain_code_reads_is_one_call_of_a_tool_with_all_that_was_asked() -> None:
    rows = [row for row in decided() if row.tool == "estimate_effect"]
    seen, answer, plan, _ = rows
    assert json.loads(seen.arguments or "") == [{}, {"opt_of_capacity_rows": 6000}]
    assert json.loads(plan.arguments or "") == [{"capacity_rows": 2000}]
    present, opt = json.loads(answer.result or "")
    assert opt["rows_fetched"]["mid"] < present["rows_fetched"]["mid"]
    assert present["times"]["model_ms"] > 0


def test_a_result_says_what_came_of_its_call_and_in_which_episode() -> None:
    rows = decided()
    results = [(row.tool, row.outcome, row.error_type) for row in rows if row.kind == "result"]
    assert results == [
        ("read_metrics", "answered", None),
        ("no_such_tool", "refused", "unknown_tool"),
        ("read_metrics", "answered", None),
        ("estimate_effect", "answered", None),
        ("estimate_effect", "answered", None),
        ("read_buffer_state", "answered", None),
    ]
    assert {row.episode_id for row in rows} == {"e1"}
    calls = [row.call_id for row in rows if row.kind == "call"]
    assert calls == [row.call_id for row in rows if row.kind == "result"]
