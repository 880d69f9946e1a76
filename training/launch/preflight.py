"""Checks that need no running process: partitions, memory, disk and library versions."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterable
from pathlib import Path

from rudder.training.config import RunConfig
from rudder.training.errors import ConfigError, MachineError
from rudder.training.hosts.host import Room
from rudder.training.hosts.shared_memory import SHM_FOLDER
from rudder.training.manifest import read_contents
from rudder.training.partitioned_graph import PartitionedGraph
from rudder.training.versions import check_stack, installed_version, required_versions

_LEAST_DISK_BYTES = 16 << 20


def check_parts(config: RunConfig, graph: PartitionedGraph) -> None:
    """Raise unless every host has a partition, and every trainer has something to train on.

    ConfigError if the number of hosts is another; DataError if a file that all hosts read is not
    as it was written. Graph servers check the files of the parts as they load them.
    """
    if graph.num_parts != config.hosts:
        raise ConfigError(
            f"{graph.directory} holds {graph.num_parts} partitions, but the run has {config.hosts}"
            " hosts; each host has one partition",
            remedy=f"use --hosts {graph.num_parts}, or prepare with --parts {config.hosts}",
        )
    if graph.num_train < config.num_trainers:
        raise ConfigError(
            f"{graph.part_config} has {graph.num_train} training nodes for {config.num_trainers}"
            " trainers",
            remedy="use fewer --trainers-per-host, or another --train-mask",
        )
    if contents := read_contents(graph.directory):
        contents.verify_content(graph.directory, part=None)


def require_memory(config: RunConfig, graph: PartitionedGraph, room: Room) -> None:
    """Raise MachineError if a machine has no room for its partitions, which are in shared memory,
    or for them and the buffers of its trainers."""
    shared = sum(graph.parts[part].num_bytes for part in room.parts)
    if shared > room.shm_bytes:
        raise MachineError(
            f"{SHM_FOLDER} of {room.name} has {_size(room.shm_bytes)} free, but the partitions"
            f" there take {_size(shared)}",
            remedy=f"make it larger: `mount -o remount,size={_size(2 * shared)} {SHM_FOLDER}`,"
            " or `--shm-size` of the container; or use more hosts or a smaller dataset",
        )
    buffers = buffer_bytes(config, graph, room.parts)
    if shared + buffers > room.memory_bytes:
        raise MachineError(
            f"{room.name} has {_size(room.memory_bytes)} of memory left, but the partitions take"
            f" {_size(shared)} and the buffers of all trainers there {_size(buffers)}",
            remedy="use a smaller --buffer, more hosts, a smaller dataset, or a machine with more"
            " memory",
        )


def buffer_bytes(config: RunConfig, graph: PartitionedGraph, parts: Iterable[int]) -> int:
    """Bytes of all buffers of these parts' trainers when they are full; `auto` takes no more than
    there is.

    Where nobody has counted the halo, shares of it count as nothing; trainers check them again.
    """
    if config.loader == "stock" or config.policy == "none":
        return 0
    return sum(
        config.trainers_per_host
        * graph.row_bytes
        * config.buffer.rows(
            num_halo=graph.parts[part].num_halo or 0, row_bytes=graph.row_bytes, auto=0
        )
        for part in parts
    )


def require_disk(folder: Path) -> None:
    """Raise MachineError if the disk of `folder`, which may not exist yet, is full."""
    existing = next(path for path in [folder, *folder.parents] if path.exists())
    free = shutil.disk_usage(existing).free
    if free < _LEAST_DISK_BYTES:
        raise MachineError(
            f"the disk of {existing} is full ({_size(free)} free)",
            remedy="free some space, or choose another folder with --run-dir",
        )


def check_import_pair() -> None:
    """Raise MachineError if dgl cannot load with this torch, without importing either."""
    wanted = ", ".join(f"{name}{pin}" for name, pin in required_versions().items())
    remedy = f"install versions that work together: {wanted}"
    for name in ("dgl", "torch", "torchdata"):
        if installed_version(name) is None:
            raise MachineError(f"{name} is not installed", remedy=remedy)
    torch = installed_version("torch") or ""
    spec = importlib.util.find_spec("dgl")
    if spec is None or spec.origin is None:
        return
    if not has_library_for(torch, Path(spec.origin).parent / "graphbolt"):
        raise MachineError(
            f"dgl {installed_version('dgl')} has no library for torch {torch}", remedy=remedy
        )
    check_stack()


def has_library_for(torch: str, folder: Path) -> bool:
    """Whether dgl's folder of libraries has one for this torch.

    dgl brings one per torch release that it knows, and fails at import with any other.
    """
    release = torch.split("+")[0]
    return not folder.is_dir() or (folder / f"libgraphbolt_pytorch_{release}.so").exists()


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f}G" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.0f}M"
