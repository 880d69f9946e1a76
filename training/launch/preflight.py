"""Checks that need no running process: partitions, memory, disk and library versions."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from pydantic import BaseModel

from rudder.training.config import RunConfig
from rudder.training.errors import ConfigError, DataError, MachineError
from rudder.training.hosts.host import Network
from rudder.training.hosts.local import SHM_FOLDER
from rudder.training.machine import available_memory_bytes
from rudder.training.manifest import Manifest
from rudder.training.versions import installed_version, required_versions

_LEAST_DISK_BYTES = 16 << 20
_PREPARE = "run `rudder prepare` again into a new folder"


class _Parts(BaseModel):
    """What is read of DistDGL's JSON."""

    graph_name: str
    num_parts: int


def check_parts(config: RunConfig, manifest: Manifest, data_dir: Path) -> None:
    """Raise unless `data_dir` holds a complete partition of this graph for every host.

    ConfigError if the number of hosts is another, DataError for anything missing or foreign.
    """
    if manifest.num_parts != config.hosts:
        raise ConfigError(
            f"{data_dir} holds {manifest.num_parts} partitions, but the run has {config.hosts}"
            " hosts; each host has one partition",
            remedy=f"use --hosts {manifest.num_parts}, or prepare with --parts {config.hosts}",
        )
    path = manifest.part_config(data_dir)
    try:
        parts = _Parts.model_validate_json(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be used: {error!r}", remedy=_PREPARE) from None
    if (parts.graph_name, parts.num_parts) != (manifest.graph_name, manifest.num_parts):
        raise DataError(
            f"{path} belongs to another graph: it has {parts.num_parts} partitions of"
            f" {parts.graph_name!r}, its manifest {manifest.num_parts} of {manifest.graph_name!r}",
            remedy=_PREPARE,
        )
    manifest.verify(data_dir)
    manifest.verify_content(data_dir, part=None)


def check_memory(
    config: RunConfig, manifest: Manifest, data_dir: Path, *, network: Network
) -> None:
    """Raise MachineError if partitions or buffers cannot fit into memory.

    Partitions live in shared memory: of each host's own where hosts are namespaces, else of
    /dev/shm, which may be much smaller than the memory.
    """
    shared = sum(path.stat().st_size for path in data_dir.glob("part*/*") if path.is_file())
    available = available_memory_bytes()
    if network == "loopback":
        free = shutil.disk_usage(SHM_FOLDER).free
        if shared > free:
            raise MachineError(
                f"{SHM_FOLDER} has {_size(free)} free, but the partitions take {_size(shared)}",
                remedy=f"make it larger: `mount -o remount,size={_size(2 * shared)} {SHM_FOLDER}`,"
                " or `--shm-size` of the container; or use a smaller dataset",
            )
    buffers = buffer_bytes(config, manifest)
    if shared + buffers > available:
        raise MachineError(
            f"this machine has {_size(available)} of memory left, but the partitions take"
            f" {_size(shared)} and the buffers of all trainers {_size(buffers)}",
            remedy="use a smaller --buffer, a smaller dataset, or a machine with more memory",
        )


def buffer_bytes(config: RunConfig, manifest: Manifest) -> int:
    """Bytes of all buffers when they are full; `auto` takes no more than there is."""
    if config.loader == "stock" or config.policy == "none":
        return 0
    return sum(
        config.trainers_per_host
        * manifest.row_bytes
        * config.buffer.rows(num_halo=part.num_halo_nodes, row_bytes=manifest.row_bytes, auto=0)
        for part in manifest.parts
    )


def check_disk(folder: Path) -> None:
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


def has_library_for(torch: str, folder: Path) -> bool:
    """Whether dgl's folder of libraries has one for this torch.

    dgl brings one per torch release that it knows, and fails at import with any other.
    """
    release = torch.split("+")[0]
    return not folder.is_dir() or (folder / f"libgraphbolt_pytorch_{release}.so").exists()


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f}G" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.0f}M"
