"""Compile what a controller needs ahead of time: `python -m rudder.bench.simulated.warm_up`.

The first decision of a run would else wait for the compiler, which takes a core for seconds.
"""

from __future__ import annotations

from rudder.bench.simulated.access_traces import ZipfStream
from rudder.bench.simulated.trainer import SimulatedTrainer
from rudder.tools.constants import MAX_BATCHES
from rudder.tools.estimate.history import History
from rudder.tools.estimate.whatif import WhatIf
from rudder.training.control.messages import WINDOW_STEPS
from rudder.training.settings import BufferSettings, Change

_WINDOWS = MAX_BATCHES // WINDOW_STEPS + 1
"""So many that the first batches are forgotten again."""


def warm_up() -> None:
    """Estimate some changes of a small simulated run."""
    stream = ZipfStream(num_remote=6000, draws=600)
    trainer = SimulatedTrainer(stream, settings=BufferSettings(capacity_rows=500))
    history = History(trainer.workload)
    for _ in range(_WINDOWS):
        history.add(trainer.window())
    whatif = WhatIf(history)
    whatif.present()
    whatif.effect(Change(capacity_rows=1000, lookahead_batches=8, eviction_threshold=0.5))
    whatif.opt(1000)


if __name__ == "__main__":
    warm_up()
