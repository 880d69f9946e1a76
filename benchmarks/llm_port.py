"""What a controller with a broken model endpoint adds to a step, in a trainer that is simulated.

    python benchmarks/llm_port.py --faults all

The control port, the controller process and the broken server are real; a step is some fixed work
of NumPy, with the calls that a loader makes at a batch boundary. Without agents, with the embedded
ones, and with a model that fails take turns of a window (16 steps) in the same process. Own time:
the main thread's processor time in the port's calls of a step; calls: their wall time, whole steps
too, which the machine's other work moves. At the end, over all faults: by how much p99 of the wall
time is longer with a broken model, with a 95 % interval from resampling rounds of turns. Exit code
1 if p99 of own time, or what is added to p99 of the calls, is over 1 ms.

All faults take some ten minutes with 40 windows each.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.stats import bootstrap

from rudder.bench.model_server.scripted_server import FAULTS
from rudder.bench.model_server.stand_in import MIXED
from rudder.bench.simulated.access_traces import ZipfStream
from rudder.bench.simulated.trainer import WINDOW_STEPS, Costs, SimulatedTrainer
from rudder.training.control.controller_process import controller_at
from rudder.training.control.finished_window import FinishedWindow
from rudder.training.control.service import ControlPort
from rudder.training.settings import Applied, BufferSettings, Command
from rudder.training.steering_options import LlmRole, SteeringOptions

MOST_MS = 1.0
ROLES: tuple[LlmRole, ...] = ("observer", "planner", "critic")
WORK = np.ones((160, 160))
WORK_ROUNDS = 12


@dataclass
class Arm:
    """A trainer with its port; port: None without agents."""

    trainer: SimulatedTrainer
    port: ControlPort | None = None
    calls_ms: list[float] = field(default_factory=list)
    steps_ms: list[float] = field(default_factory=list)
    own_ms: list[float] = field(default_factory=list)

    def live(self) -> None:
        """One window: what it held is simulated, what its steps take is measured."""
        window = self.trainer.window()
        for step in range(WINDOW_STEPS):
            began = time.perf_counter()
            for _ in range(WORK_ROUNDS):
                WORK @ WORK
            worked, own = time.perf_counter(), time.thread_time()
            if self.port is not None:
                if (command := self.port.take()) is not None:
                    self.port.answer(self._obey(command))
                if step == WINDOW_STEPS - 1:
                    self.port.publish(FinishedWindow(window))
            ended, own = time.perf_counter(), time.thread_time() - own
            self.own_ms.append(1000 * own)
            self.calls_ms.append(1000 * (ended - worked))
            self.steps_ms.append(1000 * (ended - began))

    def _obey(self, command: Command) -> Applied:
        answer = asyncio.run(self.trainer.send(command.change, issued_at_step=None))
        return answer.model_copy(update={"command_id": command.command_id})


def trainer() -> SimulatedTrainer:
    return SimulatedTrainer(
        ZipfStream(num_remote=4000, draws=600),
        settings=BufferSettings(capacity_rows=100, lookahead_batches=4),
        costs=Costs(row_ms=0.08),
        steps=10**6,
    )


def steered(name: str, options: SteeringOptions, folder: Path, stack: ExitStack) -> Arm:
    """With a controller process of its own, which has begun to listen."""
    simulated, place = trainer(), folder / name
    place.mkdir()
    socket = place / "rank0.sock"
    process = controller_at(socket, rank=0, options=options, folder=place)
    stack.callback(process.close)
    port = stack.enter_context(ControlPort(socket, 0, workload=simulated.workload))
    while not port.has_subscribers:
        time.sleep(0.05)
    return Arm(simulated, port)


@contextmanager
def broken_server(fault: str) -> Iterator[tuple[str, list[int]]]:
    """Its address; at the end the list holds how many requests it met. In a process of its own,
    so that its work is not the trainer's."""
    command = [sys.executable, "-m", "rudder.bench.model_server.stand_in", "--fault", fault]
    met: list[int] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[1], met
        finally:
            process.send_signal(signal.SIGINT)
            met.append(int(process.stdout.read().split()[0]))


def measure(fault: str, *, windows: int, deadline_s: float) -> tuple[dict[str, Arm], int]:
    """The arms after so many windows each, and how many requests the server met."""
    with broken_server(fault) as (url, met), tempfile.TemporaryDirectory() as name:
        asking = SteeringOptions(
            planner="llm",
            llm_url=url,
            llm_model="broken",
            llm_roles=ROLES,
            llm_deadline_s=deadline_s,
        )
        with ExitStack() as stack:
            arms = {
                "none": Arm(trainer()),
                "embedded": steered("embedded", SteeringOptions(), Path(name), stack),
                "llm": steered("llm", asking, Path(name), stack),
            }
            order = list(arms.values())
            for number in range(windows):
                for place in range(len(order)):
                    order[(number + place) % len(order)].live()
    return arms, met[0]


def p99(values: list[float]) -> float:
    return float(np.quantile(values, 0.99))


def added(ours: list[float], theirs: list[float]) -> tuple[float, float, float]:
    """By how much p99 of ours is longer, in ms, and the ends of its 95 % interval."""
    one, other = (np.reshape(each, (-1, WINDOW_STEPS)) for each in (ours, theirs))

    def difference(rounds: np.ndarray) -> float:
        return float(np.quantile(one[rounds], 0.99) - np.quantile(other[rounds], 0.99))

    rounds = np.arange(len(one))
    found = bootstrap(
        (rounds,), difference, vectorized=False, n_resamples=999, method="percentile", rng=0
    )
    return difference(rounds), *found.confidence_interval


def told(arms: dict[str, Arm]) -> str:
    groups = (
        [p99(getattr(arm, name)) for arm in arms.values()]
        for name in ("own_ms", "calls_ms", "steps_ms")
    )
    return " | ".join(" ".join(f"{value:7.3f}" for value in group) for group in groups)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faults", default=f"hang,drip,huge,{MIXED}", help="or all")
    parser.add_argument("--windows", type=int, default=100, help="of each arm")
    parser.add_argument("--deadline", type=float, default=0.5, help="seconds of a decision")
    options = parser.parse_args()
    faults = FAULTS if options.faults == "all" else options.faults.split(",")
    print(
        "p99 in ms of: own time, calls, whole steps; each without agents, embedded, with the model"
    )
    every = {name: Arm(trainer()) for name in ("none", "embedded", "llm")}
    for fault in faults:
        arms, asked = measure(fault, windows=options.windows, deadline_s=options.deadline)
        print(f"{fault:16} asked {asked:3} | {told(arms)}", flush=True)
        for name, arm in arms.items():
            every[name].own_ms += arm.own_ms
            every[name].calls_ms += arm.calls_ms
            every[name].steps_ms += arm.steps_ms
    print(f"{'all':16}           | {told(every)}")
    llm, worst = every["llm"], p99(every["llm"].own_ms)
    for other in ("none", "embedded"):
        for name, label in (("calls_ms", "calls"), ("steps_ms", "whole steps")):
            more, low, high = added(getattr(llm, name), getattr(every[other], name))
            print(
                f"added to p99 of {label}, beside {other}: {more:.3f} ms ({low:.3f} to {high:.3f})"
            )
            worst = max(worst, more) if label == "calls" else worst
    return int(worst > MOST_MS)


if __name__ == "__main__":
    sys.exit(main())
