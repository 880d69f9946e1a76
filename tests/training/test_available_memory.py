from __future__ import annotations

from pathlib import Path

import psutil

from rudder.training.machine import available_memory_bytes, left_in_group


def group(folder: Path, limit: str, used: int, cache: int) -> Path:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon {used - cache}\ninactive_file {cache}\n")
    return folder


def test_group_leaves_its_limit_less_what_is_used_and_not_cache(tmp_path: Path) -> None:
    assert left_in_group(group(tmp_path, "1000", used=400, cache=100)) == 700


def test_group_over_its_limit_leaves_nothing(tmp_path: Path) -> None:
    assert left_in_group(group(tmp_path, "1000", used=1200, cache=0)) == 0


def test_group_without_a_limit_or_without_files_sets_none(tmp_path: Path) -> None:
    assert left_in_group(tmp_path) is None
    assert left_in_group(group(tmp_path, "max", used=400, cache=0)) is None


def test_available_memory_is_at_most_the_machines() -> None:
    assert 0 < available_memory_bytes() <= psutil.virtual_memory().total
