"""Two jobs on one graph, started at once by one user on one machine, do not meet."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rudder.training.hosts.host import reserve_ports
from rudder.training.manifest import Manifest
from rudder.training.partition.prepare import prepare
from tests.end_to_end.jobs import SCRIPTS, SOONER
from tests.end_to_end.runs import segments
from tests.end_to_end.test_launchers import found_by
from tests.waiting import RUN_SECONDS, WAIT_SECONDS

pytestmark = pytest.mark.distributed


class OwnJob:
    """A server, a trainer and its sampler process, which run a script of one's own."""

    def __init__(self, data: Path, scratch: Path, *, rows: float) -> None:
        manifest = Manifest.read(data)
        scratch.mkdir()
        ip_config = scratch / "ip_config.txt"
        ip_config.write_text(f"127.0.0.1 {reserve_ports(1, addresses=['127.0.0.1'], first=None)}")
        self._argv = [
            *(sys.executable, str(SOONER), str(SCRIPTS / "launched.py"), "--rows", str(rows)),
            *("--graph-name", manifest.graph_name, "--scratch", str(scratch)),
            *("--part-config", str(manifest.part_config(data)), "--ip-config", str(ip_config)),
        ]
        self._variables = {
            **os.environ, "PYTHONWARNINGS": "ignore", "DGL_NUM_SERVER": "1", "DGL_NUM_CLIENT": "2",
            "DGL_NUM_SAMPLER": "1", "DGL_CONF_PATH": str(manifest.part_config(data)),
            "DGL_IP_CONFIG": str(ip_config), "DGL_GRAPH_FORMAT": "csc", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        self.server = self._start({"DGL_ROLE": "server", "DGL_SERVER_ID": "0"})
        self.trainer = self._start({"DGL_ROLE": "client", "DGL_DIST_MODE": "distributed"})

    def _start(self, variables: dict[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._argv, env=self._variables | variables, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def close(self) -> None:
        for process in (self.server, self.trainer):
            process.kill()
            process.communicate()


def test_two_jobs_of_one_graph_get_their_own_rows(tmp_path: Path) -> None:
    data = tmp_path / "parts"
    prepare("synthetic:tiny", num_parts=1, out=data, progress=lambda text: None)
    before = segments()
    jobs = [OwnJob(data, tmp_path / str(rows), rows=rows) for rows in (1.5, 2.5)]
    try:
        outputs = [job.trainer.communicate(timeout=RUN_SECONDS)[0] for job in jobs]
        assert [job.trainer.returncode for job in jobs] == [0, 0], "\n".join(outputs)
        assert all(each["same"] for each in found_by(outputs)), outputs
        assert [job.server.wait(WAIT_SECONDS) for job in jobs] == [0, 0]
    finally:
        for job in jobs:
            job.close()
    assert segments() <= before
