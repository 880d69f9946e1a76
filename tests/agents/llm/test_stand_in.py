"""The stand-in for a model server: usable in every mode, the same again, and broken on demand."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import get_args

import pytest

from rudder.agents.llm.consultation import planner_question
from rudder.agents.llm.endpoint import Endpoint
from rudder.agents.llm.errors import InvalidAnswerError, ServerFailedError
from rudder.agents.llm.messages import SCHEMA_IN_WORDS, Mode
from rudder.agents.llm.openai_chat import OpenAIChat
from rudder.agents.llm.prompts import Briefing
from rudder.agents.llm.proposals import stage
from rudder.bench.model_server.scripted_server import FAULTS, ChatRequest, Fail, Say, Script
from rudder.bench.model_server.stand_in import MIXED, at_best, at_random, failing
from rudder.memory.records import Observation
from rudder.tools.toolbox import Toolbox
from tests.agents.llm.conftest import Serve


@pytest.mark.parametrize("mode", get_args(Mode))
def test_random_answers_follow_the_schema_in_every_mode(
    mode: Mode, serve: Serve, toolbox: Toolbox, observation: Observation
) -> None:
    question = planner_question(Briefing(observation, toolbox.limits, "time"))
    server = serve(at_random(1))

    async def ask() -> list[str]:
        chat = OpenAIChat(Endpoint.of(server.url, model="stand-in", environment={}))
        return [await answered(chat, number) for number in range(20)]

    async def answered(chat: OpenAIChat, number: int) -> str:
        reply = await chat.complete(question, mode=mode)
        try:
            stage(reply, toolbox, call_id=f"{number}")
        except InvalidAnswerError as error:
            return error.kind
        return "staged"

    found = asyncio.run(ask())
    assert "staged" in found
    assert set(found) <= {"staged", "limits"}  # of the fetch targets' budget the form has no limit


@pytest.mark.parametrize("answers", [at_random(1), at_best()])
def test_asked_for_no_fields_as_a_run_does_to_warm_it_up_it_is_ready(answers: Script) -> None:
    question = f"Say that you are ready.\n\n{SCHEMA_IN_WORDS}\n{{}}"
    assert answers(ChatRequest("/", {}, {"messages": [{"content": question}]})) == Say("ready")


def test_the_same_seed_gives_the_same_answers() -> None:
    rows = {"type": "integer", "minimum": 0, "maximum": 10**6}
    schema = {"properties": {"rows": rows}, "required": ["rows"]}
    asked = {"response_format": {"json_schema": {"schema": schema}}, "messages": [{"content": ""}]}

    def answers(script: Script) -> list[object]:
        return [script(ChatRequest("/", {}, asked)) for _ in range(5)]

    assert answers(at_random(4)) == answers(at_random(4)) != answers(at_random(5))


def test_a_fault_is_that_of_every_request_and_mixed_is_all_in_turn() -> None:
    request = ChatRequest("/", {}, {})
    one, every = failing("500"), failing(MIXED)
    assert [one(request), one(request)] == [Fail("500")] * 2
    assert [every(request) for _ in FAULTS] == [Fail(fault) for fault in FAULTS]


def test_it_serves_from_the_command_line_until_it_is_interrupted(
    toolbox: Toolbox, observation: Observation
) -> None:
    command = [sys.executable, "-m", "rudder.bench.model_server.stand_in", "--fault", "500"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[1]
        question = planner_question(Briefing(observation, toolbox.limits, "time"))

        async def ask() -> None:
            chat = OpenAIChat(Endpoint.of(url, model="stand-in", environment={}))
            try:
                await chat.complete(question, mode="tools")
            finally:
                await chat.close()

        with pytest.raises(ServerFailedError):
            asyncio.run(ask())
        os.kill(process.pid, signal.SIGINT)
        assert process.stdout.read() == "1 requests\n"
