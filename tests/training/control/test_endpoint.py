"""A script that ends without closing its loader leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rudder.training.control import endpoint
from rudder.training.local_disk import local_folder_of
from tests.training.mounts import ROOT, run_python
from tests.waiting import WAIT_SECONDS

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
if sys.argv[2] == "raises":
    raise SystemExit(3)
"""


def left_by(tmp_path: Path, how: str) -> tuple[int, set[str]]:
    """The exit code, and the files that are left."""
    root = Path(__file__).parents[3]
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), how],
        capture_output=True, text=True, cwd=root, check=False, timeout=2 * WAIT_SECONDS,
    )  # fmt: skip
    assert run.stderr == ""
    return run.returncode, {path.name for path in tmp_path.rglob("*") if path.is_file()}


def test_a_script_without_close_leaves_no_socket_and_no_open_record(tmp_path: Path) -> None:
    exit_code, left = left_by(tmp_path, "ends")
    assert exit_code == 0
    assert left == {"rank0.db", ".rank0.db.lock", "rank0.json", "controller0.log"}


def test_a_script_that_raises_leaves_none_either(tmp_path: Path) -> None:
    exit_code, left = left_by(tmp_path, "raises")
    assert exit_code == 3
    assert left == {"rank0.db", ".rank0.db.lock", "rank0.json", "controller0.log"}


def test_each_further_loader_of_a_process_has_a_folder_of_its_own(tmp_path: Path) -> None:
    folders = [endpoint._own_folder(tmp_path / name) for name in ("a", "a", "b", "a")]
    assert [str(folder.relative_to(tmp_path)) for folder in folders] == [
        "a", "a/loader2", "b", "a/loader3"
    ]  # fmt: skip


_OPEN = """
from pathlib import Path
from rudder.memory.sample import sample_workload
from rudder.training.control.endpoint import ControlEndpoint, ProcessGroup
from rudder.training.steering_options import SteeringOptions
from tests.training.buffer.player import buffer_of

endpoint = ControlEndpoint(
    ProcessGroup(None, rank=0, world_size=1), policy=buffer_of(100),
    loader_info_of=lambda key: sample_workload(),
    controller=SteeringOptions(memory=None), folder=Path({run!r}),
)
print(endpoint.controller is not None)
endpoint.close()
"""


@pytest.mark.parametrize("has_local", [True, False])
def test_a_folder_that_cannot_be_written_costs_agents_at_most(
    tmp_path: Path, has_local: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    monkeypatch.setenv("SLURM_TMPDIR", str(tmp_path))
    local = local_folder_of(run)
    if not has_local:
        local.chmod(0o777)
    steers, *said = run_python(
        _OPEN.format(run=str(run)),
        mounts=f"mount --bind -o ro {run} {run}", SLURM_TMPDIR=tmp_path, PYTHONPATH=ROOT,
    )  # fmt: skip
    assert steers == str(has_local)
    assert any((f"the record is in {local}" if has_local else "no agents") in line for line in said)
