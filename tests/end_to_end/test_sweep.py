"""The example of a sweep runs as it is, where Optuna is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.distributed
EXAMPLE = Path(__file__).parents[2] / "examples" / "sweep.py"


def test_a_sweep_finds_the_best_of_its_trials(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(EXAMPLE), "2"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "hidden" in done.stdout
    assert len(list((tmp_path / "runs").iterdir())) == 2
