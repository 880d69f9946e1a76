from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from rudder.training.partition.prepare import folder_lock

HOLD = """
import sys, time
from pathlib import Path
from rudder.training.partition.prepare import folder_lock
with folder_lock(Path(sys.argv[1]), on_wait=lambda: None):
    print("held", flush=True)
    time.sleep(60)
"""


def not_waiting() -> None:
    raise AssertionError("nobody else holds the lock")


def test_a_lock_leaves_nothing_behind(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "x", on_wait=not_waiting):
        assert [path.name for path in tmp_path.iterdir()] == [".x.lock"]
        with folder_lock(tmp_path / "y", on_wait=not_waiting):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_second_holder_waits_and_says_so(tmp_path: Path) -> None:
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        with folder_lock(tmp_path / "x", on_wait=waiting.set):
            order.append("second")

    thread = threading.Thread(target=second)
    with folder_lock(tmp_path / "x", on_wait=not_waiting):
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert list(tmp_path.iterdir()) == []


def test_many_holders_are_never_inside_together(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def hold() -> None:
        for _ in range(50):
            with folder_lock(tmp_path / "x", on_wait=lambda: None):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(most) == 200
    assert max(most) == 1


def test_a_killed_holder_keeps_nobody_out(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "x")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.kill()
        holder.wait(10)
        with folder_lock(tmp_path / "x", on_wait=not_waiting):
            pass
