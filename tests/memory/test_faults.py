"""Short forms of benchmarks/memory_faults.py."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from rudder.memory.run.run_reader import RunReader, run_file
from rudder.memory.sample import write_sample_run
from rudder.training.errors import DataError
from tests.memory.damage import damage, open_damaged, write_open_run
from tests.memory.edits import edit_log, log_content
from tests.memory.kills import kill_one


def test_a_killed_writer_loses_no_acknowledged_row(tmp_path: Path) -> None:
    draw = random.Random(1)
    path = run_file(tmp_path, rank=0)
    survivals = [kill_one(path, draw=draw) for _ in range(12)]
    assert sum(each.acknowledged for each in survivals) >= 6
    found = {(each.lost, each.twice, each.holds, each.moved_away) for each in survivals}
    assert found == {(0, 0, True, 0)}


def test_a_damaged_file_opens_as_a_prefix_or_is_moved_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(2)
    original = write_open_run(tmp_path)
    with RunReader(original) as reader:
        hashes = [row.hash for row in reader.audit()]
    ways = set()
    for number in range(50):
        path = tmp_path / str(number) / original.name
        shutil.copytree(
            original.parent, path.parent, ignore=shutil.ignore_patterns("live", "[0-9]*")
        )
        what = damage(path, draw=draw)
        opening = open_damaged(path, hashes=hashes)
        assert (opening.is_writing, opening.holds) == (True, True), (number, what, opening)
        assert ("is damaged" in capsys.readouterr().err) == (opening.how == "moved away")
        ways.add(opening.how)
    assert ways == {"prefix", "moved away"}


def test_verify_finds_every_edit_of_the_log(tmp_path: Path) -> None:
    draw = random.Random(3)
    original = write_sample_run(tmp_path, num_episodes=6)[0]
    before, path = log_content(original), tmp_path / "edited.db"
    kinds = set()
    for number in range(300):
        shutil.copy(original, path)
        kind = edit_log(path, draw=draw)
        if log_content(path) != before:
            assert not _holds(path), (number, kind)
            kinds.add(kind)
    assert len(kinds) == 12


def _holds(path: Path) -> bool:
    try:
        with RunReader(path) as reader:
            return reader.verify().holds
    except DataError:
        return False
