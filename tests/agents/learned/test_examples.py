"""From a memory to examples, and their split."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest

from rudder.agents.learned.planner import FEATURES, Examples, read_examples, split
from rudder.memory.past.experience import Experience
from rudder.memory.past.transfer import export, fill, import_
from rudder.training.errors import DataError


def test_measured_changes_of_all_runs_are_examples(memory: Path) -> None:
    examples = read_examples(memory)
    counts = examples.counts
    assert examples.x.shape == (len(examples), len(FEATURES))
    assert len(examples) == counts["helped"] + counts["did not help"]
    assert counts["helped"] == examples.y.sum()
    assert counts["not measured"] > 0
    assert len(set(examples.run_keys)) == 12


@pytest.mark.parametrize("seed", range(10))
def test_no_run_is_on_both_sides_of_a_split(memory: Path, seed: int) -> None:
    examples = read_examples(memory)
    train, test = split(examples, seed=seed)
    assert not set(train.run_keys) & set(test.run_keys)
    assert set(train.run_keys) | set(test.run_keys) == set(examples.run_keys)
    assert len(train) + len(test) == len(examples)
    assert 0 < train.counts["helped"] < len(train)
    assert 0 < test.counts["helped"] < len(test)


def test_the_same_seed_splits_the_same_way(memory: Path) -> None:
    examples = read_examples(memory)
    first, again = (split(examples, seed=3)[1].run_keys for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_a_split_without_both_kinds_on_both_sides_is_refused() -> None:
    y = np.array([True] * 8 + [False] * 24)
    keys = np.arange(32) // 8
    examples = Examples(np.zeros((32, len(FEATURES)), dtype=np.float32), y, keys.astype(str))
    with pytest.raises(DataError, match="split") as error:
        split(examples, seed=0)
    assert "--collect" in error.value.remedy


def test_too_few_runs_are_refused_with_what_is_missing(memory: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.db"
    for number in range(2):
        fill(few, memory.parent / f"run{number}")
    with pytest.raises(DataError, match=r"of 2 runs.*needed: 4 runs") as error:
        read_examples(few)
    assert "--collect" in error.value.remedy


def test_a_memory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_examples(tmp_path / "memory.db")


def test_imported_episodes_teach_nothing_until_they_are_trusted(
    memory: Path, tmp_path: Path
) -> None:
    lines = io.StringIO()
    export(memory, lines)
    lines.seek(0)
    other = tmp_path / "other.db"
    import_(other, lines, name="lines")
    with pytest.raises(DataError, match="of 0 runs"):
        read_examples(other)
    with Experience(memory) as experience:
        origin = experience.origin
    with Experience(other) as experience:
        experience.trust(origin)
    assert len(read_examples(other)) == len(read_examples(memory))


def test_a_run_that_is_filled_in_twice_counts_once(memory: Path, tmp_path: Path) -> None:
    again = Path(shutil.copy(memory, tmp_path / "again.db"))
    fill(again, memory.parent / "run0")
    assert len(read_examples(again)) == len(read_examples(memory))
