from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rudder.training.checksums import stored_files
from rudder.training.config import run_config
from rudder.training.errors import ConfigError, DataError, MachineError
from rudder.training.hosts.host import Room
from rudder.training.hosts.local import LoopbackCluster
from rudder.training.launch.preflight import (
    buffer_bytes,
    check_import_pair,
    check_parts,
    has_library_for,
    require_disk,
    require_memory,
)
from rudder.training.manifest import CHECKSUMS_NAME, Contents
from tests.training.partitioned import partitioned_graph

NUM_PARTS = 2


def test_as_many_hosts_as_parts_pass() -> None:
    check_parts(run_config(hosts=NUM_PARTS), partitioned_graph())


def test_other_number_of_hosts_is_refused() -> None:
    with pytest.raises(ConfigError, match="holds 2 partitions, but the run has 3 hosts") as caught:
        check_parts(run_config(hosts=3), partitioned_graph())
    assert "--hosts 2" in caught.value.remedy


def test_more_trainers_than_training_nodes_are_refused() -> None:
    with pytest.raises(ConfigError, match="has 3 training nodes for 4 trainers"):
        check_parts(run_config(hosts=2, trainers_per_host=2), partitioned_graph())


def test_a_shared_file_that_has_changed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ring.json").write_text("{}")
    files = stored_files(tmp_path, [tmp_path / "ring.json"])
    (tmp_path / CHECKSUMS_NAME).write_text(Contents(files=files).model_dump_json())
    ring = partitioned_graph(part_config=tmp_path / "ring.json")
    check_parts(run_config(), ring)
    (tmp_path / "ring.json").write_text("[]")
    with pytest.raises(DataError, match=r"ring\.json has another content than was written"):
        check_parts(run_config(), ring)


@pytest.mark.parametrize(
    ("options", "num_bytes"),
    [
        ({"buffer": 10}, 2 * 10 * 32),
        ({"buffer": 0.5}, 2 * 20 * 32),
        ({"buffer": 10, "trainers_per_host": 3}, 6 * 10 * 32),
        ({"buffer": 10, "loader": "stock"}, 0),
        ({"buffer": 10, "policy": "none"}, 0),
    ],
)
def test_buffers_of_all_trainers_are_counted(options: dict[str, Any], num_bytes: int) -> None:
    assert buffer_bytes(run_config(**options), partitioned_graph(), range(2)) == num_bytes


def test_buffer_beyond_the_memory_is_refused() -> None:
    config = run_config(buffer=10**12)
    with pytest.raises(MachineError, match="buffers of all trainers") as caught:
        require_memory(config, partitioned_graph(), Room("this machine", range(2), 2**36, 2**36))
    assert "smaller --buffer" in caught.value.remedy


def test_buffers_and_partition_of_one_host_are_held_against_the_memory_of_that_host() -> None:
    config = run_config(buffer=2**24, trainers_per_host=3)
    graph, needed = partitioned_graph(part_bytes=2**30), 2**30 + 3 * 2**24 * 32
    require_memory(config, graph, Room("host b", range(1, 2), needed, 2**30))
    with pytest.raises(MachineError, match=r"host b has 2\.50G .* take 1\.00G and .* there 1\.50G"):
        require_memory(config, graph, Room("host b", range(1, 2), needed - 1, 2**30))


def test_partitions_beyond_the_shared_memory_are_refused() -> None:
    with LoopbackCluster(num_hosts=2) as cluster:
        (room,) = cluster.rooms()
    huge = partitioned_graph(part_bytes=room.shm_bytes)
    with pytest.raises(MachineError, match=r"/dev/shm of this machine has .* free, but the part"):
        require_memory(run_config(), huge, room)


def test_disk_with_room_passes_for_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    require_disk(tmp_path / "runs" / "one")


def test_full_disk_is_refused(tmp_path: Path) -> None:
    own_disk = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if os.geteuid() == 0:
        own_disk = ["unshare", "--mount", "sh", "-c"]
    script = 'mount -t tmpfs -o size=1m tmpfs "$1" && exec "$2" -c "$3" "$1"'
    python = (
        "import sys; from pathlib import Path\n"
        "from rudder.training.launch.preflight import require_disk\n"
        "require_disk(Path(sys.argv[1]) / 'run')"
    )
    done = subprocess.run(
        [*own_disk, script, "sh", str(tmp_path), sys.executable, python],
        capture_output=True,
        text=True,
        check=False,
    )
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip("no mounts here")
    assert f"the disk of {tmp_path} is full (1M free)" in done.stderr


def test_installed_dgl_and_torch_fit_together() -> None:
    check_import_pair()


def test_torch_that_dgl_has_no_library_for_does_not_fit(tmp_path: Path) -> None:
    (tmp_path / "libgraphbolt_pytorch_2.2.1.so").touch()
    assert has_library_for("2.2.1+cu121", tmp_path)
    assert not has_library_for("2.13.0", tmp_path)
    assert has_library_for("2.13.0", tmp_path / "a dgl without such libraries")
