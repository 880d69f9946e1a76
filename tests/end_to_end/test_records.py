"""The check that every steered run of the tests passes through can fail."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from rudder.agents.controller.report import SteeringReport, write_report
from rudder.training.metrics import SteeringCounts
from tests.agents.replay.made import FOLDER
from tests.end_to_end.records import check_records


@pytest.fixture
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kept run; not below the folder that is checked after each test here."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "steering").mkdir()
    shutil.copy(FOLDER / "embedded.db", folder / "steering" / "rank0.db")
    return folder


def test_a_kept_run_passes(run_dir: Path) -> None:
    assert check_records(run_dir) == 1


def test_settings_that_no_row_tells_of_are_found(run_dir: Path) -> None:
    with closing(sqlite3.connect(run_dir / "steering" / "rank0.db")) as db:
        number, text = db.execute("SELECT max(number), content FROM windows").fetchone()
        window = json.loads(text)
        window["settings"]["capacity_rows"] += 1
        db.execute("UPDATE windows SET content = ? WHERE number = ?", (json.dumps(window), number))
        db.commit()
    with pytest.raises(AssertionError):
        check_records(run_dir)


def test_a_count_that_is_not_that_of_the_log_is_found(run_dir: Path) -> None:
    counts = SteeringCounts(rank=0, applied=1000)
    write_report(SteeringReport(rank=0, planner="embedded", counts=counts), run_dir)
    with pytest.raises(AssertionError):
        check_records(run_dir)
