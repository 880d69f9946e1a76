"""Who plays the roles that a run's options name."""

from __future__ import annotations

import pytest

from rudder.agents.critic import EmbeddedCritic
from rudder.agents.guard import DEFAULT_STEPS
from rudder.agents.planners.baselines import AdversarialPlanner
from rudder.agents.team import critic_of, planner_of, steps_of
from rudder.training.config import run_config
from rudder.training.steering_options import PlannerName, SteeringOptions


@pytest.mark.parametrize(
    "name", ["embedded", "fixed", "periodic", "heuristic", "collect", "adversarial"]
)
def test_a_planner_of_plain_code_has_the_name_that_it_is_asked_for_by(name: PlannerName) -> None:
    assert planner_of(SteeringOptions(planner=name)).name == name


def test_an_adversary_that_a_run_names_meets_the_same_critic_and_guard() -> None:
    options = run_config(planner="adversarial", memory="none").steering
    assert options is not None
    assert isinstance(planner_of(options), AdversarialPlanner)
    assert isinstance(critic_of(options), EmbeddedCritic)
    assert steps_of(options) == DEFAULT_STEPS
