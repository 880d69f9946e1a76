"""The command line of the measurements of steering, where it needs no cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def steering(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.steering", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_a_rescue_needs_something_to_compare_with() -> None:
    done = steering("rescue")
    assert done.returncode != 0
    assert "give --best" in done.stderr


def test_a_study_of_what_cannot_change_is_an_error() -> None:
    done = steering("weather")
    assert done.returncode != 0
    assert "weather" in done.stderr
