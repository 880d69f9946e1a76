"""An LLM planner with a scripted model, the real tools and a simulated trainer's windows."""

from __future__ import annotations

import asyncio
import json

import pytest
from pydantic import JsonValue

from rudder.agents.llm.asker import Asker
from rudder.agents.llm.exchange import Exchange
from rudder.agents.llm.planner import LlmPlanner
from rudder.agents.planners.embedded import EmbeddedPlanner
from rudder.agents.replay.cast import RecordedChat
from rudder.bench.model_server.scripted_server import CallTool, ChatRequest, Fail, Say, Slow, Step
from rudder.memory.records import Observation, Plan
from rudder.tools.toolbox import Toolbox
from rudder.training.metrics import ModelUse
from rudder.training.settings import Change
from tests.agents.llm.conftest import SHORT_DEADLINE_S, AskerAt, Serve
from tests.agents.llm.test_faults import decided
from tests.agents.llm.test_planner_turns import later

NOBODY = "http://127.0.0.1:9/v1"
EXPECTED: dict[str, JsonValue] = {
    "expected_rows_low": 10,
    "expected_rows_high": 20.5,
    "expected_wait_ms_low": 0,
    "expected_wait_ms_high": 1,
    "reason": "more rows\nfit",
}
UNUSED: dict[str, JsonValue] = {
    "eviction_threshold": 0,
    "lookahead_batches": 0,
    "source": "observed",
    "row_budget": 1,
    "owner": 0,
}


def call(tool: str, **arguments: JsonValue) -> CallTool:
    return CallTool([(tool, json.dumps(EXPECTED | arguments))])


def say(tool: str, **arguments: JsonValue) -> Say:
    return Say(json.dumps({"tool": tool} | EXPECTED | UNUSED | arguments))


GROW = call("set_buffer_capacity", capacity_rows=900)


def plan_with(asker: Asker, observation: Observation, toolbox: Toolbox) -> tuple[Plan, ModelUse]:
    async def run() -> tuple[Plan, ModelUse]:
        planner = LlmPlanner(asker, fallback=EmbeddedPlanner())
        plan = await planner.plan(observation, (), toolbox)
        await asker.close()
        return plan, asker.report()

    return asyncio.run(run())


def test_a_tool_call_becomes_a_staged_plan(
    serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    server = serve([GROW])
    plan, report = plan_with(asker_at(server.url), observation, toolbox)
    assert plan.change == Change(capacity_rows=900)
    assert plan.planner == "llm:scripted"
    assert plan.reason == "more rows fit"
    assert plan.expected is not None
    assert plan.expected.rows_fetched.high == 20.5
    assert toolbox.staging.change == plan.change
    assert report.valid_first == report.questions
    assert (report.input_tokens, report.output_tokens) == (100, 10)


@pytest.mark.parametrize("mode", ["structured", "text"])
@pytest.mark.parametrize(
    ("answer", "change"),
    [
        (say("set_buffer_capacity", capacity_rows=900), Change(capacity_rows=900)),
        (say("set_lookahead", lookahead_batches=32, capacity_rows=7), Change(lookahead_batches=32)),
        (say("keep_current", capacity_rows=0), Change()),
    ],
)
def test_one_json_object_does_as_well(
    mode: str,
    answer: Say,
    change: Change,
    serve: Serve,
    asker_at: AskerAt,
    observation: Observation,
    toolbox: Toolbox,
) -> None:
    server = serve([answer])
    plan, report = plan_with(asker_at(server.url, mode=mode), observation, toolbox)
    assert plan.change == change
    assert report.valid_first == 1
    assert ("response_format" in server.requests[0].body) == (mode == "structured")


def test_reasoning_and_fences_around_an_answer_are_fine(
    serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    text = say("set_buffer_capacity", capacity_rows=900).text
    server = serve([Say(f"<think>grow?</think>\n```json\n{text}\n```")])
    plan, _ = plan_with(asker_at(server.url, mode="text"), observation, toolbox)
    assert plan.change == Change(capacity_rows=900)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (call("set_buffer_capacity", capacity_rows=10**8), "allowed: 0 to 4000 rows"),
        (call("set_buffer_capacity", capacity_rows="many"), "capacity_rows"),
        (call("set_buffer_capacity"), "capacity_rows"),
        (CallTool([("set_lookahead", "null")]), "JSON object"),
        (CallTool([("drop_all", "{}")]), "no such tool"),
        (CallTool([("keep_current", "{}"), ("keep_current", "{}")]), "one tool"),
    ],
)
def test_an_invalid_answer_is_asked_for_once_more_with_the_reason(
    bad: CallTool,
    told: str,
    serve: Serve,
    asker_at: AskerAt,
    observation: Observation,
    toolbox: Toolbox,
) -> None:
    server = serve([bad, GROW])
    plan, report = plan_with(asker_at(server.url), observation, toolbox)
    assert plan.change == Change(capacity_rows=900)
    assert told in server.requests[1].text
    assert (report.valid_first, report.valid_second) == (0, 1)


