"""From a memory to examples, and their split."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest

from rudder.agents.learned.examples import FEATURES, Examples, Label, read_examples, split
from rudder.memory.past.experience import Experience
from rudder.memory.past.transfer import export, fill, import_
from rudder.training.errors import DataError


def test_measured_changes_of_all_runs_are_examples(memory: Path) -> None:
    examples, counts = read_examples(memory)
    assert examples.x.shape == (len(examples), len(FEATURES))
    assert len(examples) == counts[Label.HELPED] + counts[Label.DID_NOT_HELP]
    assert counts[Label.HELPED] == examples.y.sum()
    assert counts[Label.NOT_MEASURED] > 0
    assert examples.num_runs == 12


@pytest.mark.parametrize("seed", range(10))
def test_no_run_is_on_both_sides_of_a_split(memory: Path, seed: int) -> None:
    examples, _ = read_examples(memory)
    train, test = split(examples, seed=seed)
    assert not set(train.run_keys) & set(test.run_keys)
    assert set(train.run_keys) | set(test.run_keys) == set(examples.run_keys)
    assert len(train) + len(test) == len(examples)
    assert train.has_both
    assert test.has_both


def test_the_same_seed_splits_the_same_way(memory: Path) -> None:
    examples, _ = read_examples(memory)
    assert split(examples, seed=3)[1].run_keys == split(examples, seed=3)[1].run_keys


def test_a_split_without_both_kinds_on_both_sides_is_refused() -> None:
    y = np.array([True] * 8 + [False] * 24)
    keys = tuple(f"{row // 8}" for row in range(32))
    examples = Examples(np.zeros((32, len(FEATURES)), dtype=np.float32), y, keys)
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
    with pytest.raises(DataError, match="there is no memory"):
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
    assert len(read_examples(other)[0]) == len(read_examples(memory)[0])


def test_a_run_that_is_filled_in_twice_counts_once(memory: Path, tmp_path: Path) -> None:
    again = Path(shutil.copy(memory, tmp_path / "again.db"))
    fill(again, memory.parent / "run0")
    assert len(read_examples(again)[0]) == len(read_examples(memory)[0])
