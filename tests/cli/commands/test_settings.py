"""`rudder set`, at a real port."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from rudder.cli.main import make_app
from rudder.memory.run.run_reader import run_file
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.training.errors import ConfigError
from tests.training.control.steered import stepping, workload_of


def rudder(command: str, run: Path, *options: str) -> Result:
    return CliRunner().invoke(make_app(), [*command.split(), "--run", str(run), *options])


def write_record(run: Path) -> None:
    journal = SqliteJournal.open(run_file(run, rank=3), memory=None)
    journal.begin(workload_of(rank=3))
    journal.close()


def test_asking_says_what_is_in_force_and_a_change_that_it_was_applied(tmp_path: Path) -> None:
    with stepping(tmp_path):
        asked = rudder("set", tmp_path).stdout
        assert asked.startswith("rank 3 in force from step ")
        assert "applied" not in asked
        changed = rudder("set", tmp_path, "--capacity", "50").stdout
        assert changed.startswith("rank 3 applied from step ")
        assert "capacity 50 rows, lookahead" in changed


def test_capacities_have_bytes_where_a_record_says_how_large_a_row_is(tmp_path: Path) -> None:
    write_record(tmp_path)
    with stepping(tmp_path):
        assert "capacity 100 rows (39.1 KiB)" in rudder("set", tmp_path).stdout
        assert "(39.1 KiB)" in rudder("steer status", tmp_path).stdout


def test_more_rows_than_a_rank_has_remote_nodes_are_refused_with_the_range(tmp_path: Path) -> None:
    write_record(tmp_path)
    with stepping(tmp_path) as trainer:
        error = rudder("set", tmp_path, "--capacity", "10001").exception
        assert trainer.settings.capacity_rows == 100
    assert isinstance(error, ConfigError)
    assert error.message.startswith("capacity = 10001 is not allowed; allowed: 0 to 10000 rows")


def test_status_has_the_same_for_programs(tmp_path: Path) -> None:
    with stepping(tmp_path):
        found = json.loads(rudder("steer status", tmp_path, "--json").stdout)
    (trainer,) = found["trainers"]
    assert found["is_on"]
    assert (trainer["rank"], trainer["listens"], trainer["controller"]) == (3, True, None)
    assert trainer["settings"]["capacity_rows"] == 100
