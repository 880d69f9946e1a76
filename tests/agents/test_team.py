"""Who plays the roles that a run's options name."""

from __future__ import annotations

import asyncio

import pytest

from rudder.agents.critic import EmbeddedCritic
from rudder.agents.guard import DEFAULT_STEPS
from rudder.agents.planners.baselines import AdversarialPlanner
from rudder.agents.team import critic_of, planner_of, steps_of, warm_up
from rudder.bench.model_server.scripted_server import Fail, Say, ScriptedServer
from rudder.training.config import run_config
from rudder.training.errors import ConfigError
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


def test_the_model_is_warmed_up_once_per_job_and_an_endpoint_that_fails_is_no_matter() -> None:
    with ScriptedServer([Fail("500"), Say("ready")]) as server:
        options = SteeringOptions(planner="llm", llm_url=server.url, llm_model="m")
        for rank in (0, 1, 0):
            asyncio.run(warm_up(options, rank=rank))
        asyncio.run(warm_up(SteeringOptions(), rank=0))
    assert [request.body["max_tokens"] for request in server.requests] == [16, 16]


def test_observer_and_critic_need_the_models_plans() -> None:
    with pytest.raises(ConfigError, match="planner must be among them"):
        SteeringOptions(llm_roles=("critic",))
    with pytest.raises(ConfigError, match="planner must be among them"):
        run_config(llm="http://localhost:1/v1", llm_model="m", llm_roles=("observer", "critic"))
