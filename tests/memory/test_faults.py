"""Short forms of benchmarks/record_faults.py."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.memory.faults import damages, kills


def test_a_killed_writer_loses_no_acknowledged_row(tmp_path: Path) -> None:
    found = kills(12, folder=tmp_path, draw=random.Random(1))
    assert found.pop("acknowledged") >= 6
    assert found.pop("longest recovery s") > 0
    assert found == {"kills": 12, "lost": 0, "twice": 0, "broken chains": 0, "damaged files": 0}


def test_a_damaged_file_opens_as_a_prefix_or_is_moved_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = damages(50, folder=tmp_path, draw=random.Random(2))
    assert found["failed"] == 0
    assert found["prefix"] > 0
    assert capsys.readouterr().err.count("is damaged") == found["moved away"] > 0
