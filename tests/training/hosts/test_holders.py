from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rudder.training.errors import MachineError
from rudder.training.hosts.host import Holder
from tests.waiting import lives, until

KEEP = """
import sys, time
from rudder.training.hosts.host import Holder
holder = Holder("true", sys.argv[1], after='rm -f -- "$1"')
print(holder.pid, flush=True)
time.sleep(60)
"""


def test_holder_lives_until_it_is_closed() -> None:
    holder = Holder("true")
    assert lives(holder.pid)
    holder.close()
    assert not lives(holder.pid)


def test_script_that_fails_is_quoted() -> None:
    with pytest.raises(MachineError, match="out of sorts"):
        Holder("echo out of sorts >&2; false")


def test_script_that_hangs_is_given_up() -> None:
    with pytest.raises(MachineError, match="no answer in time"):
        Holder("sleep 60", timeout_seconds=0.2)


def test_holder_ends_and_cleans_up_when_its_owner_is_killed(tmp_path: Path) -> None:
    leftover = tmp_path / "leftover"
    leftover.touch()
    owner = subprocess.Popen(
        [sys.executable, "-c", KEEP, str(leftover)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    holder = int(owner.stdout.readline())
    owner.kill()
    owner.communicate()
    until(lambda: not lives(holder))
    assert not leftover.exists()
