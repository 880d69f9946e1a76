"""The graph of agents: observe, recall, plan, criticise, guard, act. All wiring is here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, cast

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langsmith.run_helpers import tracing_context

from rudder.agents.act import Actuator
from rudder.agents.first_settings import FirstSettings
from rudder.agents.guard import Guard
from rudder.agents.replay.recorder import NO_RECORDER, Recorder
from rudder.agents.roles import Critic, Observer, Planner
from rudder.agents.state import DecisionState, Surroundings
from rudder.memory.journal import Recalled
from rudder.memory.records import Observation
from rudder.tools.toolbox import Toolbox

Graph: TypeAlias = CompiledStateGraph[DecisionState, Surroundings, DecisionState, DecisionState]
Recall: TypeAlias = Callable[[Observation], Sequence[Recalled]]
RECURSION_LIMIT = 10
"""Nodes that one decision may pass: six, and room for the entry."""


def build_graph(
    *,
    observer: Observer,
    planner: Planner,
    critic: Critic,
    guard: Guard,
    act: Actuator,
    recall: Recall,
    recorder: Recorder = NO_RECORDER,
) -> Graph:
    """Wire any mix of roles; `decide` runs the graph.

    recorder: keeps what decisions rest on, so that they can be replayed.
    """
    nodes = _Nodes(observer, planner, critic, guard, act, recall, recorder)
    graph = StateGraph(DecisionState, context_schema=Surroundings)
    graph.add_node("observe", nodes.observe)
    graph.add_node("recall", nodes.recall)
    graph.add_node("plan", nodes.plan)
    graph.add_node("criticise", nodes.criticise)
    graph.add_node("guard", nodes.guard)
    graph.add_node("act", nodes.act)
    graph.add_edge(START, "observe")
    graph.add_conditional_edges("observe", _after_observation, {"seen": "recall", "nothing": END})
    graph.add_conditional_edges("recall", _after_recall, {"known": "plan", "unknown": END})
    graph.add_conditional_edges("plan", _after_plan, {"change": "criticise", "keep": END})
    graph.add_conditional_edges("criticise", _after_verdict, {"let pass": "guard", "refuse": END})
    graph.add_conditional_edges("guard", _after_ruling, {"allowed": "act", "refused": END})
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
            context=Surroundings(toolbox=toolbox),
        )
    return cast("DecisionState", answer)


class _Nodes:
    """Each node asks one role, and returns its part of the state."""

    def __init__(
        self,
        observer: Observer,
        planner: Planner,
        critic: Critic,
        guard: Guard,
        act: Actuator,
        recall: Recall,
        recorder: Recorder,
    ) -> None:
        self._observer, self._planner, self._critic = observer, planner, critic
        self._guard, self._actuator, self._recall = guard, act, recall
        self._recorder = recorder

    async def observe(self, state: DecisionState, runtime: Runtime[Surroundings]) -> DecisionState:
        toolbox = runtime.context.toolbox
        self._recorder.begin(toolbox, episode_id=state["episode_id"])
        with self._recorder.passing("observe", toolbox):
            return {"observation": await self._observer.observe(toolbox)}

    async def recall(self, state: DecisionState) -> DecisionState:
        return {"recalled": tuple(self._recall(state["observation"]))}

    async def plan(self, state: DecisionState, runtime: Runtime[Surroundings]) -> DecisionState:
        toolbox = runtime.context.toolbox
        with self._recorder.passing("plan", toolbox):
            plan = await self._planner.plan(state["observation"], state["recalled"], toolbox)
        return {"proposal": plan}

    async def criticise(
        self, state: DecisionState, runtime: Runtime[Surroundings]
    ) -> DecisionState:
        toolbox = runtime.context.toolbox
        with self._recorder.passing("criticise", toolbox):
            verdict = await self._critic.review(
                state["observation"], state["recalled"], state["proposal"], toolbox
            )
        return {"verdict": verdict}

    async def guard(self, state: DecisionState, runtime: Runtime[Surroundings]) -> DecisionState:
        toolbox = runtime.context.toolbox
        with self._recorder.passing("guard", toolbox):
            ruling = self._guard.review(
                state["verdict"].change,
                observation=state["observation"],
                bounds=toolbox.limits,
                now_step=toolbox.history.next_step,
            )
        return {"ruling": ruling}

    async def act(self, state: DecisionState) -> DecisionState:
        applied = await self._actuator.carry_out(
            state["verdict"].change,
            observation=state["observation"],
            episode_id=state["episode_id"],
        )
        return {"applied": applied}


# Edges are coroutines, for langgraph would have a thread run a plain function.


async def _after_observation(state: DecisionState) -> Literal["seen", "nothing"]:
    return "seen" if state["observation"].step_ms > 0 else "nothing"


async def _after_recall(
    state: DecisionState, runtime: Runtime[Surroundings]
) -> Literal["known", "unknown"]:
    """A first window says too little by itself, but enough where it is plain where to go."""
    observation, workload = state["observation"], runtime.context.toolbox.history.workload
    if observation.bottleneck != "unknown":
        return "known"
    first = FirstSettings.of(state["recalled"], observation, workload)
    return "unknown" if first is None else "known"


async def _after_plan(state: DecisionState) -> Literal["change", "keep"]:
    return "keep" if state["proposal"].change.is_empty else "change"


async def _after_verdict(state: DecisionState) -> Literal["let pass", "refuse"]:
    verdict = state["verdict"]
    return "refuse" if verdict.decision == "refuse" or verdict.change.is_empty else "let pass"


async def _after_ruling(state: DecisionState) -> Literal["allowed", "refused"]:
    return "allowed" if state["ruling"].allowed else "refused"
