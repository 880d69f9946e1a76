"""A live model's questions and answers stand in the record, under its chain, and in `explain`."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from rudder.agents.controller.session import ControllerSession
from rudder.agents.llm.proposals import LOOK_UPS
from rudder.bench.model_server.scripted_server import ScriptedServer
from rudder.bench.model_server.stand_in import at_random
from rudder.cli.commands.audit import model
from rudder.cli.commands.explain import explain
from rudder.cli.show.audit import attributes
from rudder.memory.run.audit import AuditFilter, AuditRow
from rudder.memory.run.run_reader import RunReader, run_file
from rudder.tools.cpu_budget import CpuBudget, ProcessShare
from rudder.training.steering_options import LlmRole, SteeringOptions
from tests.agents.controller.test_session import make_trainer

ROLES: tuple[LlmRole, ...] = ("observer", "planner", "critic")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose agents were a model at an endpoint."""
    folder = tmp_path_factory.mktemp("run")

    async def steer(url: str) -> None:
        trainer = make_trainer(3000)
        session = ControllerSession(
            trainer.workload,
            sender=trainer,
            options=SteeringOptions(
                planner="llm",
                llm_url=url,
                llm_model="scripted",
                llm_roles=ROLES,
                objective="memory",
            ),
            folder=folder,
            socket=folder / "rank0.sock",
            process=ProcessShare(CpuBudget(fraction=1000, calm_fraction=1000)),
        )
        await session.begin()
        asker = session._steering.team.asker
        assert asker is not None
        for _ in range(24):
            await session.take(trainer.window())
            await asker.background.settled()
        await session.close()

    with ScriptedServer(at_random(1)) as server:
        asyncio.run(steer(server.url))
    return folder


def asked(run: Path) -> list[AuditRow]:
    with RunReader(run_file(run, rank=0)) as reader:
        return reader.audit(AuditFilter(tool="ask_model"))


def test_a_question_is_a_call_and_a_result_of_its_episode(run: Path) -> None:
    call, result = asked(run)[:2]
    assert (call.kind, result.kind, call.call_id) == ("call", "result", result.call_id)
    assert (call.agent, call.model, result.model) == ("observer", "scripted", "scripted")
    assert result.input_tokens
    assert result.output_tokens
    assert result.latency_ms
    assert attributes(result)["gen_ai.operation.name"] == "chat"
    with RunReader(run_file(run, rank=0)) as reader:
        ids = {each.episode_id for each in reader.episodes()}
        assert {row.episode_id for row in asked(run)} <= ids
        assert {each.episode_id for each in reader.model_calls()} <= ids


def test_what_a_model_looked_up_stands_in_the_log_under_the_decision_that_asked(run: Path) -> None:
    with RunReader(run_file(run, rank=0)) as reader:
        found = [row for name in LOOK_UPS for row in reader.audit(AuditFilter(tool=name))]
        rows = [row for row in found if row.call_id.startswith("look-up")]
        asking = {each.episode_id for each in reader.model_calls()}
    assert {row.kind for row in rows} == {"call", "result"}
    assert {row.agent for row in rows} == {"planner"}
    assert {row.episode_id for row in rows} <= asking


def test_explain_shows_what_a_model_was_asked_and_answered(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    episode_id = asked(run)[0].episode_id
    assert episode_id is not None
    explain(episode_id, run=run, memory=None)
    page = capsys.readouterr().out
    assert "asked      observer asked scripted at step " in page
    assert "question: GOAL: " in page
    assert "answer: describe(" in page
    assert "KNOBS (" not in page
    assert max(map(len, page.splitlines())) <= 100
    explain(episode_id, run=run, memory=None, whole=True)
    whole = capsys.readouterr().out
    assert "KNOBS (" in whole


def test_audit_model_shows_all_questions_and_answers(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model(run, rank=0)
    page = capsys.readouterr().out
    assert page.count(" asked scripted at step ") == len(asked(run)) // 2
    assert "KNOBS (" in page
    model(run, rank=0, last=1, short=True)
    assert capsys.readouterr().out.count(" asked scripted at step ") == 1


def test_a_decision_shows_the_earlier_question_that_its_plan_answers(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunReader(run_file(run, rank=0)) as reader:
        heard = next(
            (each, plan.asked_step)
            for each in reader.episodes()
            for plan in each.plans
            if plan.asked_step is not None
        )
    explain(heard[0].episode_id, run=run, memory=None)
    assert f"planner asked scripted at step {heard[1]}: " in capsys.readouterr().out


def test_an_answer_that_was_edited_is_found(run: Path, tmp_path: Path) -> None:
    edited = tmp_path / "rank0.db"
    edited.write_bytes(run_file(run, rank=0).read_bytes())
    with sqlite3.connect(edited) as db:
        db.execute("UPDATE model_calls SET answer = answer || ' '")
    db.close()
    with RunReader(edited) as reader:
        found = reader.verify()
    assert found.reason == "model_calls/1 is not as it was written"
