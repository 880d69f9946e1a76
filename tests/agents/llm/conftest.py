"""A simulated trainer's first windows, and what the agents see of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest

from rudder.agents.llm.asker import Asker
from rudder.agents.llm.breaker import Breaker, Budget
from rudder.agents.llm.consultation import Consultation
from rudder.agents.llm.endpoint import Endpoint
from rudder.agents.llm.exchange import Exchange
from rudder.agents.llm.messages import Chat, Mode
from rudder.agents.llm.openai_chat import OpenAIChat
from rudder.agents.llm.planner import LlmPlanner
from rudder.agents.observer import EmbeddedObserver
from rudder.agents.planners.embedded import EmbeddedPlanner
from rudder.agents.roles import Planner
from rudder.bench.model_server.scripted_server import Script, ScriptedServer, Step
from rudder.bench.simulated.access_traces import ZipfStream
from rudder.bench.simulated.trainer import SimulatedTrainer
from rudder.memory.records import Observation
from rudder.tools.estimate.history import History
from rudder.tools.estimate.whatif import WhatIf
from rudder.tools.limits import Limits
from rudder.tools.toolbox import Toolbox
from rudder.training.metrics import Window
from rudder.training.settings import BufferSettings
from rudder.training.steering_options import LlmRole
from rudder.training.workload import Workload
from tests.waiting import WAIT_SECONDS

DEADLINE_S = WAIT_SECONDS
"""No test that gets an answer comes near it, however busy the machine."""
SHORT_DEADLINE_S = 1.5
"""Where no answer comes, or one that is too late."""
AskerAt: TypeAlias = Callable[..., Asker]
Serve: TypeAlias = Callable[[Script | list[Step]], ScriptedServer]


def waiting(
    asker: Asker, *, roles: tuple[LlmRole, ...] = ("planner",), fallback: Planner | None = None
) -> LlmPlanner:
    """A planner whose every decision waits for the model, as no run's does."""
    consultation = Consultation(asker, roles=roles, waits=True)
    return LlmPlanner(consultation, fallback=fallback or EmbeddedPlanner())


@pytest.fixture(scope="session")
def trained() -> tuple[Workload, list[Window]]:
    trainer = SimulatedTrainer(
        ZipfStream(num_remote=4000, draws=600),
        settings=BufferSettings(capacity_rows=100, lookahead_batches=4),
    )
    return trainer.workload, [trainer.window() for _ in range(6)]


@pytest.fixture
def toolbox(trained: tuple[Workload, list[Window]]) -> Toolbox:
    workload, windows = trained
    history = History(workload)
    for window in windows:
        history.add(window)
    limits = Limits.of(workload, memory_budget_bytes=None)
    return Toolbox(history, limits, WhatIf(history), lambda limit: ())


@pytest.fixture
def observation(toolbox: Toolbox) -> Observation:
    seen = asyncio.run(EmbeddedObserver().observe(toolbox))
    return seen.model_copy(
        update={"headroom_rows": 400.0, "headroom_wait_ms": 5.0, "noise_wait_ms": 0.1}
    )


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[ScriptedServer] = []

    def start(script: Script | list[Step]) -> ScriptedServer:
        servers.append(ScriptedServer(script).__enter__())
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__(None, None, None)


@pytest.fixture
def exchanges() -> list[Exchange]:
    return []


@pytest.fixture
def asker_at(exchanges: list[Exchange]) -> AskerAt:
    def make(
        url: str,
        *,
        mode: Mode | None = "tools",
        deadline_s: float = DEADLINE_S,
        breaker: Breaker | None = None,
        max_calls: int = 1000,
        max_tokens: int = 10**7,
        key: str | None = None,
        chat: Chat | None = None,
    ) -> Asker:
        environment = {} if key is None else {"RUDDER_LLM_KEY": key}
        endpoint = Endpoint.of(url, model="scripted", environment=environment)
        return Asker(
            chat or OpenAIChat(endpoint, mode=mode),
            breaker=breaker or Breaker(time.monotonic),
            budget=Budget(max_calls=max_calls, max_tokens=max_tokens),
            deadline_s=deadline_s,
            on_exchange=exchanges.append,
        )

    return make
