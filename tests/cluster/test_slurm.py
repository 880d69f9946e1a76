"""`rudder train` in jobs of Slurm, with the job script of examples/cluster."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from rudder.training.metrics import Summary
from tests.cluster.jobs import ENDLESS, RUDDER, START_SECONDS, losses
from tests.cluster.machines import Machines
from tests.end_to_end.runs import wait_until

pytestmark = pytest.mark.cluster
SCRIPT = Path(__file__).parents[2] / "examples" / "cluster" / "train.sbatch"
TRAINING = "trainers are training"
LIMIT_SECONDS = 150
"""Slurm looks at time limits, which are whole minutes, every half a minute."""


class Batch:
    """A job on node1 and node2, submitted in a folder that all machines see."""

    def __init__(self, machines: Machines, *argv: object) -> None:
        self._shell = machines.all[2]
        self.folder = machines.workplace()
        options = ("--parsable", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=2",
                   "--nodelist=node1,node2", f"--chdir={self.folder}")  # fmt: skip
        self.number = int(self._shell.run("sbatch", *options, *argv))

    @property
    def told(self) -> str:
        """What the job has printed."""
        found = [*self.folder.glob(f"*-{self.number}.*")]
        return found[0].read_text() if found else ""

    @property
    def state(self) -> str:
        """In Slurm's words: PENDING, RUNNING, ..."""
        shown = self._shell.run("scontrol", "show", "job", "-o", self.number)
        return str(re.findall(r"JobState=(\w+)", shown)[0])

    def update(self, **fields: object) -> None:
        """Change the job."""
        changes = [f"{name}={value}" for name, value in fields.items()]
        self._shell.run("scontrol", "update", f"JobId={self.number}", *changes)

    def cancel(self) -> None:
        """scancel."""
        self._shell.run("scancel", self.number)

    def wait(self, condition: Any, *, within_s: float = START_SECONDS) -> None:
        """Wait for a condition; fails with what the job has printed."""
        try:
            wait_until(condition, within_s=within_s)
        except AssertionError:
            pytest.fail(f"{self.state}\n{self.told}")


def test_job_near_its_time_limit_writes_a_checkpoint_and_goes_on_when_it_is_requeued(
    slurm: Machines, parts: Path, local_run: Summary
) -> None:
    job = Batch(
        slurm, "--time=60", SCRIPT, "--seed", 7, "--epochs", 300, "--memory", "none",
        "--controller", "none", "--checkpoint-every", "1h",
    )  # fmt: skip
    job.wait(lambda: TRAINING in job.told)
    job.update(TimeLimit=2)  # Slurm sends the signal 120 s before the end
    job.wait(lambda: job.state == "PENDING", within_s=LIMIT_SECONDS)
    assert "the run was stopped by SIGUSR1" in job.told
    job.update(TimeLimit=60)
    job.wait(lambda: job.state == "COMPLETED", within_s=300)
    assert "going on after" in job.told
    run_dir = job.folder / "runs" / f"slurm-{job.number}"
    summary = Summary.model_validate_json((run_dir / "summary.json").read_text())
    assert [len(rank.epochs) for rank in summary.ranks] == [300, 300]
    assert [rank[:2] for rank in losses(summary)] == losses(local_run)


def test_cancelled_job_and_job_at_its_time_limit_leave_nothing_and_do_not_meet(
    slurm: Machines, parts: Path
) -> None:
    """Both train on the same graph and the same machines at once."""
    command = " ".join(map(str, (RUDDER, "train", "--data", parts, *ENDLESS)))
    cancelled, limited = (
        Batch(slurm, *options, "--output=job-%j.log", f"--wrap=exec {command}")
        for options in (("--time=60",), ("--time=1",))
    )
    cancelled.wait(lambda: TRAINING in cancelled.told)
    limited.wait(lambda: TRAINING in limited.told)
    cancelled.cancel()
    cancelled.wait(lambda: cancelled.state == "CANCELLED", within_s=30)
    assert limited.state == "RUNNING"
    limited.wait(lambda: limited.state == "TIMEOUT", within_s=LIMIT_SECONDS)
    assert "Error" not in limited.told.split("CANCELLED")[0]
