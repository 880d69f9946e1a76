"""What a controller takes of a core while nothing can be gained: a real one, at a played trainer.

    python -m benchmarks.idle_controller --seconds 120

A simulated trainer whose buffer holds all that it uses tells its windows at a real control port, at
the pace of steps of 22 ms (as community-200k's); a controller process steers it as in any run. Its
processor time is read in each quarter of the time: the first has imports and first decisions.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.shared import parser_of
from rudder.bench.gauge import ControllerGauge
from rudder.bench.simulated.access_traces import ZipfStream
from rudder.bench.simulated.trainer import Costs, SimulatedTrainer
from rudder.training.control.controller_process import controller_at
from rudder.training.control.messages import Attention
from rudder.training.control.peers import FinishedWindow
from rudder.training.control.service import ControlPort
from rudder.training.settings import BufferSettings
from rudder.training.steering_options import SteeringOptions

_STREAM = ZipfStream(num_remote=100_000, draws=8_000)
_QUARTERS = 4


@dataclass(frozen=True)
class Quarter:
    """A quarter of the time; core: share of a core, percent; window_steps: of the last window."""

    quarter: int
    core_percent: float
    windows: int
    sampled_windows: int
    window_steps: int


def train(port: ControlPort, trainer: SimulatedTrainer, *, seconds: float) -> tuple[int, int, int]:
    """Tell windows at their pace for so long: how many, how many sampled, steps of the last."""
    end, windows, sampled, steps = time.monotonic() + seconds, 0, 0, 0
    while (begun := time.monotonic()) < end:
        wanted = Attention(window_steps=port.window_steps, accesses=port.wants_accesses)
        asyncio.run(trainer.attend(wanted))
        window = trainer.window()
        time.sleep(max(begun + (window.wall_seconds or 0.0) - time.monotonic(), 0.0))
        while (command := port.take()) is not None:
            applied = asyncio.run(trainer.send(command.change, issued_at_step=None))
            port.answer(applied.model_copy(update={"command_id": command.command_id}))
        port.publish(FinishedWindow(window))
        windows, sampled, steps = windows + 1, sampled + wanted.accesses, window.num_steps
    return windows, sampled, steps


def measure(folder: Path, *, seconds: float) -> list[Quarter]:
    """One controller from its start on."""
    settings = BufferSettings(capacity_rows=_STREAM.num_remote, lookahead_batches=40)
    trainer = SimulatedTrainer(
        _STREAM, settings=settings, costs=Costs(row_ms=0.001), steps=10**7, seed=1
    )
    socket = folder / "control" / "rank0.sock"
    socket.parent.mkdir()
    found: list[Quarter] = []
    with ControlPort(socket, rank=0, workload=trainer.workload) as port:
        controller = controller_at(socket, rank=0, options=SteeringOptions(), folder=folder)
        gauge, before = ControllerGauge(socket.parent), 0.0
        for number in range(1, _QUARTERS + 1):
            begun = time.monotonic()
            windows, sampled, steps = train(port, trainer, seconds=seconds / _QUARTERS)
            spent = sum(use.cpu_seconds for use in gauge.read().values())
            share = (spent - before) / (time.monotonic() - begun)
            before = spent
            found.append(
                Quarter(
                    quarter=number,
                    core_percent=100 * share,
                    windows=windows,
                    sampled_windows=sampled,
                    window_steps=steps,
                )
            )
    controller.close()
    return found


def main() -> None:
    """Parse, measure, print."""
    parser = parser_of(__doc__, seconds=120.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), seconds=arguments.seconds)
    print(json.dumps([asdict(each) for each in found], indent=2))


if __name__ == "__main__":
    main()