def test_without_headroom_nothing_is_asked(
    serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    server = serve([GROW])
    calm = observation.model_copy(update={"headroom_rows": 0.0})
    plan, _ = plan_with(asker_at(server.url), calm, toolbox)
    assert server.requests == []
    assert plan.planner == "embedded"


def test_an_empty_budget_asks_nothing(
    serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    server = serve([GROW])
    plan, report = plan_with(asker_at(server.url, max_tokens=100), observation, toolbox)
    assert plan.planner == "embedded"
    assert server.requests == []
    assert report.fallbacks == {"NotAskedError": 1}


def only_knows(mode: str) -> Step | object:
    def script(request: ChatRequest) -> Step:
        if request.tools:
            return GROW if mode == "tools" else Fail("500")
        if "response_format" in request.body:
            return say("set_buffer_capacity", capacity_rows=900) if mode == "structured" else (
                Fail("prose")
            )  # fmt: skip
        return say("set_buffer_capacity", capacity_rows=900)

    return script


@pytest.mark.parametrize(("mode", "requests"), [("tools", 1), ("structured", 2), ("text", 3)])
def test_the_mode_that_works_is_found_and_kept(
    mode: str,
    requests: int,
    serve: Serve,
    asker_at: AskerAt,
    observation: Observation,
    toolbox: Toolbox,
) -> None:
    server = serve(only_knows(mode))  # type: ignore[arg-type]
    asker = asker_at(server.url, mode=None)

    async def run() -> list[Plan]:
        planner = LlmPlanner(asker, fallback=EmbeddedPlanner())
        return [
            await planner.plan(
                later(observation, window=number, headroom_ms=5.0 - number), (), toolbox
            )
            for number in range(2)
        ]

    found = asyncio.run(run())
    assert [plan.change for plan in found] == [Change(capacity_rows=900)] * 2
    assert asker.report().mode == mode
    assert len(server.requests) == requests + 1


def test_all_questions_of_a_decision_share_one_deadline(
    serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    server = serve([Slow(Say("no"), 0.3), Slow(GROW, 0.3)])
    asker = asker_at(server.url, deadline_s=SHORT_DEADLINE_S)
    plan, report = plan_with(asker, observation, toolbox)
    assert plan.planner == "embedded"
    assert report.fallbacks == {"TooSlowError": 1}


def test_tokens_are_estimated_where_the_server_does_not_count_them(
    serve: Serve,
    asker_at: AskerAt,
    observation: Observation,
    toolbox: Toolbox,
    exchanges: list[Exchange],
) -> None:
    text = say("set_buffer_capacity", capacity_rows=900).text
    server = serve([Say(text, usage=False)])
    _, report = plan_with(asker_at(server.url, mode="text"), observation, toolbox)
    reply = exchanges[0].came.reply
    assert reply is not None
    assert reply.usage.source == "estimated"
    assert report.output_tokens == -(-len(text) // 3)


@pytest.mark.parametrize(
    "steps",
    [
        [GROW],
        [Say("no"), GROW],
        [Say("no"), Say("no")],
        [CallTool([("keep_current", "NaN")]), Fail("bad_utf8")],
        [Fail("500")],
        [Fail("429_retry_after")],
    ],
)
def test_recorded_answers_lead_to_the_same_plan_without_a_server(
    steps: list[Step],
    serve: Serve,
    asker_at: AskerAt,
    observation: Observation,
    toolbox: Toolbox,
    exchanges: list[Exchange],
) -> None:
    plan, report = plan_with(asker_at(serve(steps).url), observation, toolbox)
    stored = [each.to_model_call(f"{i}", episode_id="e") for i, each in enumerate(exchanges)]
    again = [Exchange.of_model_call(each) for each in stored]
    assert again == exchanges
    replaying = asker_at(NOBODY, chat=RecordedChat(again))
    replayed, replayed_report = plan_with(replaying, observation, toolbox)
    assert decided(replayed) == decided(plan)
    assert replayed.calls == plan.calls or plan.planner == "embedded"
    assert replayed_report.fallbacks == report.fallbacks


def test_what_was_not_recorded_is_not_made_up(
    asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    asker = asker_at(NOBODY, chat=RecordedChat([]))
    plan, report = plan_with(asker, observation, toolbox)
    assert plan.planner == "embedded"
    assert report.fallbacks == {"NotRecordedError": 1}
