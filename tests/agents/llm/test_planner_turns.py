"""Whose turn it is: a model whose plans bring nothing leaves some decisions to the embedded one."""

from __future__ import annotations

import asyncio
import json

from rudder.bench.model_server.scripted_server import CallTool
from rudder.memory.records import Observation
from rudder.tools.toolbox import Toolbox
from tests.agents.llm.conftest import AskerAt, Serve, waiting

GROW = CallTool([("set", json.dumps({"reason": "more rows fit", "capacity_rows": 900}))])


def later(
    observation: Observation, *, window: int, headroom_ms: float, changes: int = 1
) -> Observation:
    """A window after so many changes of the settings for each one before it."""
    rows = observation.settings.capacity_rows + window * changes
    settings = observation.settings.model_copy(update={"capacity_rows": rows})
    update = {"window": window, "headroom_wait_ms": headroom_ms, "settings": settings}
    return observation.model_copy(update=update)


def test_after_a_plan_without_a_gain_the_embedded_planner_has_some_turns(
    serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    server = serve([GROW])
    asker = asker_at(server.url)
    headrooms = [5.0, 5.0, 5.0, 5.0, 4.0, 3.0, 2.95, 2.95, 2.95, 2.95, 2.95, 2.95]

    async def run() -> list[str]:
        planner = waiting(asker)
        names = []
        for number, headroom_ms in enumerate(headrooms):
            seen = later(observation, window=number, headroom_ms=headroom_ms)
            plan = await planner.plan(seen, (), toolbox)
            names.append(plan.planner.partition(":")[0])
        await asker.close()
        return names

    turns = [1, 0, 0, 1, 1, 1, 0, 0, 1, 0, 0, 0]
    assert asyncio.run(run()) == ["llm" if turn else "embedded" for turn in turns]


def test_less_headroom_under_the_same_settings_is_no_gain(
    serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    asker = asker_at(serve([GROW]).url)

    async def run() -> list[str]:
        planner = waiting(asker)
        drifts = [later(observation, window=n, headroom_ms=5.0 - n, changes=0) for n in range(2)]
        plans = [await planner.plan(seen, (), toolbox) for seen in drifts]
        await asker.close()
        return [plan.planner.partition(":")[0] for plan in plans]

    assert asyncio.run(run()) == ["llm", "embedded"]


def test_the_gain_of_another_planners_change_is_not_the_models(
    serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    asker = asker_at(serve([GROW]).url)
    elsewhere = {"lookahead_batches": observation.settings.lookahead_batches + 12}

    async def run() -> list[str]:
        planner = waiting(asker)
        plans = [await planner.plan(observation, (), toolbox)]
        seen = later(observation, window=1, headroom_ms=1.0)
        settings = seen.settings.model_copy(update=elsewhere)
        seen = seen.model_copy(update={"settings": settings})
        plans.append(await planner.plan(seen, (), toolbox))
        await asker.close()
        return [plan.planner.partition(":")[0] for plan in plans]

    assert asyncio.run(run()) == ["llm", "embedded"]
