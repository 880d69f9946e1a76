"""Commands of Rudder on a machine of the tests, as a user would give them."""

from __future__ import annotations

import itertools
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

import psutil

from rudder.training.metrics import Summary
from tests.cluster.machines import Machine
from tests.waiting import until

RUDDER = Path(sys.executable).with_name("rudder")
SEEDED = ("--memory", "none", "--seed", "7", "--max-seeds", "4000")
SHORT = (*SEEDED, "--epochs", "2", "--controller", "none")
"""Options of a run that ends by itself."""
ENDLESS = (*SEEDED, "--epochs", "100000")
START_SECONDS = 300
"""A limit for slow machines; here it takes half a minute."""
END_SECONDS = 60
"""All that a run has started is gone so soon after its end, however it ended: 20 s of silence, and
what a slow machine takes."""
_numbers = itertools.count()


class Training:
    """A `rudder train` on a machine, which is killed at the end of the `with` block."""

    def __init__(self, machine: Machine, *options: object, run_dir: Path | None = None) -> None:
        self.machine = machine
        self.run_dir = run_dir or machine.disk / f"run{next(_numbers)}"
        self._log = machine.outside(machine.disk / f"train{next(_numbers)}.log")
        with self._log.open("w") as log:
            self._process = machine.start(
                *(RUDDER, "train", "--json", "--run-dir", self.run_dir, *options),
                stdout=subprocess.PIPE,
                stderr=log,
            )

    @property
    def told(self) -> str:
        """What it has written to standard error."""
        return self._log.read_text()

    @property
    def launcher(self) -> psutil.Process:
        """The launcher's own process."""
        (found,) = (
            each
            for each in self.machine.processes(f"train --json --run-dir {self.run_dir} ")
            if "nsenter" not in each.name()
        )
        return found

    def wait_until_told(self, text: str, *, times: int = 1) -> None:
        """Read standard error until it has `text` so often; fails if the run ends without."""

        def is_told() -> bool:
            if self.told.count(text) >= times:
                return True
            assert self._process.poll() is None, self.told
            return False

        until(is_told, within_s=START_SECONDS)

    def end(self) -> int:
        """Wait for the end; returns the exit code."""
        self._output = self._process.communicate(timeout=START_SECONDS)[0]
        return self._process.returncode

    def summary(self) -> Summary:
        """Wait for the end, which has to be a good one."""
        assert self.end() == 0, self.told
        return Summary.model_validate_json(self._output)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.machine.processes(str(self.run_dir)):
            process.send_signal(signal.SIGKILL)
        self._process.kill()
        self._process.communicate()


def losses(told: str) -> list[str]:
    """Of the first two epochs, as a run has told them; again after each new beginning."""
    found = re.findall(r"^epoch [12]/\d+: .*, loss ([\d.]+)$", told, re.MULTILINE)
    assert len(found) >= 2, told
    return found
