"""The command line of the measurements of steering, where it needs no cluster."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "steering.py"


def steering(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_an_adversary_is_measured_seed_by_seed() -> None:
    done = steering("adversary", "--seeds", "1", "--windows", "8", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert row["seed"] == 0
    assert -0.2 < row["slowdown"] < 0.5


def test_honesty_of_folders_without_steering_is_an_error(tmp_path: Path) -> None:
    done = steering("honesty", str(tmp_path))
    assert done.returncode != 0
    assert "was steered" in done.stderr
