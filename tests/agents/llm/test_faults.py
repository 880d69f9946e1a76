"""Whatever the endpoint does, a plan comes in time, and no change that the limits forbid."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from rudder.agents.llm.exchange import Exchange
from rudder.agents.llm.messages import Mode
from rudder.agents.planners.embedded import EmbeddedPlanner
from rudder.bench.model_server.scripted_server import FAULTS, Fail, Fault
from rudder.memory.records import Observation, Plan
from rudder.tools.toolbox import Toolbox
from tests.agents.llm.conftest import DEADLINE_S, SHORT_DEADLINE_S, AskerAt, Serve, waiting
from tests.waiting import WAIT_SECONDS

KINDS = {
    "hang": "TooSlowError",
    "drip": "TooSlowError",
    "reset": "UnreachableError",
    "close": "UnreachableError",
    "429": "RateLimitedError",
    "429_retry_after": "RateLimitedError",
    "400": "RefusedError",
    "401": "RefusedError",
    "422": "RefusedError",
    "redirect": "RefusedError",
    "500": "ServerFailedError",
    "huge": "InvalidAnswerError.size",
    "bad_utf8": "InvalidAnswerError.encoding",
    "surrogate": "InvalidAnswerError.encoding",
    "compressed": "InvalidAnswerError.encoding",
    "cut": "InvalidAnswerError.cut",
    "wrong_schema": "InvalidAnswerError.schema",
    "unknown_tool": "InvalidAnswerError.unknown_tool",
    "two_calls": "InvalidAnswerError.schema",
    "null_arguments": "InvalidAnswerError.json",
    "list_arguments": "InvalidAnswerError.schema",
    "zero_arguments": "InvalidAnswerError.schema",
    "empty_arguments": "InvalidAnswerError.empty",
    "nan": "InvalidAnswerError.number",
    "huge_number": "InvalidAnswerError.number",
    "duplicate_keys": "InvalidAnswerError.duplicate_key",
    "deep_nesting": "InvalidAnswerError.json",
    "reasoning_only": "InvalidAnswerError.json",
    "prose": "InvalidAnswerError.json",
}
WAITS = {"hang", "drip"}


@pytest.fixture
def embedded(observation: Observation, toolbox: Toolbox) -> Plan:
    return asyncio.run(EmbeddedPlanner().plan(observation, (), toolbox))


def decided(plan: Plan) -> Plan:
    """The plan without the ids of its calls, which are new each time."""
    return plan.model_copy(update={"calls": ()})


def plans(
    asker_at: AskerAt,
    url: str,
    *,
    observation: Observation,
    toolbox: Toolbox,
    times: int,
    mode: Mode | None = "tools",
    deadline_s: float = DEADLINE_S,
) -> list[tuple[Plan, float]]:
    """Plans of consecutive windows, and how long each took."""

    async def run() -> list[tuple[Plan, float]]:
        asker = asker_at(url, mode=mode, deadline_s=deadline_s)
        planner = waiting(asker)
        found = []
        for number in range(times):
            seen = observation.model_copy(update={"window": number})
            began = time.monotonic()
            plan = await planner.plan(seen, (), toolbox)
            found.append((plan, time.monotonic() - began))
        await asker.close()
        return found

    return asyncio.run(run())


@pytest.mark.parametrize("fault", FAULTS)
def test_the_embedded_planner_takes_over_within_one_deadline(
    fault: Fault,
    serve: Serve,
    asker_at: AskerAt,
    observation: Observation,
    toolbox: Toolbox,
    embedded: Plan,
    exchanges: list[Exchange],
) -> None:
    server = serve([Fail(fault)])
    times, deadline_s = (1, SHORT_DEADLINE_S) if fault in WAITS else (3, DEADLINE_S)
    for plan, seconds in plans(
        asker_at,
        server.url,
        observation=observation,
        toolbox=toolbox,
        times=times,
        deadline_s=deadline_s,
    ):
        assert decided(plan) == decided(embedded)
        assert seconds < WAIT_SECONDS
    assert len(server.requests) == 1 or fault not in WAITS
    assert exchanges[0].came.error == KINDS.get(fault, "InvalidAnswerError.envelope")


def test_a_refused_connection_costs_no_time(
    asker_at: AskerAt, observation: Observation, toolbox: Toolbox, embedded: Plan
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
    [(plan, seconds)] = plans(asker_at, url, observation=observation, toolbox=toolbox, times=1)
    assert decided(plan) == decided(embedded)
    assert seconds < WAIT_SECONDS


def test_after_five_failures_the_endpoint_is_left_alone(
    serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    server = serve([Fail("500")])
    plans(asker_at, server.url, observation=observation, toolbox=toolbox, times=9)
    assert len(server.requests) == 5


def test_an_endpoint_that_names_a_pause_gets_it(
    serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    server = serve([Fail("429_retry_after")])
    plans(asker_at, server.url, observation=observation, toolbox=toolbox, times=3)
    assert len(server.requests) == 1


@pytest.mark.parametrize("mode", ["structured", "text"])
@pytest.mark.parametrize("fault", ["prose", "reasoning_only", "cut", "html", "empty"])
def test_the_other_modes_fall_back_too(
    fault: Fault,
    mode: Mode,
    serve: Serve,
    asker_at: AskerAt,
    observation: Observation,
    toolbox: Toolbox,
    embedded: Plan,
) -> None:
    server = serve([Fail(fault)])
    [(plan, _)] = plans(
        asker_at, server.url, observation=observation, toolbox=toolbox, times=1, mode=mode
    )
    assert decided(plan) == decided(embedded)
    assert len(server.requests) == 2
