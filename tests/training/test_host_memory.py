"""What memory is left, as the kernel's files tell: whole files as they are on real hosts."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rudder.training.host_memory import HostMemory, left_in_group, stalled_share
from rudder.training.machine import available_memory_bytes

MIB = 2**20
MEMINFO = """\
MemTotal:        8388608 kB
MemFree:          204800 kB
MemAvailable:    4194304 kB
HugePages_Total:       0
Hugepagesize:       2048 kB
"""
PSI = """\
some avg10={avg10} avg60=3.10 avg300=0.80 total=5120431
full avg10=0.51 avg60=0.40 avg300=0.09 total=1043211
"""
STAT_V2 = "anon 524288000\nfile 104857600\nkernel 1048576\ninactive_file {cache}\nactive_file 0\n"
STAT_V1 = "cache 1000\nrss 2000\ninactive_file 5\ntotal_cache 9\ntotal_inactive_file {cache}\n"
_V1_MOUNT = Path("/sys/fs/cgroup/memory")


def write(folder: Path, **files: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")
    return folder


def group_v2(folder: Path, limit: object, *, used: int, cache: int = 0, **more: object) -> Path:
    stat = STAT_V2.format(cache=cache)
    files = {"memory__max": limit, "memory__current": used, "memory__stat": stat}
    return write(folder, **files, **more)


def host(root: Path, *, cgroup: str, avg10: float = 0.0) -> Path:
    write(root / "proc", meminfo=MEMINFO)
    write(root / "proc/self", cgroup=cgroup)
    write(root / "proc/pressure", memory=PSI.format(avg10=avg10))
    return root


def test_a_group_leaves_its_limit_less_what_is_used_and_not_cache(tmp_path: Path) -> None:
    assert left_in_group(group_v2(tmp_path, 1000, used=400, cache=100)) == (700, 1000)
    assert left_in_group(group_v2(tmp_path, 1000, used=1200)) == (0, 1000)


def test_a_group_that_is_slowed_down_beyond_a_bound_leaves_no_more_than_that(
    tmp_path: Path,
) -> None:
    assert left_in_group(group_v2(tmp_path, 1000, used=400, memory__high=600)) == (200, 600)
    assert left_in_group(group_v2(tmp_path, "max", used=400, memory__high="max")) is None


def test_a_group_of_version_1_is_read_with_all_its_descendants(tmp_path: Path) -> None:
    stat = STAT_V1.format(cache=100)
    files = {"memory__usage_in_bytes": 400, "memory__stat": stat}
    assert left_in_group(write(tmp_path, memory__limit_in_bytes=1000, **files)) == (700, 1000)
    no_limit = 9223372036854771712
    assert left_in_group(write(tmp_path, memory__limit_in_bytes=no_limit, **files)) is None


def test_a_group_without_a_limit_or_without_files_sets_none(tmp_path: Path) -> None:
    assert left_in_group(tmp_path) is None
    assert left_in_group(group_v2(tmp_path, "max", used=400)) is None


@pytest.mark.parametrize(
    ("text", "share"),
    [(PSI.format(avg10="12.50"), 0.125), ("", None), ("some total=3\n", None), ("full x\n", None)],
)
def test_the_stalled_share_is_that_of_the_last_ten_seconds(
    tmp_path: Path, text: str, share: float | None
) -> None:
    (tmp_path / "memory").write_text(text)
    assert stalled_share(tmp_path / "memory") == share
    assert stalled_share(tmp_path / "none") is None


def test_of_nested_groups_the_tightest_counts(tmp_path: Path) -> None:
    root = host(tmp_path, cgroup="0::/slurm/job_7/step_0")
    top = root / "sys/fs/cgroup"
    group_v2(top / "slurm/job_7", 1000 * MIB, used=900 * MIB)
    group_v2(top / "slurm/job_7/step_0", "max", used=800 * MIB)
    group_v2(top / "slurm", 9000 * MIB, used=100 * MIB)
    assert HostMemory.now(root) == HostMemory(100 * MIB, 1000 * MIB, 0.0)


def test_both_versions_are_found_where_they_are_mounted_side_by_side(tmp_path: Path) -> None:
    lines = "9:name=systemd:/a\n4:cpu,memory:/docker/3f\n0::/user.slice"
    root = host(tmp_path, cgroup=lines)
    files = {"memory__usage_in_bytes": 50 * MIB, "memory__stat": STAT_V1.format(cache=0)}
    write(root / "sys/fs/cgroup/memory/docker/3f", memory__limit_in_bytes=60 * MIB, **files)
    slice_ = write(root / "sys/fs/cgroup/unified/user.slice", memory__pressure=PSI.format(avg10=30))
    assert slice_.is_dir()
    assert HostMemory.now(root) == HostMemory(10 * MIB, 60 * MIB, 0.3)


def test_without_groups_and_pressure_files_the_machine_counts(tmp_path: Path) -> None:
    write(tmp_path / "proc", meminfo=MEMINFO)
    assert HostMemory.now(tmp_path) == HostMemory(4096 * MIB, 8192 * MIB, None)


@pytest.mark.parametrize(
    ("memory", "words"),
    [
        (HostMemory(50, 100, 0.0), None),
        (HostMemory(50, 100, None), None),
        (HostMemory(50, 100, 0.099), None),
        (HostMemory(50, 100, 0.23), "processes stood still for memory in 23% of the last 10 s"),
        (HostMemory(10 * MIB, 1000 * MIB, 0.0), "10 MiB of memory are left of 1,000 MiB"),
    ],
)
def test_a_shortage_is_told_in_words(memory: HostMemory, words: str | None) -> None:
    assert memory.shortage == words


def test_available_memory_is_at_most_the_machines() -> None:
    assert 0 < available_memory_bytes() <= psutil.virtual_memory().total


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A real cgroup of 256 MiB; skipped where none can be made."""
    group = _V1_MOUNT / f"rudder-test-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(f"{256 * MIB}")
    except OSError as error:
        pytest.skip(f"no memory cgroup of version 1 can be made: {error}")
    yield group
    group.rmdir()


def test_a_process_in_a_real_cgroup_sees_its_limit(small_group: Path) -> None:
    code = "from rudder.training.host_memory import HostMemory; print(HostMemory.now().limit_bytes)"
    enter = (small_group / "cgroup.procs").as_posix()
    command = f"echo $$ > {enter} && exec {sys.executable} -c '{code}'"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert int(done.stdout) == 256 * MIB
