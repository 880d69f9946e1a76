"""Three machines, which all tests of this folder share, and what is trained on them."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rudder.training.partition.prepare import prepare
from tests.cluster.jobs import END_SECONDS, SHORT, Training, losses
from tests.cluster.machines import Machine, Machines, start_slurm, why_not
from tests.waiting import until

_why: list[str] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly if nothing was tested."""
    for why in _why:
        terminalreporter.section("RUDDER WAS NOT TESTED ON SEVERAL MACHINES", red=True)
        terminalreporter.line(why, red=True)
        if "GITHUB_ACTIONS" in os.environ:
            terminalreporter.line(f"::warning title=Not tested on several machines::{why}")


@pytest.fixture(scope="session")
def machines() -> Iterator[Machines]:
    """node1, node2 and node3."""
    if (why := why_not()) is not None:
        _why[:] = [why]
        pytest.skip(why)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `timeout` ends tests with it
    folder = Path(tempfile.mkdtemp(prefix="rudder-cluster-", dir="/var/tmp"))
    machines = Machines(folder, count=3)
    try:
        yield machines
    finally:
        machines.close()
        shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def _nothing_stays(machines: Machines) -> Iterator[None]:
    """However a test has ended its runs, they leave nothing on any machine."""
    yield
    try:
        until(lambda: not machines.leftovers(), within_s=END_SECONDS)
    except AssertionError:
        left = machines.leftovers()
        for machine in machines.all:
            for process in machine.processes("python"):
                process.kill()
        pytest.fail(f"left behind: {left}")


@pytest.fixture(scope="session")
def slurm(machines: Machines) -> Machines:
    """The machines as nodes of a Slurm cluster."""
    start_slurm(machines)
    return machines


@pytest.fixture(scope="session")
def third(machines: Machines) -> Machine:
    """The machine that no test trains on."""
    return machines.all[2]


@pytest.fixture(scope="session")
def parts(machines: Machines) -> Path:
    """A graph in two parts, in a folder that all machines see."""
    prepare("synthetic:tiny", num_parts=2, out=machines.shared / "parts", progress=print)
    return machines.shared / "parts"


@pytest.fixture(scope="session")
def local_losses(third: Machine, parts: Path) -> list[str]:
    """What two hosts on one machine make of the graph."""
    with Training(third, "--data", parts, "--network", "loopback", *SHORT) as training:
        training.summary()
        return losses(training.told)
