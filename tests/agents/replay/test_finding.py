"""Where episodes are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from rudder.agents.replay.recorded_run import find
from rudder.memory.run.run_reader import run_files
from rudder.memory.sample import write_sample_run
from rudder.training.errors import ConfigError, DataError


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        write_sample_run(tmp_path / name, num_episodes=2)
    return tmp_path


def test_a_run_has_a_file_for_each_rank(runs: Path) -> None:
    found = find([], run=runs / "one")
    assert [each.path for each in found] == run_files(runs / "one")
    assert {each.names for each in found} == {None}


def test_all_runs_of_a_folder_are_found(runs: Path) -> None:
    assert len(find([], run=None, runs=runs)) == 4


def test_episodes_are_found_by_the_beginning_of_their_id_in_the_file_they_are_in(
    runs: Path,
) -> None:
    found = find(["5a4d91e0-1-1"], run=runs / "two")
    assert [(each.path.name, each.names) for each in found] == [
        ("rank1.db", frozenset({"5a4d91e0-1-1"}))
    ]


def test_an_episode_that_is_nowhere_is_an_error(runs: Path) -> None:
    with pytest.raises(ConfigError, match="no episode nosuch in"):
        find(["5a4d91e0-1-1", "nosuch"], run=None, runs=runs)


def test_a_folder_that_is_no_steered_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no steering/rankN"):
        find([], run=tmp_path)
