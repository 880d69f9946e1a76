"""An endpoint that goes away while a run goes on, and comes back at the same address."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from rudder.agents.llm.asker import Asker
from rudder.agents.llm.breaker import FIRST_PAUSE_S, Breaker
from rudder.agents.llm.consultation import planner_question
from rudder.agents.llm.errors import ChatError
from rudder.agents.llm.exchange import Exchange
from rudder.agents.llm.messages import Question
from rudder.agents.llm.prompts import brief
from rudder.bench.model_server.scripted_server import ScriptedServer
from rudder.bench.model_server.stand_in import at_random
from rudder.memory.records import Observation
from rudder.tools.toolbox import Toolbox
from tests.agents.llm.conftest import AskerAt
from tests.agents.steered import observation_of


async def ask(asker: Asker, question: Question, *, windows: range) -> None:
    """Once a window, as roles do: what fails is left to the embedded agents."""
    for window in windows:
        try:
            seen = observation_of(window=window, step=16 * window)
            await asker.ask(question, lambda reply: reply, seen=seen)
        except ChatError:
            continue


def test_it_is_left_alone_while_it_is_away_and_asked_again_when_it_is_back(
    asker_at: AskerAt, observation: Observation, toolbox: Toolbox, exchanges: list[Exchange]
) -> None:
    question = planner_question(brief(observation, (), toolbox, objective="time"))
    now_s = 0.0

    async def run() -> None:
        nonlocal now_s
        with ScriptedServer(at_random(0)) as server:
            url = server.url
            asker = asker_at(url, breaker=Breaker(lambda: now_s))
            await ask(asker, question, windows=range(2))
        await ask(asker, question, windows=range(2, 20))
        with ScriptedServer(at_random(0), port=urlsplit(url).port or 0):
            await ask(asker, question, windows=range(20, 22))
            now_s += 2 * FIRST_PAUSE_S
            await ask(asker, question, windows=range(22, 24))
        await asker.close()

    asyncio.run(run())
    away = "UnreachableError"
    came = [(each.asked.window, each.came.error) for each in exchanges]
    assert came == [
        (0, None),
        (1, None),
        *zip(range(2, 7), [away] * 5, strict=True),
        (22, None),
        (23, None),
    ]
