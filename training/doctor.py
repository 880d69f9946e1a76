"""Checks whether this machine can train, and says what to do about what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rudder.training.errors import RudderError
from rudder.training.hosts.host import reserve_ports
from rudder.training.hosts.local import NamespaceCluster
from rudder.training.hosts.shared_memory import SHM_FOLDER, leftovers
from rudder.training.local_disk import file_system_of, is_network, local_base
from rudder.training.machine import available_memory_bytes
from rudder.training.partition.prepare import data_parent
from rudder.training.versions import DISTRIBUTION, fits, installed_version, required_versions

CheckState = Literal["ok", "warn", "fail"]
_GIB = 2**30
_IMPORT_TIMEOUT_SECONDS = 120
_SQLITE = (3, 38, 0)
_APT_LISTS = Path("/var/lib/apt/lists")


@dataclass(frozen=True)
class Check:
    """One finding. warn: training works with a limitation; fail: training does not work."""

    name: str
    state: CheckState
    found: str
    remedy: str = ""


def checks(*, data_dir: Path | None = None, run_dir: Path | None = None) -> list[Check]:
    """Look at everything that a run needs; takes a few seconds."""
    return list(_checks(data_dir or data_parent(), run_dir or Path("runs")))


def checks_of_machine() -> Iterator[Check]:
    """What matters on one of several machines, whose hosts are the machines themselves."""
    yield check_python(platform.python_version())
    yield check_import()
    yield check_kernel_cache()
    yield check_shared_memory(SHM_FOLDER)
    yield check_leftovers(SHM_FOLDER)
    yield check_port()
    yield check_memory(available_memory_bytes())
    yield check_disk("temporary folder", local_base())
    yield check_cores(len(os.sched_getaffinity(0)))


def _checks(data_dir: Path, run_dir: Path) -> Iterator[Check]:
    yield check_python(platform.python_version())
    for name, wanted in required_versions().items():
        yield check_version(name, wanted=wanted, installed=installed_version(name))
    yield check_import()
    yield check_gpu()
    yield check_sqlite(sqlite3.sqlite_version)
    yield check_kernel_cache()
    yield check_shared_memory(SHM_FOLDER)
    yield check_leftovers(SHM_FOLDER)
    yield check_namespaces()
    yield check_rate_limit()
    yield check_port()
    yield check_apt(_APT_LISTS)
    yield check_memory(available_memory_bytes())
    yield check_disk("data folder", data_dir)
    yield check_disk("run folder", run_dir)
    yield check_cores(len(os.sched_getaffinity(0)))


def check_python(version: str) -> Check:
    """Whether dgl has wheels for this Python."""
    wanted = importlib.metadata.metadata(DISTRIBUTION)["Requires-Python"]
    if fits(version, wanted):
        return Check("Python", "ok", version)
    return Check("Python", "fail", f"{version}, needs {wanted}", "use Python 3.11 or 3.12")


def check_version(name: str, *, wanted: str, installed: str | None) -> Check:
    """Whether a package is installed in a version that is known to work."""
    remedy = f"pip install '{name}{wanted}'"
    if installed is None:
        return Check(name, "fail", "not installed", remedy)
    if not fits(installed, wanted):
        return Check(name, "warn", f"{installed}, tested with {wanted}", remedy)
    return Check(name, "ok", installed)


def check_import() -> Check:
    """Whether dgl can be imported; in a process of its own, since a failure may end it."""
    command = [sys.executable, "-P", "-c", "import dgl.distributed"]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_IMPORT_TIMEOUT_SECONDS,
            env=os.environ | {"DGLBACKEND": "pytorch"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Check("import dgl", "fail", "takes too long", "is the disk of the environment slow?")
    if done.returncode == 0:
        return Check("import dgl", "ok", "works")
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    wanted = " ".join(f"'{name}{pin}'" for name, pin in required_versions().items())
    return Check("import dgl", "fail", last, f"pip install {wanted}")


def check_gpu() -> Check:
    """Whether --device cuda works; in a process of its own, as torch takes seconds to import."""
    code = "import torch; print(torch.version.cuda, torch.cuda.device_count())"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    cuda, _, count = done.stdout.strip().partition(" ")
    if not count.isdecimal() or cuda == "None":
        return Check("GPU", "ok", "none used: this torch is built without CUDA; --device cpu works")
    if int(count) == 0:
        return Check("GPU", "ok", f"none found (torch with CUDA {cuda}); --device cpu works")
    return Check("GPU", "ok", f"{count} found (torch with CUDA {cuda}); see --device")


def check_sqlite(version: str) -> Check:
    """Whether SQLite has what the record of a run needs: strict tables and JSON operators."""
    if tuple(map(int, version.split("."))) < _SQLITE:
        wanted = ".".join(map(str, _SQLITE))
        return Check(
            "SQLite", "fail", f"{version}, needs {wanted}", "use a Python with a newer SQLite"
        )
    return Check("SQLite", "ok", version)


def check_kernel_cache() -> Check:
    """Whether compiled loops are kept, and where."""
    from rudder.training.buffer.rows import copy_rows  # numba takes a second to import
    from rudder.training.compiled import TEMPORARY_PREFIX, cache_folder_of

    folder, wish = cache_folder_of(copy_rows), os.environ.get("NUMBA_CACHE_DIR")
    remedy = "set NUMBA_CACHE_DIR to a folder on a local disk that this user may write to"
    if folder is None:
        return Check("compiled loops", "warn", "not kept: each process compiles anew", remedy)
    found = f"kept in {folder}"
    if wish and not folder.is_relative_to(Path(wish).absolute()):
        return Check("compiled loops", "warn", f"{found}; {wish} cannot be written", remedy)
    if folder.parent.name.startswith(TEMPORARY_PREFIX):
        return Check("compiled loops", "warn", f"{found}, which may be emptied at boot", remedy)
    return Check("compiled loops", "ok", found)


def check_shared_memory(folder: Path) -> Check:
    """Whether /dev/shm can be written and has room for small graphs."""
    if not os.access(folder, os.W_OK):
        return Check(
            "shared memory",
            "fail",
            f"{folder} cannot be written",
            f"mount -t tmpfs -o mode=1777 tmpfs {folder}",
        )
    usage = shutil.disk_usage(folder)
    found = f"{_gib(usage.free)} free of {_gib(usage.total)} in {folder}"
    if usage.free < _GIB:
        remedy = f"mount -o remount,size=8G {folder}, or docker run --shm-size=8g"
        return Check("shared memory", "warn", f"{found}; hosts on loopback share it", remedy)
    return Check("shared memory", "ok", found)


def check_leftovers(folder: Path) -> Check:
    """Whether killed runs have left shared memory behind."""
    runs = leftovers(folder)
    left = [path for run in runs for path in run.segments]
    if not left:
        return Check("leftovers", "ok", "no shared memory of dead runs")
    num_bytes = sum(path.stat().st_size for path in left)
    return Check(
        "leftovers",
        "warn",
        f"{len(left)} segments of dead runs, {_gib(num_bytes)}",
        "the next run on this machine's own network removes them; or: rm "
        + " ".join(f"{run.pattern}*" for run in runs),
    )


def check_namespaces() -> Check:
    """Whether local hosts can be network namespaces."""
    try:
        with NamespaceCluster(num_hosts=2):
            return Check("namespaces", "ok", "hosts get a network and shared memory of their own")
    except RudderError as error:
        return Check("namespaces", "warn", f"{error.message}; hosts share loopback", error.remedy)


def check_rate_limit() -> Check:
    """Whether the link between hosts can be limited."""
    try:
        with NamespaceCluster(num_hosts=1, rate="1gbit"):
            return Check("rate limit", "ok", "--rate works (tbf)")
    except RudderError as error:
        return Check("rate limit", "warn", f"--rate will be refused: {error.message}", error.remedy)


def check_port() -> Check:
    """Whether two neighbouring ports are free."""
    try:
        port = reserve_ports(2, addresses=["127.0.0.1"], first=None)
    except RudderError as error:
        return Check("ports", "fail", error.message, error.remedy)
    return Check("ports", "ok", f"free ones found, as {port}")


def check_apt(lists: Path) -> Check:
    """Whether the dataset `debian` can be made here."""
    remedy = "`sudo apt-get update` on Debian or Ubuntu; other datasets do not need it"
    if shutil.which("apt-cache") is None:
        return Check("apt lists", "warn", "no apt here, so no dataset `debian`", remedy)
    count = len(list(lists.glob("*_Packages*")))
    if count == 0:
        return Check("apt lists", "warn", "empty, so no dataset `debian`", remedy)
    return Check("apt lists", "ok", f"{count} lists of packages")


def check_memory(available: int) -> Check:
    """Whether the default run fits."""
    found = f"{_gib(available)} available"
    if available < 4 * _GIB:
        remedy = "the default run takes about 4 GiB; use a smaller dataset (synthetic:tiny)"
        return Check("memory", "warn", found, remedy)
    return Check("memory", "ok", found)


def check_disk(name: str, folder: Path) -> Check:
    """Whether a folder, or the one in which it would be made, can be written and has room."""
    existing = next(path for path in [folder, *folder.absolute().parents] if path.exists())
    free = shutil.disk_usage(existing).free
    kind = file_system_of(existing)
    found = f"{_gib(free)} free in {existing} ({kind or 'unknown file system'})"
    if not os.access(existing, os.W_OK):
        remedy = "choose another folder, or give this user the right to write"
        return Check(name, "fail", f"{existing} cannot be written", remedy)
    if is_network(kind):
        remedy = "none needed: sockets and open records go to the local disk, and are copied here"
        return Check(name, "ok", f"{found}, a network file system", remedy)
    if free < 2 * _GIB:
        return Check(name, "warn", found, "free some space, or choose a folder on another disk")
    return Check(name, "ok", found)


def check_cores(count: int) -> Check:
    """Whether hosts can work at the same time."""
    if count < 2:
        return Check("cores", "warn", "1", "two hosts will take turns; times mean little")
    return Check("cores", "ok", str(count))


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / _GIB:.1f} GiB"
