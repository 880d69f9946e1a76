"""A real run ends well whoever reads its output; what it keeps is complete."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.test_train import RUDDER, wait_for
from tests.waiting import RUN_SECONDS, WAIT_SECONDS

pytestmark = pytest.mark.distributed


def train(data: Path, folder: Path, where: str) -> subprocess.CompletedProcess[str]:
    command = f"{RUDDER} train --data {data} --run-dir run --epochs 1 --controller none"
    bash = ["bash", "-o", "pipefail", "-c", f"{command} {where}"]
    return subprocess.run(bash, cwd=folder, capture_output=True, text=True, timeout=RUN_SECONDS)


@pytest.mark.parametrize(
    ("where", "exit_code"),
    [("| head -1", 0), ("> /dev/full", 4), ("2> /dev/full", 0), (">&- 2>&-", 0)],
)
def test_a_run_is_kept_whoever_reads_it(
    where: str, exit_code: int, tiny_parts: Path, tmp_path: Path
) -> None:
    done = train(tiny_parts, tmp_path, where)
    assert done.returncode == exit_code, done.stderr
    assert "Traceback" not in done.stderr
    assert len(json.loads((tmp_path / "run" / "summary.json").read_text())["ranks"]) == 2


def test_why_a_run_failed_is_kept_where_standard_error_is_full(
    tiny_parts: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    arguments = ["train", "--data", str(tiny_parts), "--run-dir", str(run_dir), "--epochs", "999",
                 "--controller", "none"]  # fmt: skip
    with Path("/dev/full").open("w") as full:
        run = subprocess.Popen([str(RUDDER), *arguments], cwd=tmp_path, stderr=full, text=True)
    wait_for(run_dir / "control" / "rank1.sock", run)
    job = str(run_dir / "job.json")
    trainer = next(
        process
        for process in psutil.Process(run.pid).children(recursive=True)
        if process.environ().get("RUDDER_JOB") == job and process.environ().get("RANK") == "1"
    )
    os.kill(trainer.pid, signal.SIGKILL)
    assert run.wait(WAIT_SECONDS) == 5
    assert "rank 1" in (run_dir / "error.txt").read_text()
