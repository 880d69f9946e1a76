"""A model that answers late, or never, costs a run nothing: the embedded planner never waits."""

from __future__ import annotations

import asyncio

import pytest

from rudder.agents.critic import EmbeddedCritic
from rudder.agents.observer import EmbeddedObserver
from rudder.agents.planners.embedded import EmbeddedPlanner
from rudder.agents.steering import Steering
from rudder.agents.team import Team, asker_of, with_llm
from rudder.bench.model_server.best_line import BestLineChat
from rudder.bench.model_server.random_model import RandomChat
from rudder.bench.simulated.cases import Case
from rudder.bench.simulated.clock import run_simulated
from rudder.bench.simulated.job import Board
from rudder.bench.simulated.run import Run, simulate
from rudder.bench.simulated.trainer import Costs, SimulatedTrainer
from rudder.memory.journal import Journal
from rudder.tools.limits import Limits
from rudder.training.metrics import ModelUse
from rudder.training.settings import BufferSettings, Change
from rudder.training.steering_options import SteeringOptions
from rudder.training.turn import RankTurn
from tests.agents.steered import STREAM, trainer_of

OPTIONS = SteeringOptions(llm_roles=("observer", "planner", "critic"))
"""The default deadline of 20 s."""
WINDOWS = 120
NEVER_S = 10.0**6
NOISE = 0.01
"""Of the time: compute and pulls are drawn anew where decisions come at other steps."""


def trainer(seed: int = 0, *, start: str = "poor", row_ms: float = 0.1) -> SimulatedTrainer:
    return Case("skewed", row_ms, start, seed).trainer()


def steered(
    chat: RandomChat | BestLineChat | None, trainer: SimulatedTrainer, **told: object
) -> tuple[Run, ModelUse | None]:
    team = Team(EmbeddedObserver(), EmbeddedPlanner(), EmbeddedCritic())
    if chat is not None:
        team = with_llm(team, asker_of(chat, options=OPTIONS), options=OPTIONS)

    async def run() -> Run:
        try:
            return await simulate(trainer, team=team, windows=WINDOWS, **told)  # type: ignore[arg-type]
        finally:
            if team.asker is not None:
                await team.asker.close()

    lived = run_simulated(run())
    return lived, None if team.asker is None else team.asker.report()


@pytest.fixture(scope="module")
def embedded() -> Run:
    return steered(None, trainer())[0]


@pytest.mark.parametrize("delay_s", [0.0, 2.0, 8.0, 20.0, NEVER_S])
def test_a_model_of_any_delay_costs_no_time_over_the_embedded_planner(
    delay_s: float, embedded: Run
) -> None:
    run, use = steered(RandomChat(3, delay_s=delay_s), trainer())
    assert use is not None
    assert use.questions >= 1
    assert run.seconds <= (1 + NOISE) * embedded.seconds
    assert (run.applied[0].plan, run.applied[0].applied) == (
        embedded.applied[0].plan,
        embedded.applied[0].applied,
    )
    is_heard = delay_s < OPTIONS.llm_deadline_s / 3  # observer, planner and critic are asked
    assert any(plan.startswith("llm:") for plan in planners(run)) == is_heard
    assert ("TooSlowError" in use.fallbacks) == (not is_heard)


def planners(run: Run) -> set[str]:
    return {plan.planner for each in run.episodes for plan in each.plans}


@pytest.mark.parametrize("seed", range(8))
def test_every_run_from_the_default_settings_asks(seed: int) -> None:
    _, use = steered(RandomChat(seed, delay_s=2.0), trainer(seed, start="usual", row_ms=0.02))
    assert use is not None
    assert use.calls >= 1


@pytest.mark.parametrize("wildness", [0.0, 0.3])
def test_a_run_under_a_random_model_is_hardly_slower_than_an_embedded_one(
    wildness: float, embedded: Run
) -> None:
    run, use = steered(RandomChat(3, wildness=wildness), trainer())
    assert use is not None
    assert use.questions >= 2
    assert run.seconds <= (1 + NOISE) * embedded.seconds


def test_an_answer_about_a_regime_that_has_ended_is_dropped() -> None:
    def slow_link(number: int, trainer: SimulatedTrainer) -> None:
        if number == 8:
            trainer.costs = Costs(row_ms=1.0)

    settings = BufferSettings(capacity_rows=1500, lookahead_batches=40)
    small = SimulatedTrainer(
        STREAM, settings=settings, costs=Costs(row_ms=0.02), max_buffer_rows=1500
    )
    run, use = steered(BestLineChat(delay_s=3.0), small, disturbance=slow_link)
    assert use is not None
    assert use.stale == 1
    heard = [each for each in run.episodes for plan in each.plans if plan.asked_step is not None]
    assert all(each.observation.step > 8 * 16 for each in heard)


def test_a_buffer_for_all_remote_rows_is_left_alone_once_the_model_was_asked() -> None:
    settings = BufferSettings(capacity_rows=STREAM.num_remote, lookahead_batches=32)
    run, use = steered(BestLineChat(), trainer_of(settings))
    assert use is not None
    assert use.questions >= 1
    assert not run.applied
    assert sum(bool(window.accesses) for window in run.windows) <= 6


@pytest.mark.parametrize("is_joint", [False, True])
def test_a_turn_of_another_rank_does_not_hold_the_first_question_up(is_joint: bool) -> None:
    """A joint change is told in the third window, which has the first estimates."""
    settings = BufferSettings(capacity_rows=1500, lookahead_batches=40)
    own, board = trainer_of(settings), Board()
    own.workload = own.workload.model_copy(update={"world_size": 2})
    most = Limits.of(own.workload, memory_budget_bytes=None).max_capacity_rows
    deciding = RankTurn(
        number=1, rank=1, state="deciding", step=0, until_step=10**6, settings=settings,
        change=Change(capacity_rows=3000), is_joint=is_joint, max_capacity_rows=most,
    )  # fmt: skip
    board.turn = deciding
    team = Team(EmbeddedObserver(), EmbeddedPlanner(), EmbeddedCritic())
    asker = asker_of(BestLineChat(delay_s=1.0), options=OPTIONS)
    steering = Steering(
        own.workload, sender=own, journal=Journal(), options=OPTIONS, turns=board,
        team=with_llm(team, asker, options=OPTIONS),
    )  # fmt: skip

    async def run() -> tuple[list[bool], list[str]]:
        asked, planners = [], []
        for number in range(4):
            window = own.window()
            rows = window.rows.rows_fetched.of_batches / window.num_steps
            told = {"state": "deciding" if number < 2 else "on_trial", "rows_fetched": rows}
            turn = deciding.model_copy(update=told)
            found = await steering.take(window.model_copy(update={"turn": turn}))
            planners += [each.plan.planner for each in found]
            await asyncio.sleep(0.1)
            asked.append(asker.has_asked)
        await asker.close()
        return asked, planners

    assert run_simulated(run()) == ([False, False, True, True], ["team"] if is_joint else [])
