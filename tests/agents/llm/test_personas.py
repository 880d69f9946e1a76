"""Servers that imitate providers: a run and the doctor find the way to each."""

from __future__ import annotations

import asyncio
import json

import pytest

from rudder.agents.llm.endpoint import Endpoint
from rudder.agents.llm.exchange import Exchange
from rudder.agents.llm.openai_chat import OpenAIChat
from rudder.bench.model_server.personas import PERSONAS
from rudder.bench.model_server.scripted_server import CallTool, ChatRequest, Say, Step
from rudder.bench.model_server.stand_in import like
from rudder.cli.endpoint_probe import ProbeReport, probe
from rudder.memory.records import Observation, Plan
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import Change
from tests.agents.llm.conftest import AskerAt, Serve, waiting

GROWN = Change(capacity_rows=900, lookahead_batches=12)
TEXT = json.dumps({"reason": "more fits", "capacity_rows": 900, "lookahead_batches": 12})


def grown(request: ChatRequest) -> Step:
    return CallTool([("set", TEXT)]) if request.tools else Say(TEXT)


@pytest.mark.parametrize("name", PERSONAS)
def test_a_model_behind_any_provider_plans(
    name: str,
    serve: Serve,
    asker_at: AskerAt,
    observation: Observation,
    toolbox: Toolbox,
    exchanges: list[Exchange],
) -> None:
    asker = asker_at(serve(like(name, grown)).url, mode=None)

    async def run() -> Plan:
        plan = await waiting(asker).plan(observation, (), toolbox)
        await asker.close()
        return plan

    plan = asyncio.run(run())
    assert (plan.planner, plan.change) == ("llm:scripted", GROWN)
    assert asker.report().mode == PERSONAS[name].mode
    assert exchanges[-1].came.error is None


@pytest.mark.parametrize("name", PERSONAS)
def test_the_doctor_finds_the_same_way(name: str, serve: Serve) -> None:
    persona, server = PERSONAS[name], serve(like(name, grown))

    async def run() -> ProbeReport:
        chat = OpenAIChat(Endpoint.of(server.url, model="m", environment={}))
        found = await probe(chat, repeats=1, deadline_s=5.0, warm_up_s=5.0)
        await chat.close()
        return found

    report = asyncio.run(run())
    assert report.best == persona.mode
    assert len(report.request_changes) == persona.changes, report.request_changes
