"""Every sad path with real processes: one clear error, soon, and nothing left behind."""

from __future__ import annotations

import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rudder.training.manifest import Manifest
from tests.end_to_end.runs import Run, segments
from tests.waiting import until

pytestmark = pytest.mark.distributed
LONG = {"epochs": 100_000}
Start = Callable[..., Run]


@pytest.fixture
def start(tiny_parts: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts a run of many epochs; afterwards no process, segment or socket may be left."""
    before = segments()
    run_dir = tmp_path / "run"
    runs: list[Run] = []

    def start(data: Path = tiny_parts, **options: Any) -> Run:
        runs.append(Run(data, run_dir, **(LONG | options)))
        return runs[-1]

    yield start
    for run in runs:
        run.close()
        assert run.processes() == []
    assert segments() <= before
    assert not list(run_dir.rglob("*.sock"))


@pytest.mark.parametrize(
    ("role", "phase", "said"),
    [
        ("server", "starting", "server 1 on host1 was killed by SIGKILL while it loaded"),
        ("trainer", "starting", "rank 1 on host1 was killed by SIGKILL before it was connected"),
        ("trainer", "evaluating", "rank 1 on host1 was killed by SIGKILL while it"),
    ],
)
def test_killed_process_is_named(start: Start, role: str, phase: str, said: str) -> None:
    run = start(eval_every=1)
    run.wait_for(role, 1, phase)
    run.kill(role, 1)
    outcome = run.outcome()
    assert outcome.exit_code == 5
    assert said in outcome.message
    name = "server1.log" if role == "server" else "rank1.log"
    assert (run.run_dir / "logs" / name).exists()
    assert str(run.run_dir / "logs" / name) in outcome.message
    assert "memory" in outcome.error["remedy"]


def test_killed_server_ends_the_run_though_trainers_would_wait_for_ever(start: Start) -> None:
    run = start(network="loopback")
    run.wait_for("trainer", 0, "training")
    run.kill("server", 1)
    outcome = run.outcome()
    assert outcome.exit_code == 5
    assert "server 1 on host1 was killed by SIGKILL while it served" in outcome.message


@pytest.mark.parametrize(
    ("number", "phase", "said"),
    [
        (signal.SIGINT, "training", "ended by Ctrl-C"),
        (signal.SIGHUP, "starting", "ended by SIGHUP"),
    ],
)
def test_signal_to_the_launcher_ends_the_run(
    start: Start, number: signal.Signals, phase: str, said: str
) -> None:
    run = start()
    run.wait_for("trainer", 0, phase)
    run.signal(number)
    outcome = run.outcome()
    assert outcome.exit_code == 5
    assert said in outcome.message


def test_killed_launcher_takes_all_with_it(start: Start) -> None:
    before = segments()
    run = start(network="loopback")
    run.wait_for("trainer", 0, "training")
    run.signal(signal.SIGKILL)
    until(lambda: run.processes() == [])
    until(lambda: segments() <= before)
    shutil.rmtree(run.run_dir / "control")  # nobody is left to do it


def test_port_in_use_is_named_before_anything_starts(start: Start) -> None:
    with socket.create_server(("", 0)) as listener:
        port = listener.getsockname()[1]
        outcome = start(network="loopback", port=port).outcome()
    assert outcome.exit_code == 4
    assert f"port {port} is in use" in outcome.message
    assert outcome.events == [outcome.error]


def test_missing_file_of_a_partition_names_the_host(
    start: Start, tiny_parts: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(tiny_parts, tmp_path / "data")
    (data / "part1" / "node_feat.dgl").unlink()
    outcome = start(data).outcome()
    assert outcome.exit_code == 3
    assert "host1" in outcome.message
    assert "rudder prepare" in outcome.error["remedy"]


def test_partition_that_dgl_cannot_load_names_the_host(
    start: Start, tiny_parts: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(tiny_parts, tmp_path / "data")
    manifest = Manifest.read(data)
    without = tuple(file.model_copy(update={"xxh3": ""}) for file in manifest.files)
    manifest.model_copy(update={"files": without}).write(data)  # as older versions wrote it
    file = data / "part1" / "graph.dgl"
    file.write_bytes(bytes(file.stat().st_size))
    outcome = start(data).outcome()
    assert outcome.exit_code in (3, 5)
    assert "server 1 on host1" in outcome.message
    assert "prepare the graph again" in outcome.error["remedy"]


def test_a_flipped_bit_in_a_partition_ends_the_run_before_it_trains(
    start: Start, tiny_parts: Path, tmp_path: Path
) -> None:
    name = "node_feat.dgl"
    data = shutil.copytree(tiny_parts, tmp_path / "data")
    content = bytearray((data / "part1" / name).read_bytes())
    content[len(content) // 2] ^= 16
    (data / "part1" / name).write_bytes(content)
    outcome = start(data).outcome()
    assert outcome.exit_code == 3
    assert f"part1/{name} (partition of host1) has another content" in outcome.message
    assert "rudder prepare" in outcome.error["remedy"]


def test_used_run_folder_is_not_overwritten(start: Start, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").touch()
    outcome = start().outcome()
    assert outcome.exit_code == 2
    assert "not an empty folder" in outcome.message


def test_package_that_breaks_dgl_is_told_with_the_versions_that_work(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "torchdata.py").write_text("raise ImportError('no datapipes')")
    run = start(variables={"PYTHONPATH": str(tmp_path)})
    outcome = run.outcome()
    assert outcome.exit_code == 4
    assert "dgl cannot be imported" in outcome.message
    assert "torchdata==0.7.1" in outcome.error["remedy"]
