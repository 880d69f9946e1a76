"""An LLM critic may be stricter than the embedded one, and never less strict."""

from __future__ import annotations

import asyncio
import json

import pytest

from rudder.agents.llm.critic import LlmCritic
from rudder.bench.model_server.scripted_server import CallTool, Fail, ScriptedServer, Step
from rudder.memory.records import Observation, Plan, Verdict
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import Change
from tests.agents.llm.conftest import DEADLINE_S, SHORT_DEADLINE_S, AskerAt, Serve


class Fixed:
    """A critic of one opinion."""

    name = "fixed"

    def __init__(self, decision: str) -> None:
        self._decision = decision

    async def review(
        self, observation: Observation, recalled: object, plan: Plan, toolbox: Toolbox
    ) -> Verdict:
        change = Change() if self._decision == "refuse" else plan.change
        return Verdict(
            decision=self._decision,
            critic=self.name,
            change=change,
            expected=None,
            reason="fixed",
        )


def answer(decision: str, capacity_rows: object, reason: str = "because") -> CallTool:
    arguments = {"decision": decision, "capacity_rows": capacity_rows, "reason": reason}
    return CallTool([("give_verdict", json.dumps(arguments))])


def review(
    asker_at: AskerAt,
    server: ScriptedServer,
    *,
    first: str,
    observation: Observation,
    toolbox: Toolbox,
    change: Change = Change(capacity_rows=800),  # noqa: B008
    deadline_s: float = DEADLINE_S,
) -> Verdict:
    async def run() -> Verdict:
        asker = asker_at(server.url, deadline_s=deadline_s)
        plan = Plan(planner="x", change=change, expected=None, reason="x")
        critic = LlmCritic(asker, fallback=Fixed(first))
        verdict = await critic.review(observation, (), plan, toolbox)
        await asker.close()
        return verdict

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("said", "decision", "rows"),
    [
        (answer("approve", 800), "approve", 800),
        (answer("trim", 400), "trim", 400),
        (answer("refuse", 800), "refuse", None),
    ],
)
def test_the_model_decides_on_what_was_let_through(
    said: Step,
    decision: str,
    rows: int | None,
    serve: Serve,
    asker_at: AskerAt,
    observation: Observation,
    toolbox: Toolbox,
) -> None:
    verdict = review(
        asker_at, serve([said]), first="approve", observation=observation, toolbox=toolbox
    )
    assert (verdict.decision, verdict.change.capacity_rows) == (decision, rows)
    assert verdict.critic == "llm:scripted"


def test_what_plain_code_refuses_the_model_is_not_asked_about(
    serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    server = serve([answer("approve", 800)])
    verdict = review(asker_at, server, first="refuse", observation=observation, toolbox=toolbox)
    assert verdict.decision == "refuse"
    assert server.requests == []


@pytest.mark.parametrize("rows", [0, 100, 800, 801, 4000, -1, 10**12, 1.5, None, "400", True])
def test_a_trim_that_is_none_is_invalid(
    rows: object, serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    server = serve([answer("trim", rows)])
    verdict = review(asker_at, server, first="approve", observation=observation, toolbox=toolbox)
    assert verdict.critic == "fixed"
    assert verdict.change.capacity_rows == 800
    assert len(server.requests) == 2


def test_nothing_but_a_growing_capacity_can_be_trimmed(
    serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    verdict = review(
        asker_at,
        serve([answer("trim", 50)]),
        first="approve",
        observation=observation,
        toolbox=toolbox,
        change=Change(lookahead_batches=32),
    )
    assert verdict.critic == "fixed"


def test_a_silent_endpoint_leaves_the_embedded_verdict(
    serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    verdict = review(
        asker_at,
        serve([Fail("hang")]),
        first="approve",
        observation=observation,
        toolbox=toolbox,
        deadline_s=SHORT_DEADLINE_S,
    )
    assert (verdict.critic, verdict.decision) == ("fixed", "approve")


def test_of_two_plans_in_one_decision_the_model_is_asked_about_the_first(
    serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    server = serve([answer("refuse", 800)])

    async def run() -> list[str]:
        asker = asker_at(server.url)
        critic = LlmCritic(asker, fallback=Fixed("approve"))
        plans = [
            Plan(planner="x", change=Change(capacity_rows=rows), expected=None, reason="x")
            for rows in (800, 900)
        ]
        verdicts = [await critic.review(observation, (), plan, toolbox) for plan in plans]
        await asker.close()
        return [each.decision for each in verdicts]

    assert asyncio.run(run()) == ["refuse", "approve"]
    assert len(server.requests) == 1


def test_after_a_refusal_of_its_own_the_model_is_passed_over_once(
    serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    server = serve([answer("refuse", 800)])

    async def run() -> list[str]:
        asker = asker_at(server.url)
        critic = LlmCritic(asker, fallback=Fixed("approve"))
        plan = Plan(planner="x", change=Change(capacity_rows=800), expected=None, reason="x")
        decisions: list[str] = []
        for number in range(3):
            seen = observation.model_copy(update={"window": number})
            decisions.append((await critic.review(seen, (), plan, toolbox)).decision)
        await asker.close()
        return decisions

    assert asyncio.run(run()) == ["refuse", "approve", "refuse"]
