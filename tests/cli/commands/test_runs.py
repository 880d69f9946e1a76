"""`rudder runs`, `top`, `diagnose` and `report`, called as a user does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rudder.agents.controller.report import SteeringReport, write_report
from rudder.cli.main import make_app
from rudder.memory.run.run_folder import StoredRun
from rudder.training.errors import ConfigError, DataError
from tests.cli.show.test_report import write_run
from tests.training.control.steered import stepping


def rudder(*arguments: object) -> Result:
    return CliRunner().invoke(make_app(), [str(each) for each in arguments], env={"COLUMNS": "80"})


def said(*arguments: object) -> str:
    result = rudder(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    for name in ("one", "other"):
        write_run(tmp_path / "runs" / name)
    return tmp_path / "runs"


def test_runs_are_listed_for_people_and_programs(runs: Path) -> None:
    text = said("runs", "list")
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert [line.split()[:2] for line in text.splitlines()[-2:]] == [
        ["other", "finished"], ["one", "finished"],
    ]  # fmt: skip
    listed = json.loads(said("runs", "list", "--json"))
    assert [(each["name"], each["epochs"], each["score"]) for each in listed] == [
        ("other", 3, 0.75), ("one", 3, 0.75),
    ]  # fmt: skip
    assert "no run trains now" in said("runs", "list", "--live")


@pytest.mark.parametrize("name", ["summary.json", "config.toml", "error.txt", "detached.json"])
def test_a_run_with_a_damaged_file_is_shown_without_it(name: str, runs: Path) -> None:
    (runs / "one" / name).write_bytes(b'{"a": "\xff"}')
    assert "other" in said("runs", "list")
    for command in (("runs", "show"), ("diagnose",), ("report",)):
        said(*command, runs / "one")


def test_a_script_of_ones_own_is_steered_by_the_planner_of_its_record(runs: Path) -> None:
    for file in ("config.toml", "summary.json"):
        (runs / "one" / file).unlink()
    (facts,) = [
        each for each in json.loads(said("runs", "list", "--json")) if each["name"] == "one"
    ]
    assert (facts["loader"], facts["planner"], facts["state"]) == ("rudder", "agents", "over")
    assert rudder("runs", "wait", runs / "one").exit_code == 0
    write_report(SteeringReport(rank=0, planner="heuristic"), runs / "one")
    (line,) = [each for each in said("runs", "list").splitlines() if each.startswith("one ")]
    assert "rudder, heuristic" in line


def test_a_run_that_is_not_finished_was_trained_on_the_graph_that_it_was_given(runs: Path) -> None:
    (runs / "one" / "summary.json").unlink()
    (runs / "one" / "config.toml").write_text('dataset = "synthetic:default"\ndata = "parts"\n')
    assert StoredRun(runs / "one").trained_on == "parts"
    (runs / "one" / "job.json").write_text('{"graph": {"dataset": "npz:mine"}}')
    assert StoredRun(runs / "one").trained_on == "npz:mine"


def test_runs_are_compared_in_columns(runs: Path) -> None:
    text = said("runs", "compare", runs / "one", runs / "other")
    lines = {line[:22].strip(): line[22:].split() for line in text.splitlines()}
    assert lines["faster than the first"] == ["1.00x", "1.00x"]
    assert lines["state"] == ["finished", "finished"]
    assert "accuracy 75.0 %" in said("runs", "show", runs / "one")


def test_waiting_for_a_run_ends_as_the_run_did(runs: Path) -> None:
    ended = rudder("runs", "wait", runs / "one")
    assert ended.exit_code == 0
    assert json.loads(ended.stdout)["state"] == "finished"
    (runs / "one" / "error.txt").write_text("a trainer was killed\n")
    assert rudder("runs", "wait", runs / "one").exit_code == 5


def test_a_run_that_trains_is_waited_for_no_longer_than_asked(tmp_path: Path) -> None:
    write_run(tmp_path)
    with stepping(tmp_path):
        assert rudder("runs", "wait", tmp_path, "--timeout", "0.1").exit_code == 124


def test_records_of_all_ranks_are_copied_into_one_new_file(runs: Path) -> None:
    text = said("runs", "export", runs / "one", "run.db")
    assert re.fullmatch(r"run\.db: \d sessions, \d+ episodes, .*model calls\n", text)
    again = rudder("runs", "export", runs / "one", "run.db").exception
    assert isinstance(again, ConfigError)
    nowhere = rudder("runs", "export", runs / "one", "no/run.db").exception
    assert isinstance(nowhere, ConfigError)
    assert "no/run.db" in str(nowhere)


def test_a_run_is_removed_unless_it_trains(runs: Path) -> None:
    said("runs", "rm", runs / "one", "--yes")
    assert [path.name for path in runs.iterdir()] == ["other"]
    result = CliRunner().invoke(make_app(), ["runs", "rm", str(runs / "other")], input="n\n")
    assert (runs / "other").exists()
    assert "remove" in result.output
    with stepping(runs / "other"):
        assert StoredRun(runs / "other").state == "live"
        assert "live" in said("runs", "list", "--live")
        error = rudder("runs", "rm", runs / "other", "--yes").exception
    assert isinstance(error, ConfigError)
    assert "trains now" in error.message
    assert isinstance(rudder("runs", "rm", runs, "--yes").exception, DataError)
    assert StoredRun(runs / "other").state == "finished"


def test_top_shows_each_rank_as_the_live_table_does(runs: Path) -> None:
    text = said("top", runs / "one", "--once")
    rows = [line.split() for line in text.splitlines() if line.lstrip()[:1].isdecimal()]
    assert [row[0] for row in rows] == ["0", "1"]
    assert all(row[3] == "96/100" for row in rows)
    error = rudder("top").exception
    assert isinstance(error, ConfigError)
    assert "rudder runs list" in error.remedy


def test_top_ends_with_its_run(runs: Path) -> None:
    with stepping(runs / "one"):
        assert "96/100" in said("top", "--once")
    assert rudder("top", runs / "one").exit_code == 0


def test_diagnose_names_what_binds_each_rank_with_figures(runs: Path) -> None:
    text = said("diagnose", runs / "one")
    assert "what helps" in text
    found = json.loads(said("diagnose", runs / "one", "--json"))
    assert [each["rank"] for each in found] == [0, 1]
    assert all("ms compute" in each["evidence"][0] and each["remedy"] for each in found)


def test_report_writes_one_page_for_one_run_or_several(runs: Path, tmp_path: Path) -> None:
    assert said("report", runs / "one").split() == [str(runs / "one" / "report.html")]
    assert (runs / "one" / "report.html").stat().st_size > 10_000
    both = said("report", runs / "one", runs / "other", "-o", tmp_path / "both.html")
    assert both.split() == [str(tmp_path / "both.html")]
    assert isinstance(rudder("report", tmp_path / "nothing").exception, DataError)
    error = rudder("report", runs / "one", "-o", tmp_path / "no" / "page.html").exception
    assert isinstance(error, ConfigError)
