"""The soak goes on deciding, however long it lasts."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from benchmarks.soak import measure


def test_each_tenth_of_a_soak_has_its_decisions_and_nothing_grows(tmp_path: Path) -> None:
    lines = list(measure(Namespace(decisions=100, hours=0.0, planner="embedded"), tmp_path))
    assert [line["decisions"] >= 10 * tenth for tenth, line in enumerate(lines, 1)] == [True] * 10
    assert {line["descriptors"] for line in lines[1:]} == {lines[1]["descriptors"]}
    assert {line["files"] for line in lines[1:]} == {lines[1]["files"]}
