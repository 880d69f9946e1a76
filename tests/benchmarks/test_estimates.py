"""Changes of a recorded run are estimated again, and come out as its controller had them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "tests" / "agents" / "replay" / "data" / "embedded.db"


def estimates(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.estimates", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_a_change_is_estimated_as_it_was_when_it_was_decided(tmp_path: Path) -> None:
    (tmp_path / "steering").mkdir()
    shutil.copy(RECORD, tmp_path / "steering" / "rank0.db")
    done = estimates(tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    measured = [each for each in found["changes"] if each["recorded"] is not None]
    assert any(each["grew"] for each in measured)
    for each in measured:
        assert each["now"] == pytest.approx(each["recorded"], abs=1e-9)
    assert found["all"]["now"] == pytest.approx(found["all"]["recorded"])
    assert found["all"]["now"]["changes"] == len(measured)


def test_a_folder_without_records_is_a_clear_error(tmp_path: Path) -> None:
    done = estimates(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing below" in done.stderr
    assert "Traceback" not in done.stderr
