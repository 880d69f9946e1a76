"""How far a run stays behind the best fixed settings, by who advises the embedded planner.

    python -m benchmarks.llm_regret --seeds 2 --delay 2
    python -m benchmarks.llm_regret --seeds 1 --llm http://127.0.0.1:8080/v1 --model NAME

`best-line` takes the best what-if line of its prompt, `random` answers at random; both think for
--delay simulated seconds. `alone`: no embedded planner decides before them, or in their place. A
real model takes real time, and the simulated trainer goes on at real time meanwhile.
"""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.shared import run_study
from rudder.agents.llm.messages import Chat
from rudder.agents.team import asker_of, make_team, open_chat, with_llm
from rudder.bench.model_server.best_line import BestLineChat
from rudder.bench.model_server.random_model import RandomChat
from rudder.bench.simulated.cases import all_cases
from rudder.bench.simulated.clock import run_simulated
from rudder.bench.simulated.compare import CaseResult, Runner, TeamMaker, compare, standings
from rudder.training.steering_options import SteeringOptions

EMBEDDED = SteeringOptions()


ALONE = SteeringOptions(planner="fixed")


def advised(
    chat: Callable[[], Chat], options: SteeringOptions, *, others: SteeringOptions = EMBEDDED
) -> TeamMaker:
    """The planner of the other options, which also hears this model."""
    return lambda workload: with_llm(
        make_team(others, workload), asker_of(chat(), options=options), options=options
    )


def teams_of(delay_s: float, llm: str, model: str) -> tuple[dict[str, TeamMaker], Runner]:
    """Who is compared, and in whose time."""
    embedded: dict[str, TeamMaker] = {"embedded": lambda workload: make_team(EMBEDDED, workload)}
    chats: dict[str, Callable[[], Chat]]
    if llm:
        options = SteeringOptions(planner="llm", llm_url=llm, llm_model=model)
        chats = {model: lambda: open_chat(options)}
        return embedded | _with_and_alone(chats, options), asyncio.run
    chats = {
        "best-line": lambda: BestLineChat(delay_s=delay_s),
        "random": lambda: RandomChat(0, delay_s=delay_s),
    }
    return embedded | _with_and_alone(chats, EMBEDDED), run_simulated


def _with_and_alone(
    chats: dict[str, Callable[[], Chat]], options: SteeringOptions
) -> dict[str, TeamMaker]:
    both = {name: advised(chat, options) for name, chat in chats.items()}
    alone = {f"{name} alone": advised(chats[name], options, others=ALONE) for name in chats}
    return both | alone


def measure(told: Namespace, _: Path) -> Iterator[dict[str, object]]:
    """Run all cases; times are over the best of the fixed settings, and over the embedded
    planner's own."""
    teams, runner = teams_of(told.delay, told.llm, told.model)
    found: list[CaseResult] = []
    for case in all_cases(seeds=told.seeds):
        found += compare(teams, case, windows=told.windows, runner=runner)
    own = {_case(each): each.seconds for each in found if each.planner == "embedded"}
    for each in standings(found):
        ratios = [one.seconds / own[_case(one)] for one in found if one.planner == each.planner]
        yield {
            "planner": each.planner,
            "to_best": round(each.to_best, 4),
            "worst_to_best": round(each.worst_to_best, 4),
            "to_embedded": round(sum(ratios) / len(ratios), 4),
            "worst_to_embedded": round(max(ratios), 4),
            "changes": each.applied,
            "reverted": each.reverted,
        }


def _case(result: CaseResult) -> tuple[str, float, str, int]:
    return result.stream, result.row_ms, result.start, result.seed


if __name__ == "__main__":
    run_study(__doc__, measure, seeds=2, windows=60, delay=2.0, llm="", model="")
