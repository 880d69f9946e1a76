from __future__ import annotations

import io
from pathlib import Path

from rudder.training.process.worker import _ForgivingLog


def say(log: str | Path) -> None:
    raw = _ForgivingLog(log, "wb")
    with io.TextIOWrapper(io.BufferedWriter(raw), line_buffering=True) as stream:
        print("Client[0] is exiting...", file=stream)


def test_a_print_into_a_log_on_a_full_disk_ends_nothing() -> None:
    say("/dev/full")


def test_a_log_has_what_was_printed(tmp_path: Path) -> None:
    say(tmp_path / "log")
    assert (tmp_path / "log").read_text() == "Client[0] is exiting...\n"
