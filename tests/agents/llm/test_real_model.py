"""A real small model behind a real llama.cpp server: whatever it says, runs go on and replay."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rudder.agents.controller.session import ControllerSession
from rudder.agents.llm.endpoint import Endpoint
from rudder.agents.llm.openai_chat import OpenAIChat
from rudder.bench.model_server.real_model import why_not
from rudder.cli.endpoint_probe import probe
from rudder.memory.run.run_reader import RunReader, run_file
from rudder.tools.cpu_budget import CpuBudget, ProcessShare
from rudder.training.metrics import ModelUse
from rudder.training.steering_options import SteeringOptions
from tests.agents.controller.test_session import make_trainer
from tests.agents.replay.conftest import replayed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
    pytest.mark.timeout(1200),
]
DEADLINE_S = 120.0
ANSWER_TOKENS = 200
"""One thread of a core that others share writes five tokens a second."""
WINDOWS = 8
KINDS = ("json", "empty", "cut", "schema", "number", "limits", "unknown_tool", "size")


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, str]]:
    """Where the model is served, and its name there."""
    command = [sys.executable, "-m", "rudder.bench.model_server.real_model"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        words = next(line for line in process.stdout if line.startswith("--llm ")).split()
        yield words[1], words[3]
        process.terminate()


def test_the_doctor_hears_it_in_every_mode(address: tuple[str, str]) -> None:
    async def run() -> list[int]:
        url, name = address
        endpoint = Endpoint.of(url, model=name, answer_tokens=ANSWER_TOKENS, environment={})
        chat = OpenAIChat(endpoint)
        report = await probe(chat, repeats=1, deadline_s=DEADLINE_S, warm_up_s=DEADLINE_S)
        await chat.close()
        sys.stdout.write(report.model_dump_json(indent=1) + "\n")
        return [len(each.latencies_ms) for each in report.modes]

    assert asyncio.run(run()) == [1, 1, 1]


def test_a_run_that_asks_it_in_every_role_is_steered_and_replays(
    address: tuple[str, str], tmp_path: Path
) -> None:
    async def steer() -> ModelUse:
        trainer = make_trainer(300)
        session = ControllerSession(
            trainer.workload,
            sender=trainer,
            options=SteeringOptions(
                planner="llm",
                llm_url=address[0],
                llm_model=address[1],
                llm_roles=("observer", "planner", "critic"),
                llm_deadline_s=DEADLINE_S,
                llm_answer_tokens=ANSWER_TOKENS,
            ),
            folder=tmp_path,
            socket=tmp_path / "rank0.sock",
            process=ProcessShare(CpuBudget(fraction=1000, calm_fraction=1000)),
        )
        asker = session._steering.team.asker
        assert asker is not None
        await session.begin()
        for _ in range(WINDOWS):
            await session.take(trainer.window())
            await asker.background.settled()
        await session.close()
        assert trainer.settings.capacity_rows > 300
        return asker.report()

    use = asyncio.run(steer())
    sys.stdout.write(use.model_dump_json(indent=1) + "\n")
    assert use.calls >= 1
    assert set(use.fallbacks) <= {"TooSlowError", *(f"InvalidAnswerError.{kind}" for kind in KINDS)}
    with RunReader(run_file(tmp_path, rank=0)) as reader:
        assert len(reader.model_calls()) == use.calls
    assert {each.result for each in replayed(run_file(tmp_path, rank=0))} == {"equal"}
