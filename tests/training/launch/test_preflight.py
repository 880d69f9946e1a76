from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rudder.training.checksums import StoredFile
from rudder.training.config import RunConfig, run_config
from rudder.training.errors import ConfigError, DataError, MachineError
from rudder.training.launch.preflight import (
    buffer_bytes,
    check_disk,
    check_import_pair,
    check_memory,
    check_parts,
    has_library_for,
)
from rudder.training.manifest import Manifest, PartSizes

NUM_PARTS = 2
FILES = ("node_feats", "edge_feats", "part_graph")


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A folder that looks like two partitions; what is in the files plays no part here."""
    layout: dict[str, object] = {"graph_name": "ring", "num_parts": NUM_PARTS}
    files = []
    for part in range(NUM_PARTS):
        folder = tmp_path / f"part{part}"
        folder.mkdir()
        for name in FILES:
            (folder / name).write_bytes(bytes(100))
            files.append(StoredFile.of(tmp_path, folder / name))
        layout[f"part-{part}"] = {name: f"part{part}/{name}" for name in FILES}
    (tmp_path / "ring.json").write_text(json.dumps(layout))
    manifest(tuple(files)).write(tmp_path)
    return tmp_path


def manifest(files: tuple[StoredFile, ...]) -> Manifest:
    sizes = PartSizes(num_inner_nodes=50, num_halo_nodes=40, num_edges=200, num_train=10)
    return Manifest(
        dataset="npz:ring.npz",
        num_parts=NUM_PARTS,
        graph_name="ring",
        num_nodes=100,
        num_edges=400,
        feature_dim=8,
        num_classes=3,
        multilabel=False,
        has_seed_phase=False,
        num_train=20,
        num_val=20,
        num_test=20,
        num_cut_edges=30,
        parts=(sizes, sizes),
        files=files,
        source={},
        versions={},
    )


def check(folder: Path, config: RunConfig | None = None) -> None:
    check_parts(config or run_config(hosts=NUM_PARTS), Manifest.read(folder), folder)


def test_complete_partitions_pass(parts: Path) -> None:
    check(parts)


def test_other_number_of_hosts_is_refused(parts: Path) -> None:
    with pytest.raises(ConfigError, match="holds 2 partitions, but the run has 3 hosts") as caught:
        check(parts, run_config(hosts=3))
    assert "--hosts 2" in caught.value.remedy


def test_missing_file_names_its_host(parts: Path) -> None:
    (parts / "part1" / "node_feats").unlink()
    with pytest.raises(DataError, match=r"part1/node_feats \(partition of host1\)"):
        check(parts)


def test_half_written_file_is_named(parts: Path) -> None:
    (parts / "part0" / "part_graph").write_bytes(bytes(50))
    with pytest.raises(
        DataError, match=r"part0/part_graph \(partition of host0\) has 50 bytes, not 100"
    ):
        check(parts)


@pytest.mark.parametrize("text", ["", "[]", '{"graph_name": "ring"}'])
def test_broken_partition_file_is_named(parts: Path, text: str) -> None:
    (parts / "ring.json").write_text(text)
    with pytest.raises(DataError, match=r"ring\.json cannot be used"):
        check(parts)


def test_missing_partition_file_is_named(parts: Path) -> None:
    (parts / "ring.json").unlink()
    with pytest.raises(DataError, match=r"ring\.json cannot be used"):
        check(parts)


def test_partitions_of_another_graph_are_refused(parts: Path) -> None:
    layout = json.loads((parts / "ring.json").read_text())
    (parts / "ring.json").write_text(json.dumps(layout | {"graph_name": "star"}))
    with pytest.raises(DataError, match=r"belongs to another graph: .*'star'.*'ring'"):
        check(parts)


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
def test_buffers_of_all_trainers_are_counted(
    parts: Path, options: dict[str, Any], num_bytes: int
) -> None:
    assert buffer_bytes(run_config(**options), Manifest.read(parts)) == num_bytes


def test_buffer_beyond_the_memory_is_refused(parts: Path) -> None:
    config = run_config(buffer=10**12)
    with pytest.raises(MachineError, match="buffers of all trainers") as caught:
        check_memory(config, Manifest.read(parts), parts, network="namespace")
    assert "smaller --buffer" in caught.value.remedy


def test_partitions_beyond_the_shared_memory_are_refused(parts: Path) -> None:
    with (parts / "part0" / "node_feats").open("wb") as huge:
        huge.truncate(shutil.disk_usage("/dev/shm").free + 2**20)
    with pytest.raises(MachineError, match=r"/dev/shm has .* free, but the partitions take"):
        check_memory(run_config(), Manifest.read(parts), parts, network="loopback")


def test_disk_with_room_passes_for_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    check_disk(tmp_path / "runs" / "one")


def test_full_disk_is_refused(tmp_path: Path) -> None:
    own_disk = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if os.geteuid() == 0:
        own_disk = ["unshare", "--mount", "sh", "-c"]
    script = 'mount -t tmpfs -o size=1m tmpfs "$1" && exec "$2" -c "$3" "$1"'
    python = (
        "import sys; from pathlib import Path\n"
        "from rudder.training.launch.preflight import check_disk\n"
        "check_disk(Path(sys.argv[1]) / 'run')"
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
