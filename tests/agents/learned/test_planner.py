"""A learned planner: legal, deterministic, refused like any other, and better than nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rudder.agents.guard import DEFAULT_STEPS, Guard
from rudder.agents.learned.classifier import Classifier
from rudder.agents.learned.planner import (
    Examples,
    LearnedPlanner,
    fit,
    open_planner,
    read_planner,
)
from rudder.agents.observer import EmbeddedObserver
from rudder.agents.planners.exploring import candidates
from rudder.agents.replay.other import Alternative, OtherPlanner
from rudder.agents.replay.recorded import Replayed, replay
from rudder.bench.simulated.run import simulate
from rudder.memory.journal import Recalled
from rudder.memory.records import Plan
from rudder.memory.run.run_reader import RunReader, run_file
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import BufferSettings
from rudder.training.steering_options import ClassifierName, SteeringOptions
from tests.agents.steered import observation_of, run, toolbox_after, trainer_of

POOR = BufferSettings(capacity_rows=200, lookahead_batches=4)


@pytest.fixture(scope="module")
def model_file(memory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("planner") / "lr.model"
    fit(memory, planner="lr", out=path)
    return path


@pytest.fixture
def model(model_file: Path) -> LearnedPlanner:
    return read_planner(model_file)


class _Fixed(Classifier):
    """A classifier that says what it is told to, and keeps what it is taught."""

    def __init__(self, *probabilities: float) -> None:
        self.told = probabilities
        self.taught: list[int] = []

    def fit(self, examples: Examples) -> None:
        self.taught.append(len(examples))

    def probabilities(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.resize(np.array(self.told), len(x))


class _Pupil(_Fixed):
    """Says what a model says, and keeps what it is taught."""

    def __init__(self, model: LearnedPlanner) -> None:
        super().__init__()
        self._taught_by = model

    def probabilities(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        return self._taught_by.classifier.probabilities(x)


def with_classifier(
    model: LearnedPlanner, classifier: _Fixed, *, refit_every: int | None = None
) -> LearnedPlanner:
    return LearnedPlanner(model.header, classifier, model.examples, refit_every=refit_every)


def plan_of(planner: LearnedPlanner, toolbox: Toolbox, *past: Recalled) -> Plan:
    toolbox.begin()
    observation = asyncio.run(EmbeddedObserver().observe(toolbox))
    return asyncio.run(planner.plan(observation, past, toolbox))


@pytest.mark.parametrize("windows", [2, 8])
@pytest.mark.parametrize("rows", [0, 60, 2500, 6000])
def test_a_plan_is_legal_and_the_same_again(model: LearnedPlanner, windows: int, rows: int) -> None:
    toolbox = toolbox_after(trainer_of(BufferSettings(capacity_rows=rows)), windows=windows)
    planner = model
    plan = plan_of(planner, toolbox)
    assert toolbox.limits.problem(plan.change, settings=toolbox.history.settings) is None
    assert plan.planner == planner.name
    assert plan_of(planner, toolbox).change == plan.change


def test_it_sees_that_a_small_buffer_on_a_slow_network_should_grow(model: LearnedPlanner) -> None:
    toolbox = toolbox_after(trainer_of(POOR))
    plan = plan_of(model, toolbox)
    assert plan.change.over(POOR).capacity_rows > POOR.capacity_rows
    assert plan.expected == toolbox.whatif.effect(plan.change)


def test_it_keeps_things_where_nothing_is_likely_to_help(model: LearnedPlanner) -> None:
    toolbox = toolbox_after(trainer_of())
    doubtful = with_classifier(model, _Fixed(0.5))
    assert plan_of(doubtful, toolbox).change.is_empty
    assert not plan_of(with_classifier(model, _Fixed(0.6)), toolbox).change.is_empty


def test_of_equally_likely_changes_it_takes_the_smallest_buffer(model: LearnedPlanner) -> None:
    toolbox = toolbox_after(trainer_of())
    plan = plan_of(with_classifier(model, _Fixed(0.9)), toolbox)
    observation = asyncio.run(EmbeddedObserver().observe(toolbox))
    assert plan.change == candidates(observation, toolbox.limits)[0]


def test_it_steers_through_the_same_critic_guard_and_trial(model: LearnedPlanner) -> None:
    lived = run(trainer_of(POOR), planner=model, windows=40)
    fixed = run(trainer_of(POOR), windows=40)
    assert lived.seconds < 0.9 * fixed.seconds
    for episode in lived.applied:
        assert episode.verdict is not None
        assert episode.verdict.critic == "embedded"
        assert episode.guard is not None


def test_a_model_that_is_always_wrong_does_no_harm(model: LearnedPlanner) -> None:
    good = BufferSettings(capacity_rows=2500, lookahead_batches=48)
    wrong = with_classifier(model, _Fixed(1.0, 0.0))
    lived = run(trainer_of(good), planner=wrong, windows=40)
    assert lived.seconds <= 1.05 * run(trainer_of(good), windows=40).seconds


def test_it_learns_on_after_so_many_measured_changes_of_its_own_run(model: LearnedPlanner) -> None:
    classifier = _Pupil(model)
    planner = with_classifier(model, classifier, refit_every=2)
    lived = run(trainer_of(POOR), planner=planner, windows=40)
    assert len(lived.applied) >= 2
    known = len(model.examples)
    assert classifier.taught
    assert classifier.taught[0] == known + 2
    assert classifier.taught == sorted(set(classifier.taught))
    assert classifier.taught[-1] <= known + len(lived.applied)


def test_it_learns_each_trial_of_its_own_run_once_and_nothing_that_is_recalled_of_others(
    model: LearnedPlanner,
) -> None:
    classifier = _Fixed(0.9)
    planner = with_classifier(model, classifier, refit_every=1)
    toolbox = toolbox_after(trainer_of())
    (episode, *_) = run(trainer_of(POOR), planner=model, windows=12).applied
    past = Recalled(distance=0, workload=toolbox.history.workload, episode=episode)
    plan_of(planner, toolbox, past)
    assert (classifier.taught, planner.name) == ([], model.name)
    own = toolbox_after(trainer_of(), own=[episode])
    plan_of(planner, own)
    plan_of(planner, own)
    assert classifier.taught == [len(model.examples) + 1]


def test_the_record_tells_how_many_changes_it_has_learned_on(model: LearnedPlanner) -> None:
    planner = with_classifier(model, _Pupil(model), refit_every=1)
    lived = run(trainer_of(POOR), planner=planner, windows=40)
    names = [episode.plan.planner for episode in lived.episodes]
    learned = [int(name.removeprefix(model.name).lstrip("+") or 0) for name in names]
    assert learned == sorted(learned)
    assert 0 == learned[0] < learned[-1] <= len(lived.applied)


@pytest.mark.parametrize("kind", ["lr", "rf", "svm", "mlp", "xgb", "tabnet"])
def test_learning_on_leaves_the_file_as_it_is(
    kind: ClassifierName, memory: Path, tmp_path: Path
) -> None:
    file = tmp_path / f"{kind}.model"
    fit(memory, planner=kind, out=file)
    before = file.read_bytes()
    planner = read_planner(file, refit_every=1)
    run(trainer_of(POOR), planner=planner, windows=40)
    assert "+" in planner.name
    assert file.read_bytes() == before


def test_what_a_planner_learned_on_decided_is_decided_again_by_its_file(
    model_file: Path, tmp_path: Path
) -> None:
    options = SteeringOptions(planner="lr", planner_model=model_file, planner_refit_every=1)
    journal = SqliteJournal.open(run_file(tmp_path, rank=0), memory=None)
    asyncio.run(
        simulate(trainer_of(POOR), planner=open_planner(options), journal=journal, windows=40)
    )
    journal.close()
    found = asyncio.run(_decided_again(run_file(tmp_path, rank=0), options))
    assert "+" in found[-1].stored.plan.planner
    assert [each.other.plan.planner for each in found if each.other] == [
        each.stored.plan.planner for each in found
    ]
    assert all(each.is_same for each in found)
    for each in asyncio.run(_recorded(run_file(tmp_path, rank=0))):
        assert each.reason is not None
        assert each.reason.endswith("give --planner-model FILE")


async def _recorded(path: Path) -> list[Replayed]:
    with RunReader(path) as reader:
        return [each async for each in replay(reader)]


async def _decided_again(path: Path, options: SteeringOptions) -> list[Alternative]:
    with RunReader(path) as reader:
        return [each async for each in OtherPlanner(options).replay(reader)]


# -- candidates --------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [0, 1, 60, 2500, 6000])
@pytest.mark.parametrize("budget_bytes", [None, 400 * 1000])
def test_candidates_are_few_distinct_and_pass_the_guard(
    rows: int, budget_bytes: int | None
) -> None:
    settings = BufferSettings(capacity_rows=rows, lookahead_batches=16, eviction_threshold=0.2)
    toolbox = toolbox_after(trainer_of(settings), windows=2, budget_bytes=budget_bytes)
    observation = observation_of(settings=settings)
    found = candidates(observation, toolbox.limits)
    assert 3 <= len(found) <= 40
    assert len(set(found)) == len(found)
    for change in found:
        ruling = Guard(DEFAULT_STEPS).review(
            change, observation=observation, bounds=toolbox.limits, now_step=observation.step
        )
        assert ruling.allowed
