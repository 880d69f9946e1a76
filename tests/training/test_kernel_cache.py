"""Compiled loops where neither the package folder nor the home folder can be written."""

from __future__ import annotations

from pathlib import Path

from rudder.training.compiled import TEMPORARY_PREFIX
from tests.training.mounts import ROOT, run_python

SAMPLING = ROOT / "training" / "sampling"
_USE = """
from rudder.training.compiled import cache_folder_of
from rudder.training.sampling import kernels
import numpy as np
kernels.count_runs(np.array([2, 3]), np.array([2, 2]), np.empty(2, dtype=np.int64))
print(cache_folder_of(kernels.count_runs), sum(kernels.count_runs.stats.cache_misses.values()))
"""
_DOCTOR = "from rudder.training.doctor import check_kernel_cache as c; print(c().state, c().found)"


def in_container(code: str, *, scratch: Path, mounts: str = "", **variables: str) -> list[str]:
    """Lines that Python prints with a read-only package folder and home, then what it complains of.

    mounts: further shell commands that mount things first.
    """
    home = scratch / "home"
    home.mkdir(exist_ok=True)
    read_only = "".join(f"mount --bind -o ro {path} {path}\n" for path in (ROOT, home))
    return run_python(code, mounts=read_only + mounts, HOME=home, TMPDIR=scratch, **variables)


def test_a_container_keeps_compiled_loops_in_a_folder_of_this_user_and_says_so_once(
    tmp_path: Path,
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    nothing_shipped = f"mount --bind {empty} {SAMPLING}/__pycache__"
    first, said = in_container(_USE, scratch=tmp_path, mounts=nothing_shipped + " -o ro")
    (again,) = in_container(_USE, scratch=tmp_path, mounts=nothing_shipped + " -o ro")
    (kept,) = tmp_path.glob(f"{TEMPORARY_PREFIX}*")
    assert str(kept) in said
    assert "NUMBA_CACHE_DIR" in said
    assert kept.stat().st_mode & 0o777 == 0o700
    assert (first.split()[1], again.split()[1]) == ("1", "0")
    assert Path(again.split()[0]).parent == kept
    (found,) = in_container(_DOCTOR, scratch=tmp_path)
    assert found.startswith(f"warn kept in {kept}")


def test_loops_that_an_image_brings_are_not_compiled_again(tmp_path: Path) -> None:
    run_python(_USE, mounts="true")
    used, _ = in_container(_USE, scratch=tmp_path)
    folder, compiled_anew = used.split()
    assert Path(folder).is_relative_to(tmp_path)
    assert compiled_anew == "0"


def test_a_folder_that_others_may_write_is_not_used(tmp_path: Path) -> None:
    in_container(_USE, scratch=tmp_path)
    (kept,) = tmp_path.glob(f"{TEMPORARY_PREFIX}*")
    kept.chmod(0o777)
    used, said = in_container(_USE, scratch=tmp_path)
    assert used == "None 1"
    assert "is open to other users" in said
    found, _ = in_container(_DOCTOR, scratch=tmp_path)
    assert found.startswith("warn not kept")


def test_a_folder_that_cannot_be_made_is_passed_over(tmp_path: Path) -> None:
    used, _ = in_container(_USE, scratch=tmp_path, NUMBA_CACHE_DIR="/proc/none")
    assert TEMPORARY_PREFIX in used
    (found,) = in_container(_DOCTOR, scratch=tmp_path, NUMBA_CACHE_DIR="/proc/none")
    assert found.endswith("; /proc/none cannot be written")


def test_a_full_disk_costs_only_the_cache(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    mounts = f"mount -t tmpfs -o size=4k tmpfs {full}; echo > {full}/x"
    used, said = in_container(_USE, scratch=tmp_path, mounts=mounts, NUMBA_CACHE_DIR=str(full))
    assert used.startswith(str(full))
    assert "No space left" in said
