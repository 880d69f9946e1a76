"""A script that ends without closing its loader leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from rudder.training.control import endpoint

SCRIPT = """
import sys, time
from pathlib import Path
from rudder.memory.sample import sample_workload
from rudder.training.control.endpoint import ControlEndpoint, ProcessGroup
from rudder.training.steering_options import SteeringOptions
from tests.training.buffer.player import buffer_of

folder = Path(sys.argv[1])
group = ProcessGroup(None, rank=0, world_size=1)
options = SteeringOptions(memory=None)
endpoint = ControlEndpoint(
    group, policy=buffer_of(100), loader_info_of=lambda key: sample_workload(),
    controller=options, folder=folder,
)
while not (folder / "steering" / "rank0.json").exists():
    time.sleep(0.05)
print(time.time(), flush=True)
if sys.argv[2] == "raises":
    raise SystemExit(3)
"""


def left_by(tmp_path: Path, how: str) -> tuple[int, float, set[str]]:
    """The exit code, how long the end took, and the files that are left."""
    root = Path(__file__).parents[3]
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), how],
        capture_output=True, text=True, cwd=root, check=False, timeout=60,
    )  # fmt: skip
    assert run.stderr == ""
    took_s = time.time() - float(run.stdout)
    return run.returncode, took_s, {path.name for path in tmp_path.rglob("*") if path.is_file()}


def test_a_script_without_close_leaves_no_socket_and_no_open_record(tmp_path: Path) -> None:
    exit_code, took_s, left = left_by(tmp_path, "ends")
    assert exit_code == 0
    assert took_s < 5  # the controller was not waited for in vain
    assert left == {"rank0.db", ".rank0.db.lock", "rank0.json", "controller0.log"}


def test_a_script_that_raises_leaves_none_either(tmp_path: Path) -> None:
    exit_code, _, left = left_by(tmp_path, "raises")
    assert exit_code == 3
    assert left == {"rank0.db", ".rank0.db.lock", "rank0.json", "controller0.log"}


def test_each_further_loader_of_a_process_has_a_folder_of_its_own(tmp_path: Path) -> None:
    folders = [endpoint._own_folder(tmp_path / name) for name in ("a", "a", "b", "a")]
    assert [str(folder.relative_to(tmp_path)) for folder in folders] == [
        "a", "a/loader2", "b", "a/loader3"
    ]  # fmt: skip
