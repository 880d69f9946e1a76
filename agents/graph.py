"""The graph of agents: observe, recall, plan, criticise, guard, act. All wiring is here.

If a plan comes to nothing, a second planner is asked, once (reconsider).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langsmith.run_helpers import tracing_context

from rudder.agents.actuator import Actuator
from rudder.agents.guard import Guard
from rudder.agents.recording import NO_RECORDER, Recorder
from rudder.agents.roles import Context, Critic, DecisionState, Observer, Planner
from rudder.agents.starting_point import WarmStart
from rudder.memory.journal import Recalled
from rudder.memory.records import Observation, Rejected
from rudder.tools.toolbox import Toolbox

Graph: TypeAlias = CompiledStateGraph[DecisionState, Context, DecisionState, DecisionState]
Recall: TypeAlias = Callable[[Observation], Sequence[Recalled]]
RECURSION_LIMIT = 12
"""Nodes that one decision may pass: six, three more after a second opinion, and room for the
entry."""
_AVOIDABLE = ("form", "limits", "step_size")
"""Rules of the guard that another plan may keep to."""


def build_graph(
    *,
    observer: Observer,
    planner: Planner,
    critic: Critic,
    guard: Guard,
    act: Actuator | None = None,
    recall: Recall,
    recorder: Recorder = NO_RECORDER,
    second: Planner | None = None,
) -> Graph:
    """Wire any mix of roles; `decide` runs the graph.

    act: carries changes out, None: a decision ends before that; second: asked if the planner's plan
    comes to nothing, None: nobody is; recorder: keeps what decisions rest on, for replay.
    """
    nodes = _Nodes(observer, planner, second, critic, guard, act, recall, recorder)
    graph = StateGraph(DecisionState, context_schema=Context)
    graph.add_node("observe", nodes.observe)
    graph.add_node("recall", nodes.recall)
    graph.add_node("plan", nodes.plan)
    graph.add_node("criticise", nodes.criticise)
    graph.add_node("reconsider", nodes.reconsider)
    graph.add_node("guard", nodes.guard)
    graph.add_node("act", nodes.act)
    graph.add_edge(START, "observe")
    graph.add_conditional_edges("observe", _after_observation, {"seen": "recall", "nothing": END})
    graph.add_conditional_edges("recall", _after_recall, {"known": "plan", "unknown": END})
    graph.add_conditional_edges(
        "plan", nodes.after_plan, {"change": "criticise", "try another": "reconsider", "keep": END}
    )
    graph.add_conditional_edges(
        "criticise",
        nodes.after_verdict,
        {"let pass": "guard", "try another": "reconsider", "refuse": END},
    )
    graph.add_conditional_edges("reconsider", _after_second, {"change": "criticise", "keep": END})
    graph.add_conditional_edges(
        "guard", nodes.after_ruling, {"allowed": "act", "try another": "reconsider", "refused": END}
    )
    graph.add_edge("act", END)
    return graph.compile(name="rudder")


def drawn(graph: Graph) -> str:
    """The graph as Mermaid text."""
    return graph.get_graph().draw_mermaid()


async def decide(graph: Graph, *, toolbox: Toolbox, episode_id: str) -> DecisionState:
    """Make one decision. Nothing of it is ever traced to a server, whatever the environment says.

    Raises what the actuator raises where the trainer gave no answer; everything else is in the
    state.
    """
    toolbox.begin()
    with tracing_context(enabled=False):
        answer = await graph.ainvoke(
            DecisionState(episode_id=episode_id),
            {"recursion_limit": RECURSION_LIMIT},
            context=Context(toolbox=toolbox),
        )
    return cast("DecisionState", answer)


@dataclass(frozen=True)
class _Nodes:
    """Each node asks one role, and returns its part of the state."""

    observer: Observer
    planner: Planner
    second: Planner | None
    critic: Critic
    judge: Guard
    actuator: Actuator | None
    recaller: Recall
    recorder: Recorder

    async def observe(self, state: DecisionState, runtime: Runtime[Context]) -> DecisionState:
        toolbox = runtime.context.toolbox
        self.recorder.begin(toolbox, episode_id=state["episode_id"])
        with self.recorder.passing("observe", toolbox):
            return {"observation": await self.observer.observe(toolbox)}

    async def recall(self, state: DecisionState) -> DecisionState:
        return {"recalled": tuple(self.recaller(state["observation"]))}

    async def plan(self, state: DecisionState, runtime: Runtime[Context]) -> DecisionState:
        toolbox = runtime.context.toolbox
        with self.recorder.passing("plan", toolbox):
            plan = await self.planner.plan(state["observation"], state["recalled"], toolbox)
        self.recorder.said(plan)
        return {"proposal": plan}

    async def criticise(self, state: DecisionState, runtime: Runtime[Context]) -> DecisionState:
        toolbox = runtime.context.toolbox
        with self.recorder.passing("criticise", toolbox):
            verdict = await self.critic.review(
                state["observation"], state["recalled"], state["proposal"], toolbox
            )
        self.recorder.said(verdict)
        return {"verdict": verdict}

    async def reconsider(self, state: DecisionState, runtime: Runtime[Context]) -> DecisionState:
        """The second planner's change, if it has one; else all stays as it is."""
        toolbox, second = runtime.context.toolbox, self.second
        assert second is not None
        toolbox.begin()
        with self.recorder.passing("reconsider", toolbox):
            plan = await second.plan(state["observation"], state["recalled"], toolbox)
        self.recorder.said(plan)
        if plan.change.is_empty:
            return {}
        first = Rejected(
            plan=state["proposal"], verdict=state.get("verdict"), guard=state.get("ruling")
        )
        return {"rejected": first, "proposal": plan, "ruling": None}

    async def guard(self, state: DecisionState, runtime: Runtime[Context]) -> DecisionState:
        toolbox = runtime.context.toolbox
        with self.recorder.passing("guard", toolbox):
            ruling = self.judge.review(
                state["verdict"].change,
                observation=state["observation"],
                bounds=toolbox.limits,
                now_step=toolbox.history.next_step,
                latest=toolbox.history.latest,
            )
        self.recorder.said(ruling)
        return {"ruling": ruling}

    async def act(self, state: DecisionState) -> DecisionState:
        if self.actuator is None:
            return {}
        applied = await self.actuator.carry_out(
            state["verdict"].change,
            observation=state["observation"],
            episode_id=state["episode_id"],
        )
        return {"applied": applied}

    # -- who is next, where it depends on a second planner --------------------------------

    async def after_plan(self, state: DecisionState) -> Literal["change", "try another", "keep"]:
        if not state["proposal"].change.is_empty:
            return "change"
        return "try another" if self._may_reconsider(state) else "keep"

    async def after_verdict(
        self, state: DecisionState
    ) -> Literal["let pass", "try another", "refuse"]:
        verdict = state["verdict"]
        if verdict.decision != "refuse" and not verdict.change.is_empty:
            return "let pass"
        return "try another" if self._may_reconsider(state) else "refuse"

    async def after_ruling(
        self, state: DecisionState
    ) -> Literal["allowed", "try another", "refused"]:
        ruling = state["ruling"]
        if ruling is not None and ruling.allowed:
            return "allowed"
        is_avoidable = ruling is not None and ruling.rule in _AVOIDABLE
        return "try another" if is_avoidable and self._may_reconsider(state) else "refused"

    def _may_reconsider(self, state: DecisionState) -> bool:
        """Once a decision, and not if the second planner has spoken in the first one's place."""
        if self.second is None or "rejected" in state:
            return False
        return state["proposal"].planner != self.second.name


# Edges are coroutines, for langgraph would have a thread run a plain function.


async def _after_observation(
    state: DecisionState, runtime: Runtime[Context]
) -> Literal["seen", "nothing"]:
    """Before the first window an earlier run may still tell where to begin."""
    is_before_all = runtime.context.toolbox.history.latest is None
    return "seen" if is_before_all or state["observation"].step_ms > 0 else "nothing"


async def _after_recall(
    state: DecisionState, runtime: Runtime[Context]
) -> Literal["known", "unknown"]:
    """A first window says too little by itself, but enough where it is plain where to go."""
    observation, workload = state["observation"], runtime.context.toolbox.history.workload
    if observation.bottleneck != "unknown":
        return "known"
    first = WarmStart.of(state["recalled"], observation, workload)
    return "unknown" if first is None else "known"


async def _after_second(state: DecisionState) -> Literal["change", "keep"]:
    return "change" if "rejected" in state else "keep"
