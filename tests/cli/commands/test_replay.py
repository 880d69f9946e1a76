"""`rudder replay`, called as a user does."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from rudder.cli.commands.replay import replay
from rudder.memory.run.tables import crc32_of
from rudder.training.errors import ConfigError
from rudder.training.versions import own_version
from tests.agents.replay.made import FOLDER

app = typer.Typer()
app.command()(replay)


def rudder(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(each) for each in arguments])


def told(*arguments: object, code: int = 0) -> Any:
    result = rudder(*arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two ranks."""
    folder = tmp_path / "runs" / "demo" / "steering"
    folder.mkdir(parents=True)
    for rank, name in enumerate(("embedded", "llm")):
        path = folder / f"rank{rank}.db"
        shutil.copy(FOLDER / f"{name}.db", path)
        set_version(path, own_version())
    return folder.parent


def set_version(path: Path, version: str) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE sessions SET version = ?", [version])
    db.close()


def tamper(run: Path) -> str:
    """Change one stored decision; returns its id."""
    path = run / "steering" / "rank0.db"
    with sqlite3.connect(path) as db:
        name, content = db.execute("SELECT episode_id, content FROM episodes").fetchone()
        episode = json.loads(content)
        episode["plan"]["planner"] = "heuristic"
        text = json.dumps(episode)
        db.execute(
            "UPDATE episodes SET content = ?, checksum = ? WHERE episode_id = ?",
            (text, crc32_of(text), name),
        )
    db.close()
    return str(name)


def test_all_decisions_of_a_run_are_equal(run: Path) -> None:
    result = rudder("--run", run)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1].endswith("decisions equal, no socket opened")
    counts = told("--run", run)
    assert counts["equal"] == counts["decisions"] > 10


def test_a_difference_is_shown_and_ends_with_1(run: Path) -> None:
    name = tamper(run)
    result = rudder("--run", run)
    assert result.exit_code == 1
    assert "plan." in result.stdout
    assert name[:12] in result.stdout
    assert rudder(name, "--run", run).exit_code == 1
    assert told("--run", run, code=1)["different"][0]["made_by"] == own_version()


def test_differences_of_decisions_that_another_version_made_are_expected(run: Path) -> None:
    name = tamper(run)
    set_version(run / "steering" / "rank0.db", "0.0.1")
    result = rudder("--run", run)
    assert result.exit_code == 0, result.output
    assert "plan." in result.stdout
    older, present = result.stdout.splitlines()[-2:]
    assert older.startswith(f"made by 0.0.1, replayed by {own_version()}: ")
    assert "differences are expected" in older
    assert present.startswith(f"made by {own_version()}, replayed by {own_version()}: ")
    assert "expected" not in present
    counts = told("--run", run)
    assert [each["episode_id"] for each in counts["different"]] == [name]
    made = counts["made_by"]
    assert made["0.0.1"]["equal"] == made["0.0.1"]["decisions"] - 1
    assert made[own_version()]["equal"] == made[own_version()]["decisions"]


def test_the_record_of_an_earlier_version_is_told_from_one_of_this(tmp_path: Path) -> None:
    path = tmp_path / "steering" / "rank0.db"
    path.parent.mkdir()
    shutil.copy(FOLDER.parent / "released" / "embedded-0001.db", path)
    result = rudder("--run", path)
    assert result.exit_code == 0, result.output
    assert f"made by 0.1.0, replayed by {own_version()}: " in result.stdout


def test_one_episode_is_replayed_by_the_beginning_of_its_id(run: Path) -> None:
    with sqlite3.connect(run / "steering" / "rank1.db") as db:
        name = db.execute("SELECT episode_id FROM episodes ORDER BY number DESC").fetchone()[0]
    db.close()
    assert told(name[:10], "--run", run)["equal"] == 1


def test_all_runs_of_the_working_folder(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parents[1])
    assert told("--all")["equal"] > 10


def test_what_cannot_be_replayed_is_said_and_alone_is_a_failure(run: Path) -> None:
    for path in (run / "steering").iterdir():
        with sqlite3.connect(path) as db:
            db.execute("DELETE FROM decision_inputs")
        db.close()
    result = rudder("--run", run)
    assert result.exit_code == 1
    assert "what it rested on was not kept" in result.stdout
    assert "0 of 0 decisions equal" in result.stdout


def test_another_planner_gets_a_table_of_differences(run: Path) -> None:
    result = rudder("--run", run, "--planner", "fixed")
    assert result.exit_code == 0, result.output
    assert "the same is proposed in" in result.stdout
    found = told("--run", run, "--planner", "fixed")
    assert {each["same"] for each in found} == {True, False}
    assert all(each["other"]["plan"] == {} for each in found)


def test_what_if_shows_rows_of_every_choice(run: Path) -> None:
    result = rudder("--run", run, "--what-if")
    assert result.exit_code == 0, result.output
    assert "OPT" in result.stdout
    found = [each for each in told("--run", run, "--what-if") if each["reason"] is None]
    assert found
    for each in found:
        assert sum(outlook["best"] for outlook in each["outlooks"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to replay"),
        (["--all", "--run", "."], "--all cannot"),
        (["--planner", "llm"], "does not go with"),
        (["--llm", "http://localhost:1/v1"], "does not go with"),
        (["--planner", "fixed", "--model", "m"], "does not go with"),
        (["--planner", "fixed", "--what-if"], "cannot be given with a planner"),
    ],
)
def test_what_does_not_go_together_is_refused(
    run: Path, arguments: list[str], message: str
) -> None:
    where = ["--run", run] if "planner" in message or "does" in message else []
    result = rudder(*arguments, *where)
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)
