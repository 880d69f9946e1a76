"""What another planner would have decided."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from rudder.agents.replay.other import Alternative, OtherPlanner
from rudder.bench.model_server.scripted_server import CallTool, ScriptedServer
from rudder.memory.run.run_reader import RunReader
from rudder.training.settings import Change
from rudder.training.steering_options import SteeringOptions
from tests.agents.replay.made import FOLDER


def alternatives(path: Path, options: SteeringOptions) -> list[Alternative]:
    async def gather() -> list[Alternative]:
        other = OtherPlanner(options)
        try:
            with RunReader(path) as reader:
                return [each async for each in other.replay(reader)]
        finally:
            await other.close()

    return asyncio.run(gather())


def test_the_planner_of_then_would_decide_the_same(steered: Path) -> None:
    found = alternatives(steered, SteeringOptions(planner="embedded"))
    assert len(found) > 5
    assert all(each.is_same for each in found)


def test_the_planner_that_never_changes_anything_keeps_all(steered: Path) -> None:
    found = alternatives(steered, SteeringOptions(planner="fixed"))
    assert {each.other.plan.change for each in found if each.other} == {Change()}
    changed = [each for each in found if not each.stored.plan.change.is_empty]
    assert changed
    assert not any(each.is_same for each in changed)


def test_its_plans_pass_critic_and_guard(steered: Path) -> None:
    found = alternatives(steered, SteeringOptions(planner="heuristic"))
    verdicts = {e.other.verdict.critic for e in found if e.other and e.other.verdict}
    assert verdicts == {"embedded"}


def test_a_decision_that_cannot_be_made_again_says_so() -> None:
    old = Path(__file__).parents[2] / "memory" / "released" / "run-0001.db"
    found = alternatives(old, SteeringOptions(planner="fixed"))
    assert {each.reason for each in found} == {"what it rested on was not kept"}
    assert not any(each.is_same for each in found)


def test_a_model_is_asked_about_stored_windows() -> None:
    grow = {"capacity_rows": 300, "reason": "more rows stay"}
    with ScriptedServer([CallTool([("set", json.dumps(grow))])]) as server:
        found = alternatives(
            FOLDER / "llm.db", SteeringOptions(planner="llm", llm_url=server.url, llm_model="m")
        )
    asked = [e.other for e in found if e.other and e.other.plan.planner == "llm:m"]
    assert asked
    assert {each.plan.change for each in asked} == {Change(capacity_rows=300)}
