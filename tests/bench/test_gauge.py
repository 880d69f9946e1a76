"""Processor time and memory of controllers, read from outside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rudder.bench.gauge import ControllerGauge, cpu_seconds_of_children

_BUSY = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True); input()"


def test_what_a_process_used_is_remembered_when_it_has_ended(tmp_path: Path) -> None:
    gauge = ControllerGauge(tmp_path)
    assert gauge.read() == {}
    with subprocess.Popen(
        [sys.executable, "-c", _BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (tmp_path / "rank0-1.pid").write_text(f"{process.pid}\n")
        (tmp_path / "rank1-1.pid").write_text("not yet")
        use = gauge.read()["rank0-1"]
        assert 0.25 <= use.cpu_seconds < 10
        assert use.peak_rss_bytes > 2**20
        assert cpu_seconds_of_children() >= 0.25
        process.kill()
    assert gauge.read() == {"rank0-1": use}
