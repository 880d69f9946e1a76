"""An LLM planner with a scripted model, the real tools and a simulated trainer's windows."""

from __future__ import annotations

import asyncio
import json

import pytest
from pydantic import JsonValue

from rudder.agents.llm.asker import Asker
from rudder.agents.llm.consultation import Advice
from rudder.agents.llm.exchange import Exchange
from rudder.agents.llm.proposals import LOOK_UPS, MAX_LOOK_UPS
from rudder.bench.model_server.scripted_server import CallTool, ChatRequest, Fail, Say, Slow, Step
from rudder.memory.records import Observation, Plan
from rudder.tools.toolbox import Toolbox
from rudder.training.metrics import ModelUse
from rudder.training.settings import Change
from tests.agents.llm.conftest import SHORT_DEADLINE_S, AskerAt, Serve, waiting
from tests.agents.llm.test_planner_turns import later

EXPECTED: dict[str, JsonValue] = {
    "expected_rows": 20.5,
    "expected_wait_ms": 1,
    "reason": "more rows\nfit",
}


def call(**arguments: JsonValue) -> CallTool:
    return CallTool([("set", json.dumps(EXPECTED | arguments))])


def say(**arguments: JsonValue) -> Say:
    return Say(json.dumps(EXPECTED | arguments))


GROW = call(capacity_rows=900)


def plan_with(asker: Asker, observation: Observation, toolbox: Toolbox) -> tuple[Plan, ModelUse]:
    async def run() -> tuple[Plan, ModelUse]:
        plan = await waiting(asker).plan(observation, (), toolbox)
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
    assert plan.asked_step == observation.step
    assert toolbox.staging.is_empty
    assert report.valid_first == report.questions
    assert (report.input_tokens, report.output_tokens) == (1000, 10)


@pytest.mark.parametrize("mode", ["structured", "text"])
@pytest.mark.parametrize(
    ("answer", "change"),
    [
        (say(capacity_rows=900), Change(capacity_rows=900)),
        (
            say(capacity_rows=900, lookahead_batches=32),
            Change(capacity_rows=900, lookahead_batches=32),
        ),
        (say(), Change()),
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


GROWN = say(capacity_rows=900).text


@pytest.mark.parametrize(
    "text",
    [
        f"<think>grow?</think>\n```json\n{GROWN}\n```",
        f"Let me see. More rows fit.</think>{GROWN}",
        f'{{"name": "set", "arguments": {GROWN}}}',
        f'{{"name": "set", "parameters": {GROWN}}}',
        f'<tool_call>\n{{"name": "set", "arguments": {GROWN}}}\n</tool_call>',
        f'{{"name": "set", "arguments": {json.dumps(GROWN)}}}',
    ],
)
def test_reasoning_fences_and_calls_that_are_written_as_text_are_read(
    text: str, serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    plan, _ = plan_with(asker_at(serve([Say(text)]).url, mode="text"), observation, toolbox)
    assert plan.change == Change(capacity_rows=900)


def test_several_calls_make_one_change(
    serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    knobs = ({"capacity_rows": 900}, {"lookahead_batches": 32})
    calls = CallTool([("set", json.dumps({"reason": "both", **each})) for each in knobs])
    plan, report = plan_with(asker_at(serve([calls]).url), observation, toolbox)
    assert plan.change == Change(capacity_rows=900, lookahead_batches=32)
    assert len(plan.calls) == 2
    assert report.valid_first == 1


def estimate(rows: int) -> CallTool:
    return CallTool([("estimate_effect", json.dumps({"capacity_rows": rows}))])


def test_a_model_looks_up_estimates_before_it_decides_and_each_call_is_reported(
    serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    called: list[tuple[str, dict[str, JsonValue]]] = []
    toolbox.on_call = lambda call, result, _: called.append((call.tool, call.arguments))  # type: ignore[arg-type]
    server = serve([estimate(300), estimate(600), GROW])
    plan, report = plan_with(asker_at(server.url), observation, toolbox)
    assert plan.change == Change(capacity_rows=900)
    assert [name for name, _ in called[:2]] == ["estimate_effect"] * 2
    assert report.questions == 3
    assert 'YOU LOOKED UP:\n- estimate_effect(capacity_rows 300): {"changed":' in (
        server.requests[1].text
    )
    assert "capacity_rows 600): " in server.requests[2].text


def test_look_ups_are_bounded(
    serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    server = serve([estimate(rows) for rows in range(300, 310)])
    plan, report = plan_with(asker_at(server.url), observation, toolbox)
    assert plan.planner == "embedded"
    assert [each.tools for each in server.requests] == [
        *[["set", *LOOK_UPS]] * MAX_LOOK_UPS, ["set"], ["set"],
    ]  # fmt: skip
    assert report.fallbacks == {"InvalidAnswerError.unknown_tool": 1}


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (call(capacity_rows=10**8), "allowed: 0 to 4000 rows"),
        (call(capacity_rows="many"), "capacity_rows"),
        (estimate(10**8), "allowed: 0 to 4000 rows"),
        (CallTool([("set", "null")]), "JSON object"),
        (CallTool([("drop_all", "{}")]), "no such tool"),
        (CallTool([("set", GROWN), ("set", GROWN)]), "staged already"),
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
            return say(capacity_rows=900) if mode == "structured" else (
                Fail("prose")
            )  # fmt: skip
        return say(capacity_rows=900)

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
        planner = waiting(asker)
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


def test_a_mode_that_takes_too_long_has_the_next_one_tried_in_time_of_its_own(
    serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    def script(request: ChatRequest) -> Step:
        return Fail("hang") if request.tools else say(capacity_rows=900)

    asker = asker_at(serve(script).url, mode=None, deadline_s=SHORT_DEADLINE_S)
    plan, report = plan_with(asker, observation, toolbox)
    assert plan.change == Change(capacity_rows=900)
    assert (report.mode, report.valid_first, report.calls) == ("structured", 1, 2)


def test_all_questions_about_one_observation_share_one_deadline(
    serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    server = serve([Slow(Say("no"), 1.0), Slow(GROW, 1.0)])
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
    text = say(capacity_rows=900).text
    server = serve([Say(text, usage=False)])
    _, report = plan_with(asker_at(server.url, mode="text"), observation, toolbox)
    reply = exchanges[0].came.reply
    assert reply is not None
    assert reply.usage.source == "estimated"
    assert report.output_tokens == -(-len(text) // 3)


@pytest.mark.parametrize("steps", [[GROW], [Say("no"), GROW]])
def test_recorded_answers_lead_to_the_same_plan(
    steps: list[Step],
    serve: Serve,
    asker_at: AskerAt,
    observation: Observation,
    toolbox: Toolbox,
    exchanges: list[Exchange],
) -> None:
    plan, _ = plan_with(asker_at(serve(steps).url), observation, toolbox)
    stored = [each.to_model_call(f"{i}", episode_id="e") for i, each in enumerate(exchanges)]
    again = [Exchange.of_model_call(each) for each in stored]
    assert again == exchanges
    assert Advice.of(again).plan(toolbox) == plan
