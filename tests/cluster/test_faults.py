"""Whatever is killed or cut, the run names it, goes on if it may, and nothing stays anywhere."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.cluster.jobs import END_SECONDS, ENDLESS, START_SECONDS, Training
from tests.cluster.machines import Machine, Machines
from tests.waiting import until

pytestmark = pytest.mark.cluster


def process(machine: Machine, module: str, **variables: str) -> psutil.Process:
    """The process there that runs a module, with these environment variables."""
    (found,) = (
        each
        for each in machine.processes(module)
        if all(each.environ().get(name) == value for name, value in variables.items())
    )
    return found


def wait_until_it_trains_again(training: Training, *, times: int) -> None:
    """After so many failures."""
    again = "starting again from "
    training.wait_until_told("more times at most", times=times)
    assert training.told.count(again) == times  # none from the beginning
    until(lambda: ", loss " in training.told.rpartition(again)[2], within_s=START_SECONDS)


def test_run_names_each_fault_and_goes_on_from_its_checkpoint(
    machines: Machines, third: Machine, parts: Path
) -> None:
    """On the same machines, then on a spare one, and at last not at all."""
    first, second = machines.all[:2]
    options = ("--data", parts, "--hosts", "node1,node2", "--spare-hosts", "node3", *ENDLESS,
               "--max-restarts", 3, "--checkpoint-every", "1s")  # fmt: skip
    with Training(third, *options) as training:
        training.wait_until_told("epoch 10/")
        process(second, "process.worker", RANK="1").kill()
        wait_until_it_trains_again(training, times=1)
        assert "trainer, rank 1 on node2 was killed by SIGKILL" in training.told

        process(second, "process.worker", DGL_ROLE="server").kill()
        wait_until_it_trains_again(training, times=2)
        assert "server 1 on node2 was killed by SIGKILL" in training.told

        second.pull_cable()
        until(lambda: not second.leftovers(), within_s=END_SECONDS)
        wait_until_it_trains_again(training, times=3)
        second.plug()
        assert "node2 is lost with its host: no word for 20 s" in training.told
        assert "node3 takes the place of node2" in training.told
        assert len(third.processes("process.worker")) == 2

        process(first, "hosts.agent").kill()
        assert training.end() == 5
        assert "node1 is lost with its host" in training.told
        assert "what to do: " in training.told
