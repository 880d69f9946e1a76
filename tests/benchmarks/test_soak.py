"""The soak goes on deciding, however long it lasts."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from benchmarks.soak import measure


def test_each_line_of_a_soak_has_its_decisions_and_nothing_grows(tmp_path: Path) -> None:
    options = Namespace(decisions=100, hours=0.2, lines=5, planner="embedded")
    *lines, last = measure(options, tmp_path)
    assert [line["decisions"] >= 20 * number for number, line in enumerate(lines, 1)] == [True] * 5
    assert [line["hours"] >= 0.04 * number for number, line in enumerate(lines, 1)] == [True] * 5
    for name in ("descriptors", "threads", "files"):
        assert {line[name] for line in lines[1:]} == {lines[1][name]}, name
    assert last["verified_rows"] > 1000
    assert last["grown"] == []
