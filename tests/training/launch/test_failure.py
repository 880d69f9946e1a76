from __future__ import annotations

from pathlib import Path

from rudder.training.launch.supervise import quote
from rudder.training.machine import kills_for_memory


def test_quote_keeps_the_lines_that_matter(tmp_path: Path) -> None:
    log = tmp_path / "server0.log"
    log.write_text("load tiny\n\nServer is waiting for connections\nboom\n")
    assert quote(log) == "\n    boom"


def test_quote_is_short_and_takes_the_end(tmp_path: Path) -> None:
    log = tmp_path / "rank0.log"
    log.write_text("x" * 100_000 + "\n" + "\n".join(f"line {i}" for i in range(100)))
    lines = quote(log).splitlines()
    assert len(lines) == 7
    assert lines[-1] == "    line 99"


def test_quote_of_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert quote(tmp_path / "none.log") == ""


def test_kernel_tells_how_often_it_has_killed_for_memory() -> None:
    assert kills_for_memory() >= 0
