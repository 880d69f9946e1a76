"""Whatever is killed or cut, the run ends with one error, and nothing stays on any machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.cluster.jobs import END_SECONDS, ENDLESS, Training
from tests.cluster.machines import Machine, Machines
from tests.end_to_end.runs import wait_until

pytestmark = pytest.mark.cluster
Harm = Callable[[Machines, Training], None]


def process(machine: Machine, module: str, **variables: str) -> psutil.Process:
    """The process there that runs a module, with these environment variables."""
    (found,) = (
        each
        for each in machine.processes(module)
        if all(each.environ().get(name) == value for name, value in variables.items())
    )
    return found


def kill_launcher(machines: Machines, training: Training) -> None:
    training.launcher.kill()


def kill_agent(machines: Machines, training: Training) -> None:
    process(machines.all[1], "hosts.agent").kill()


def kill_server(machines: Machines, training: Training) -> None:
    process(machines.all[1], "process.worker", DGL_ROLE="server").kill()


def kill_trainer(machines: Machines, training: Training) -> None:
    process(machines.all[1], "process.worker", RANK="1").kill()


def pull_cable(machines: Machines, training: Training) -> None:
    machines.all[1].pull_cable()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (kill_launcher, None),
        (kill_agent, "node2 is lost with its host"),
        (kill_server, "server 1 on node2 was killed by SIGKILL"),
        (kill_trainer, "trainer, rank 1 on node2 was killed by SIGKILL"),
        (pull_cable, "node2 is lost with its host: no word for 20 s"),
    ],
)
def test_fault_is_named_and_nothing_stays(
    machines: Machines, third: Machine, parts: Path, harm: Harm, message: str | None
) -> None:
    options = ("--data", parts, "--hosts", "node1,node2", *ENDLESS)
    with Training(third, *options) as training:
        training.wait_until_training()
        harm(machines, training)
        code = training.end(within_s=END_SECONDS)
    machines.all[1].plug()
    if message is None:
        return
    assert code == 5
    assert message in training.told
    assert "what to do: " in training.told


def test_run_goes_on_from_its_checkpoint_on_a_spare_machine(
    machines: Machines, third: Machine, parts: Path
) -> None:
    """After a trainer was killed on the same machines, after a machine was lost on another."""
    options = ("--data", parts, "--hosts", "node1,node2", "--spare-hosts", "node3", *ENDLESS,
               "--max-restarts", 2, "--checkpoint-every", "1s", "--controller", "none")  # fmt: skip
    with Training(third, *options) as training:
        training.wait_until_told("epoch 10/")
        kill_trainer(machines, training)
        trains_again(training)
        kill_agent(machines, training)
        trains_again(training)
        assert "node3 takes the place of node2" in training.told
        assert len(third.processes("process.worker")) == 2
        training.launcher.terminate()
        assert training.end() == 75


def trains_again(training: Training) -> None:
    """After the failure that comes now."""
    before = training.told.count("starting again from ")
    wait_until(lambda: training.told.count("starting again from ") > before, within_s=60)
    wait_until(lambda: ", loss " in training.told.rpartition("starting again")[2], within_s=60)
