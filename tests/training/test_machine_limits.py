from __future__ import annotations

import errno

import pytest

from rudder.training.machine import as_machine_error


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "--run-dir"),
        (MemoryError("unable to allocate 4 GiB"), "--buffer"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), "--buffer"),
    ],
)
def test_lack_of_disk_and_memory_is_known(error: BaseException, remedy: str) -> None:
    known = as_machine_error(error)
    assert known is not None
    assert remedy in known.remedy
    assert str(error) in known.message


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "No such file"), RuntimeError("boom")])
def test_other_errors_are_not(error: BaseException) -> None:
    assert as_machine_error(error) is None
