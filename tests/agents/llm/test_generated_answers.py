"""No answer whatsoever leads to a change out of bounds."""

from __future__ import annotations

import asyncio
import os

import pytest

from rudder.agents.critic import EmbeddedCritic
from rudder.agents.llm.answers import CriticAnswer, ObserverAnswer, form_of
from rudder.agents.llm.asker import Asker
from rudder.agents.llm.breaker import Breaker, Budget, Stagger
from rudder.agents.llm.critic import LlmCritic
from rudder.agents.llm.errors import InvalidAnswerError
from rudder.agents.llm.planner import LlmPlanner
from rudder.agents.llm.proposals import offered, stage
from rudder.agents.planners.embedded import EmbeddedPlanner
from rudder.bench.model_server.random_model import RandomChat
from rudder.bench.simulated.access_traces import ZipfStream
from rudder.bench.simulated.run import simulate
from rudder.bench.simulated.trainer import Costs, SimulatedTrainer
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import BufferSettings

ANSWERS = int(os.environ.get("RUDDER_GENERATED_ANSWERS", "20000"))
"""`RUDDER_GENERATED_ANSWERS=100000` is the long form."""


@pytest.mark.parametrize("wildness", [0.0, 0.05, 0.5])
def test_no_generated_answer_stages_a_change_out_of_bounds(
    wildness: float, toolbox: Toolbox
) -> None:
    forms = offered(toolbox.limits)
    chat = RandomChat(7, wildness=wildness)
    settings = toolbox.history.settings
    staged = refused = 0
    for number in range(ANSWERS // 3):
        try:
            stage(chat.reply(forms), forms, toolbox, call_id=f"{number}")
        except InvalidAnswerError:
            refused += 1
            assert toolbox.staging.is_empty
            continue
        staged += 1
        change = toolbox.staging.change
        assert toolbox.limits.problem(change, settings=settings) is None
        assert change.capacity_rows is None or 0 <= change.capacity_rows <= 4000
        assert toolbox.staging.keeps == change.is_empty
    assert staged > 0
    assert refused > 0 or wildness == 0.0


@pytest.mark.parametrize("answer", [CriticAnswer, ObserverAnswer])
def test_a_form_has_no_defaults_and_lets_nothing_else_in(answer: type[CriticAnswer]) -> None:
    form = form_of(answer, name="x")
    properties = form.parameters["properties"]
    assert isinstance(properties, dict)
    assert form.parameters["required"] == list(properties)
    assert form.parameters["additionalProperties"] is False
    assert not any("$ref" in str(value) or "anyOf" in str(value) for value in properties.values())


@pytest.mark.parametrize("wildness", [0.0, 0.3])
def test_a_run_under_a_random_model_is_hardly_slower_than_an_embedded_one(wildness: float) -> None:
    def trainer() -> SimulatedTrainer:
        return SimulatedTrainer(
            ZipfStream(num_remote=4000, draws=600),
            settings=BufferSettings(capacity_rows=300, lookahead_batches=12),
            costs=Costs(row_ms=0.08),
            max_buffer_rows=2000,
        )

    def asker() -> Asker:
        return Asker(
            RandomChat(3, wildness=wildness),
            breaker=Breaker(lambda: 0.0),
            budget=Budget(max_calls=1000, max_tokens=10**8),
            stagger=Stagger(rank=0, world_size=1, deadline_s=5.0),
            deadline_s=5.0,
            on_exchange=lambda exchange: None,
        )

    model = asker()
    run = asyncio.run(
        simulate(
            trainer(),
            planner=LlmPlanner(model, fallback=EmbeddedPlanner()),
            critic=LlmCritic(model, fallback=EmbeddedCritic()),
            windows=60,
        )
    )
    embedded = asyncio.run(simulate(trainer(), planner=EmbeddedPlanner(), windows=60))
    assert model.report().questions >= 2
    assert run.seconds <= 1.05 * embedded.seconds
