"""An LLM observer names bottleneck and trend; figures stay as measured."""

from __future__ import annotations

import asyncio
import json

import pytest

from rudder.agents.llm.observer import LlmObserver
from rudder.bench.model_server.scripted_server import CallTool, ScriptedServer, Step
from rudder.memory.records import Observation
from rudder.tools.toolbox import Toolbox
from tests.agents.llm.conftest import AskerAt, Serve


class Seen:
    """An observer that saw what it is given."""

    name = "seen"

    def __init__(self, observation: Observation) -> None:
        self._observation = observation

    async def observe(self, toolbox: Toolbox) -> Observation:
        return self._observation


def answer(bottleneck: object, trend: object) -> CallTool:
    arguments = {"bottleneck": bottleneck, "trend": trend, "reason": "because"}
    return CallTool([("describe", json.dumps(arguments))])


def observe(
    asker_at: AskerAt, server: ScriptedServer, *, seen: Observation, toolbox: Toolbox
) -> Observation:
    async def run() -> Observation:
        asker = asker_at(server.url)
        judged = await LlmObserver(asker, fallback=Seen(seen)).observe(toolbox)
        await asker.close()
        return judged

    return asyncio.run(run())


def test_the_model_names_bottleneck_and_trend_and_nothing_else(
    serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    server = serve([answer("loader", "worse")])
    judged = observe(asker_at, server, seen=observation, toolbox=toolbox)
    assert (judged.bottleneck, judged.trend) == ("loader", "worse")
    same = {"bottleneck": observation.bottleneck, "trend": observation.trend}
    assert judged.model_copy(update=same) == observation


@pytest.mark.parametrize(
    "said", [answer("gremlins", "worse"), answer("unknown", "worse"), answer(None, None)]
)
def test_an_answer_outside_the_known_words_changes_nothing(
    said: Step, serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    server = serve([said])
    assert observe(asker_at, server, seen=observation, toolbox=toolbox) == observation
    assert len(server.requests) == 2


def test_nothing_is_asked_before_anything_is_known(
    serve: Serve, asker_at: AskerAt, observation: Observation, toolbox: Toolbox
) -> None:
    server = serve([answer("loader", "worse")])
    unknown = observation.model_copy(update={"bottleneck": "unknown"})
    assert observe(asker_at, server, seen=unknown, toolbox=toolbox) == unknown
    assert server.requests == []
