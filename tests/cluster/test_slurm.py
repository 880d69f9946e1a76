"""`rudder train` in jobs of Slurm, one of them with the job script of examples/cluster."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.jobs import ENDLESS, RUDDER, SEEDED, START_SECONDS, losses
from tests.cluster.machines import Machines
from tests.waiting import until

pytestmark = pytest.mark.cluster
SCRIPT = Path(__file__).parents[2] / "examples" / "cluster" / "train.sbatch"
TRAINING = "trainers are training"


class Batch:
    """A job on node1 and node2, submitted in a folder that all machines see."""

    def __init__(self, machines: Machines, *argv: object) -> None:
        self._shell = machines.all[2]
        self.folder = machines.workplace()
        options = ("--parsable", "--time=60", "--nodes=2", "--ntasks-per-node=1",
                   "--cpus-per-task=2", "--nodelist=node1,node2",
                   f"--chdir={self.folder}")  # fmt: skip
        self.number = int(self._shell.run("sbatch", *options, *argv))

    @property
    def told(self) -> str:
        """What the job has printed."""
        found = [*self.folder.glob(f"*-{self.number}.log")]
        return found[0].read_text() if found else ""

    @property
    def state(self) -> str:
        """In Slurm's words: PENDING, RUNNING, ..."""
        return self._shown("JobState")

    def _shown(self, field: str) -> str:
        shown = self._shell.run("scontrol", "show", "job", "-o", self.number)
        return str(re.findall(rf"\b{field}=(\S+)", shown)[0])

    def limit(self, minutes: int) -> None:
        """Set the time limit, from now on. Slurm looks at it every half a minute."""
        *_, hours, ran, _ = map(int, re.split(r"[-:]", f"0-{self._shown('RunTime')}"))
        limit = f"TimeLimit={max(1, 60 * hours + ran + minutes)}"
        self._shell.run("scontrol", "update", f"JobId={self.number}", limit)

    def cancel(self) -> None:
        """scancel."""
        self._shell.run("scancel", self.number)

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition; fails with what the job has printed."""
        try:
            until(condition, within_s=START_SECONDS)
        except AssertionError:
            pytest.fail(f"{self.state}\n{self.told}")

    def wait_until_told(self, text: str) -> None:
        """Wait until the job has printed `text`."""
        self.wait(lambda: text in self.told)


def test_requeued_job_goes_on_and_jobs_that_slurm_ends_leave_nothing(
    slurm: Machines, parts: Path, local_losses: list[str]
) -> None:
    """Both train on the same graph and the same machines at once; in one of them srun starts the
    same command on each machine, as schedulers do that Rudder does not know."""
    head = f"RUDDER_HEAD={slurm.all[0].address}:29400"
    train = (RUDDER, "train", "--launcher", "env", "--hosts", 2, "--data", parts, *ENDLESS)
    command = " ".join(map(str, ("srun", "env", head, "RUDDER_TOKEN=secret", *train)))
    limited = Batch(slurm, "--output=limited-%j.log", f"--wrap=exec {command}")
    job = Batch(
        slurm, SCRIPT, *SEEDED, "--epochs", 100000, "--controller", "none",
        "--checkpoint-every", "1h",
    )  # fmt: skip
    for each in (limited, job):
        each.wait_until_told("epoch 2/")
        assert losses(each.told) == local_losses

    job.limit(2)  # the script has Slurm send the signal 120 s before the end
    limited.limit(0)
    job.wait_until_told("the run was stopped by SIGUSR1")
    job.limit(60)
    limited.wait(lambda: limited.state == "TIMEOUT")
    assert "Traceback" not in limited.told
    job.wait(lambda: job.told.count(TRAINING) == 2)
    assert "going on after" in job.told

    job.cancel()
    job.wait(lambda: job.state == "CANCELLED")
