"""Observer and critic around a model's own plan, and when a model is asked at all."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable

import pytest

from rudder.agents.llm.asker import Background
from rudder.agents.llm.consultation import asks_model
from rudder.agents.llm.errors import UnreachableError
from rudder.agents.llm.planner import LlmCritic
from rudder.bench.model_server.scripted_server import CallTool, ChatRequest, Fail, Step
from rudder.memory.records import Episode, Observation, Outcome, Plan, Verdict
from rudder.memory.sample import sample_episode, sample_workload
from rudder.tools.toolbox import Toolbox
from rudder.training.metrics import StepTiming
from rudder.training.settings import Change
from tests.agents.llm.conftest import AskerAt, Serve, waiting
from tests.agents.llm.test_planner import GROW

ROWS = 900


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
            decision=self._decision, critic=self.name, change=change, expected=None, reason="fixed"
        )


def said(decision: str, capacity_rows: object = ROWS) -> CallTool:
    arguments = {"decision": decision, "capacity_rows": capacity_rows, "reason": "because"}
    return CallTool([("give_verdict", json.dumps(arguments))])


def named(bottleneck: object, trend: object = "worse") -> CallTool:
    arguments = {"bottleneck": bottleneck, "trend": trend, "reason": "because"}
    return CallTool([("describe", json.dumps(arguments))])


LOADER, APPROVED = named("loader"), said("approve")


def answers(*, observer: Step = LOADER, critic: Step = APPROVED) -> Callable[[ChatRequest], Step]:
    def script(request: ChatRequest) -> Step:
        return {"describe": observer, "give_verdict": critic}.get(request.tools[0], GROW)

    return script


def verdict_on(
    critic: Step,
    serve: Serve,
    asker_at: AskerAt,
    observation: Observation,
    toolbox: Toolbox,
    *,
    first: str = "approve",
) -> Verdict:
    async def run() -> Verdict:
        asker = asker_at(serve(answers(critic=critic)).url)
        planner = waiting(asker, roles=("planner", "critic"))
        plan = await planner.plan(observation, (), toolbox)
        assert plan.change == Change(capacity_rows=ROWS)
        reviewer = LlmCritic(planner, fallback=Fixed(first))
        verdict = await reviewer.review(observation, (), plan, toolbox)
        others = plan.model_copy(update={"planner": "embedded"})
        assert (await reviewer.review(observation, (), others, toolbox)).critic == "fixed"
        await asker.close()
        return verdict

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("critic", "decision", "rows"),
    [
        (said("approve"), "approve", ROWS),
        (said("trim", 400), "trim", 400),
        (said("refuse"), "refuse", None),
    ],
)
def test_the_model_judges_its_own_plan_and_no_other(
    critic: Step,
    decision: str,
    rows: int | None,
    serve: Serve,
    asker_at: AskerAt,
    observation: Observation,
    toolbox: Toolbox,
) -> None:
    verdict = verdict_on(critic, serve, asker_at, observation, toolbox)
    assert (verdict.decision, verdict.change.capacity_rows) == (decision, rows)
    assert verdict.critic == "llm:scripted"


def test_what_plain_code_refuses_stays_refused(
    serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    verdict = verdict_on(said("approve"), serve, asker_at, observation, toolbox, first="refuse")
    assert (verdict.decision, verdict.critic) == ("refuse", "fixed")


@pytest.mark.parametrize("rows", [0, 100, ROWS, ROWS + 1, -1, 10**12, 1.5, None, "400", True])
def test_a_trim_that_is_none_is_invalid(
    rows: object, serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    verdict = verdict_on(said("trim", rows), serve, asker_at, observation, toolbox)
    assert (verdict.critic, verdict.change.capacity_rows) == ("fixed", ROWS)


def test_a_critic_that_does_not_answer_leaves_the_embedded_verdict(
    serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    verdict = verdict_on(Fail("500"), serve, asker_at, observation, toolbox)
    assert (verdict.critic, verdict.decision) == ("fixed", "approve")


@pytest.mark.parametrize(
    ("observer", "told"),
    [(named("loader"), "bottleneck loader; trend worse"), (named("gremlins"), "bottleneck ")],
)
def test_what_the_model_observes_is_what_it_plans_on(
    observer: Step,
    told: str,
    serve: Serve,
    asker_at: AskerAt,
    observation: Observation,
    toolbox: Toolbox,
) -> None:
    server = serve(answers(observer=observer))

    async def run() -> Plan:
        asker = asker_at(server.url)
        planner = waiting(asker, roles=("observer", "planner"))
        plan = await planner.plan(observation, (), toolbox)
        await asker.close()
        return plan

    assert asyncio.run(run()).planner == "llm:scripted"
    assert told in server.requests[-1].text


# -- when a model is asked ----------------------------------------------------------------------


def timing(rank: int) -> StepTiming:
    return StepTiming(rank=rank, window=1, step_seconds=0.1, exposed_wait_seconds=0.0)


def test_the_lowest_rank_that_trains_asks_for_the_job() -> None:
    assert asks_model(0)
    assert not asks_model(1)
    assert asks_model(1, peers=[timing(2), timing(3)])
    assert not asks_model(2, peers=[timing(1), timing(3)])


NOTHING = {"headroom_rows": 0.0, "headroom_wait_ms": 0.0}
ROWS_ONLY = {"headroom_rows": 400.0, "headroom_wait_ms": 0.0}
WAIT_ONLY = {"headroom_rows": 0.0, "headroom_wait_ms": 5.0}


@pytest.mark.parametrize(
    ("objective", "headroom", "is_there"),
    [
        ("time", NOTHING, False),
        ("time", ROWS_ONLY, True),
        ("time", WAIT_ONLY, True),
        ("traffic", WAIT_ONLY, False),
        ("traffic", ROWS_ONLY, True),
    ],
)
def test_headroom_is_of_rows_or_of_time_by_objective(
    objective: str, headroom: dict[str, float], is_there: bool, observation: Observation
) -> None:
    seen = observation.model_copy(update=headroom)
    assert seen.has_headroom(objective) == is_there  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("case", "num_asked"), [("calm", 1), ("reverted", 2), ("slower", 2), ("failed", 2)]
)
def test_without_headroom_a_model_is_asked_at_the_start_after_a_revert_and_in_another_regime(
    case: str,
    num_asked: int,
    serve: Serve,
    asker_at: AskerAt,
    observation: Observation,
    toolbox: Toolbox,
) -> None:
    server = serve([Fail("500"), Fail("500")] if case == "failed" else [GROW])
    calm = observation.model_copy(update=NOTHING)
    later = calm.model_copy(update={"window": calm.window + 1, "step": calm.step + 16})

    async def run() -> None:
        asker = asker_at(server.url)
        planner = waiting(asker)
        first = {"step_ms": calm.step_ms / 3} if case == "slower" else {}
        await planner.plan(calm.model_copy(update=first), (), toolbox)
        if case == "reverted":
            toolbox.recall = lambda limit: [reverted(later)]
        await planner.plan(later, (), toolbox)
        await asker.close()

    asyncio.run(run())
    assert len(server.requests) == num_asked


def reverted(observation: Observation) -> Episode:
    episode = sample_episode(1, workload=sample_workload())
    outcome = Outcome(result="reverted", reason="the trainer waits longer than before")
    return episode.model_copy(update={"observation": observation, "outcome": outcome})


def test_a_failure_that_nobody_asked_for_is_given_up_silently() -> None:
    told: list[dict[str, object]] = []

    async def fail() -> None:
        raise UnreachableError("nobody is there")

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        background: Background[None] = Background()
        background.begin(fail())
        await background.settled()
        assert background.has_answer
        await background.cancel()
        assert background.is_idle
        gc.collect()

    asyncio.run(run())
    assert told == []
