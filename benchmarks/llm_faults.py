"""What a broken model endpoint does to decisions: each fault so many times.

    python -m benchmarks.llm_faults --times 100 --deadline 0.2

A decision is late if it took longer than the deadline and the slack, and wrong if it is not the
embedded planner's own. Exit code 1 if any was either. Run it in the repository's root.
"""

from __future__ import annotations

import asyncio
import socket
import time
from argparse import Namespace
from pathlib import Path

from benchmarks.shared import run_study, spread
from rudder.agents.llm.asker import Asker
from rudder.agents.llm.breaker import Breaker, Budget
from rudder.agents.llm.consultation import Consultation
from rudder.agents.llm.endpoint import Endpoint
from rudder.agents.llm.exchange import Exchange
from rudder.agents.llm.openai_chat import OpenAIChat
from rudder.agents.llm.planner import LlmPlanner
from rudder.agents.observer import EmbeddedObserver
from rudder.agents.planners.embedded import EmbeddedPlanner
from rudder.bench.model_server.scripted_server import FAULTS, Fail, ScriptedServer
from rudder.memory.records import Observation
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import BufferSettings
from tests.agents.steered import toolbox_after, trainer_of

SLACK_S = 0.5


def scene() -> tuple[Toolbox, Observation]:
    small = BufferSettings(capacity_rows=100, lookahead_batches=4)
    toolbox = toolbox_after(trainer_of(small), windows=6)
    observation = asyncio.run(EmbeddedObserver().observe(toolbox))
    something = {"headroom_rows": 400.0, "headroom_wait_ms": 5.0, "noise_wait_ms": 0.1}
    return toolbox, observation.model_copy(update=something)


async def decide(
    url: str, toolbox: Toolbox, observation: Observation, *, times: int, deadline_s: float
) -> dict[str, object]:
    errors: list[Exchange] = []
    endpoint = Endpoint.of(url, model="scripted", environment={})
    asker = Asker(
        OpenAIChat(endpoint, mode="tools"),
        breaker=Breaker(time.monotonic, failures=10**9, max_pause_s=0.0),
        budget=Budget(max_calls=10**9, max_tokens=10**12),
        deadline_s=deadline_s,
        on_exchange=errors.append,
    )
    fallback = EmbeddedPlanner()
    wanted = (await fallback.plan(observation, (), toolbox)).change
    planner = LlmPlanner(Consultation(asker, waits=True), fallback=fallback)
    took, wrong = [], 0
    for number in range(times):
        seen = observation.model_copy(update={"window": number})
        began = time.monotonic()
        plan = await planner.plan(seen, (), toolbox)
        took.append(time.monotonic() - began)
        wrong += plan.planner != fallback.name or plan.change != wanted
    await asker.close()
    return {
        "decisions": times,
        "asked": len(errors),
        "errors": sorted({each.came.error or "none" for each in errors}),
        "wrong": wrong,
        "late": sum(seconds > deadline_s + SLACK_S for seconds in took),
        "ms": spread([1000 * seconds for seconds in took]),
    }


def measure(options: Namespace, folder: Path) -> dict[str, dict[str, object]]:
    seen = scene()

    def one(url: str) -> dict[str, object]:
        return asyncio.run(decide(url, *seen, times=options.times, deadline_s=options.deadline))

    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
    found = {"refuse": one(nobody)}
    for fault in FAULTS:
        with ScriptedServer([Fail(fault)]) as server:
            found[fault] = one(server.url)
    return found


if __name__ == "__main__":
    run_study(
        __doc__, measure, times=100, deadline=0.2,
        holds=lambda found: not any(each["wrong"] or each["late"] for each in found.values()),
    )  # fmt: skip
