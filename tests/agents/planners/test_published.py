"""The published planner: yes or no to a round of replacement."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rudder.agents.llm.messages import Mode, Question, RawCall, Reply
from rudder.agents.llm.published import ModelAnswer, published_question
from rudder.agents.planners.published import PublishedPlanner, Rule
from rudder.agents.replay.recorded import replay
from rudder.agents.team import asker_of, planner_of
from rudder.bench.simulated.run import simulate
from rudder.bench.simulated.trainer import SimulatedTrainer
from rudder.memory.records import Episode, Outcome, Plan
from rudder.memory.run.run_reader import RunReader, run_file
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.training.config import run_config
from rudder.training.errors import ConfigError
from rudder.training.settings import BufferSettings, Change
from rudder.training.steering_options import SteeringOptions
from tests.agents.steered import SLOW, STREAM, observation_of, toolbox_after

OPTIONS = SteeringOptions(planner="published")
ROUND = Change(replace_now=True)


def trainer() -> SimulatedTrainer:
    settings = BufferSettings(capacity_rows=1500, replacement_interval=0, eviction_threshold=0.2)
    return SimulatedTrainer(STREAM, settings=settings, costs=SLOW, policy="score")


def tried(step: int, *, rows: tuple[float, float]) -> Episode:
    """A round at this step, with rows fetched before and after."""
    outcome = Outcome(result="confirmed", rows_before=rows[0], rows_after=rows[1], noise_rows=1.0)
    return Episode(
        episode_id=f"{step}", run_key="r", rank=0, number=step,
        observation=observation_of(step=step),
        plan=Plan(planner="published:rule", change=ROUND, expected=None, reason="for a test"),
        outcome=outcome,
    )  # fmt: skip


def answer(step: int, *last: Episode) -> bool:
    toolbox = toolbox_after(trainer(), windows=0)
    return asyncio.run(Rule().answer(observation_of(step=step), last, toolbox)).is_yes


def test_the_rule_says_yes_while_rounds_help_and_pauses_twice_as_long_after_each_that_did_not() -> (
    None
):
    assert answer(16)
    assert answer(64, tried(32, rows=(100, 80)))
    useless = [tried(64, rows=(80, 80)), tried(32, rows=(100, 100))]
    assert not answer(80, useless[0])
    assert answer(96, useless[0])
    assert not answer(96, *useless)
    assert answer(128, *useless)


def test_a_run_is_steered_by_rounds_alone_and_replays(tmp_path: Path) -> None:
    journal = SqliteJournal.open(run_file(tmp_path, rank=0), memory=None)
    run = asyncio.run(simulate(trainer(), options=OPTIONS, windows=16, journal=journal))
    journal.close()
    changes = {each.verdict.change for each in run.applied if each.verdict is not None}
    assert changes == {ROUND}
    assert run.windows[-1].rows.hit_fraction
    assert run.windows[0].rows.hit_fraction is not None
    assert run.windows[-1].rows.hit_fraction > run.windows[0].rows.hit_fraction

    async def again() -> list[str]:
        with RunReader(run_file(tmp_path, rank=0)) as reader:
            return [each.result async for each in replay(reader)]

    assert set(asyncio.run(again())) == {"equal"}


class ChatOfOneAnswer:
    """Answers every question with the same call."""

    model = "scripted"
    mode: Mode | None = "tools"

    def __init__(self, arguments: str) -> None:
        self._arguments = arguments
        self.asked: list[Question] = []

    async def complete(self, question: Question, *, mode: Mode) -> Reply:
        self.asked.append(question)
        return Reply(calls=(RawCall(name="answer", arguments=self._arguments),))

    async def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    ("arguments", "is_yes"),
    [
        ('{"replace_now": "yes", "reason": "hits fell"}', True),
        ('{"replace_now": "no", "reason": "yes, but not now"}', False),
        ('{"replace_now": "certainly", "reason": ""}', False),
        ("yes", False),
    ],
)
def test_a_models_answer_is_read_and_never_guessed(arguments: str, is_yes: bool) -> None:
    chat, toolbox = ChatOfOneAnswer(arguments), toolbox_after(trainer(), windows=4)

    async def plans() -> list[Plan]:
        asker = asker_of(chat, options=OPTIONS)
        planner, seen = PublishedPlanner(ModelAnswer(asker)), observation_of(step=64)
        first = await planner.plan(seen, [], toolbox)
        await asker.background.settled()
        found = [first, await planner.plan(seen, [], toolbox)]
        await asker.close()
        return found

    first, plan = asyncio.run(plans())
    assert (first.change, first.reason) == (Change(), "the model has not answered yet")
    assert plan.change == (ROUND if is_yes else Change())
    assert plan.planner == "published:llm:scripted"


def test_a_model_is_shown_hits_rows_and_what_the_last_rounds_brought() -> None:
    toolbox = toolbox_after(trainer(), windows=6)
    asked = published_question(observation_of(step=96), [tried(64, rows=(81, 79))], toolbox).user
    hits = toolbox.history.windows[-1].rows.hit_fraction
    assert hits is not None
    assert f"{hits:.3f} " in asked
    assert "64 81 79" in asked


def test_nothing_is_asked_before_a_window_was_measured() -> None:
    toolbox = toolbox_after(trainer(), windows=0)
    plan = asyncio.run(planner_of(OPTIONS).plan(observation_of(step_ms=0.0), [], toolbox))
    assert plan.change.is_empty


def test_the_planner_needs_the_policy_that_it_was_published_with() -> None:
    with pytest.raises(ConfigError, match="--policy score --replacement-interval 0"):
        run_config(planner="published")
    config = run_config(planner="published", policy="score", replacement_interval=0)
    assert config.steering is not None
    assert config.steering.planner == "published"
