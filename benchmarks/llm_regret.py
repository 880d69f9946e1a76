"""How far a run stays behind the best fixed settings, by who advises the embedded planner.

    python -m benchmarks.llm_regret --seeds 2 --delay 2
    python -m benchmarks.llm_regret --llm http://127.0.0.1:8080/v1 --model NAME --mode structured

`best-line` takes the best what-if line of its prompt, `random` answers at random; both think for
--delay simulated seconds. A real model is heard at once, however long it takes: only what it
proposes counts; it is asked --max-calls times a run at most. `alone`: no embedded planner decides
before them, or in their place. --only alone leaves the runs out that hear a model beside it.

Prints a line for each workload with the times of all over the best fixed settings', then one for
each planner with geometric means and ranges. The workloads come in an order drawn at random; with
--minutes, no further one begins after so long, and --skip leaves the first ones out.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from benchmarks.shared import run_study
from rudder.agents.llm.endpoint import endpoint_of
from rudder.agents.llm.messages import Chat
from rudder.agents.llm.openai_chat import OpenAIChat
from rudder.agents.team import asker_of, make_team, with_llm
from rudder.bench.model_server.best_line import BestLineChat
from rudder.bench.model_server.random_model import RandomChat
from rudder.bench.simulated.cases import all_cases
from rudder.bench.simulated.clock import run_simulated
from rudder.bench.simulated.compare import CaseResult, Runner, TeamMaker, compare
from rudder.training.steering_options import SteeringOptions

EMBEDDED, ALONE = SteeringOptions(), SteeringOptions(planner="fixed")
DEADLINE_S = 900.0
"""For a real model on a share of a core."""


def teams_of(told: Namespace) -> tuple[dict[str, TeamMaker], Runner]:
    """Who is compared, and in whose time."""
    if not told.llm:
        stand_ins: dict[str, Callable[[], Chat]] = {
            "best-line": lambda: BestLineChat(delay_s=told.delay),
            "random": lambda: RandomChat(0, delay_s=told.delay),
        }
        return _teams(stand_ins, EMBEDDED, waits=False), run_simulated
    options = SteeringOptions(
        planner="llm",
        llm_url=told.llm,
        llm_model=told.model,
        llm_deadline_s=DEADLINE_S,
        llm_answer_tokens=told.answer_tokens,
        llm_max_calls=told.max_calls,
    )
    chats = {told.model: lambda: OpenAIChat(endpoint_of(options), mode=told.mode or None)}
    return _teams(chats, options, waits=True), asyncio.run


def _teams(
    chats: dict[str, Callable[[], Chat]], options: SteeringOptions, *, waits: bool
) -> dict[str, TeamMaker]:
    """The embedded planner, with each of the models and without, and each of them alone."""

    def advised(chat: Callable[[], Chat], others: SteeringOptions) -> TeamMaker:
        return lambda workload: with_llm(
            make_team(others, workload),
            asker_of(chat(), options=options),
            options=options,
            waits=waits,
        )

    embedded: TeamMaker = lambda workload: make_team(EMBEDDED, workload)  # noqa: E731
    both = {f"hears {name}": advised(chat, EMBEDDED) for name, chat in chats.items()}
    alone = {f"{name} alone": advised(chat, ALONE) for name, chat in chats.items()}
    return {"embedded": embedded} | both | alone


def measure(told: Namespace, _: Path) -> Iterator[dict[str, object]]:
    """Run the cases, then sum up: times are over the best of the fixed settings', and over the
    embedded planner's own."""
    teams, runner = teams_of(told)
    teams = {name: each for name, each in teams.items() if name == "embedded" or told.only in name}
    found: list[list[CaseResult]] = []
    cases, began = all_cases(seeds=told.seeds), time.monotonic()
    for case in Random(0).sample(cases, len(cases))[told.skip :]:
        if told.minutes and time.monotonic() - began > 60 * told.minutes:
            break
        found.append(list(compare(teams, case, windows=told.windows, runner=runner)))
        yield {
            "workload": f"{case.stream}, {case.row_ms} ms a row, {case.start} start, {case.seed}",
            **{each.planner: round(each.to_best, 4) for each in found[-1]},
        }
    for number, planner in enumerate(teams):
        own = [each[number] for each in found]
        yield {
            "planner": planner,
            "to_best": _spread([each.to_best for each in own]),
            "to_embedded": _spread([each[number].seconds / each[0].seconds for each in found]),
            "changes": sum(each.applied for each in own),
            "reverted": sum(each.reverted for each in own),
        }


def _spread(ratios: list[float]) -> dict[str, float]:
    found = {"mean": statistics.geometric_mean(ratios), "least": min(ratios), "most": max(ratios)}
    return {name: round(value, 4) for name, value in found.items()}


if __name__ == "__main__":
    run_study(
        __doc__, measure, seeds=2, windows=60, delay=2.0, llm="", model="", mode="",
        answer_tokens=256, max_calls=200, only="", minutes=0.0, skip=0,
    )  # fmt: skip
