"""One rank of a small run without a graph: steps, checkpoints, and a resume."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from rudder.training.checkpoint.format import CheckpointInterval, Identity, checkpoints_of
from rudder.training.checkpoint.session import (
    Checkpoints,
    CheckpointState,
    load_checkpoint,
    random_state,
    restore_random_state,
)
from rudder.training.loading.state import LoaderState
from rudder.training.model.shard import Collectives
from rudder.training.process.stop import note_stop_signals
from rudder.training.settings import BufferSettings
from tests.training.process_group import process_group

STEPS, EPOCHS = 5, 3


class Run:
    """Adds a random number to its weights in each step."""

    def __init__(self, rank: int) -> None:
        torch.manual_seed(rank)
        self.rank, self.weights = rank, torch.zeros(3)
        self.loader = LoaderState(
            epoch=0,
            batch=0,
            step=0,
            window=rank,
            run_key="key",
            settings=BufferSettings(capacity_rows=10 + rank),
            buffered=np.array([9, 4, 2]) + rank,
        )

    def step(self) -> None:
        self.weights += torch.rand(3)
        batch = self.loader.batch + 1
        self.loader = replace(self.loader, batch=batch, step=self.loader.step + 1)

    def end_epoch(self) -> None:
        self.loader = replace(self.loader, batch=0, epoch=self.loader.epoch + 1)

    def loader_state(self) -> LoaderState:
        return self.loader

    def shared_state(self) -> CheckpointState:
        return {"weights": self.weights, "of": self.rank}

    def own_state(self) -> CheckpointState:
        return {"mine": self.weights.tolist(), "random": random_state()}


def main(rank: int, folder: Path, interval: str, stop_at: int) -> None:
    """Run, and print what came of it; at step `stop_at` the last rank is told to stop."""
    note_stop_signals()
    collectives, run = Collectives(torch.device("cpu")), Run(rank)
    found = checkpoints_of(folder)
    if found:
        loaded = load_checkpoint(found[0], collectives)
        run.loader, run.weights = loaded.loader, torch.tensor(loaded.own["mine"])
        restore_random_state(loaded.own["random"])
        assert loaded.shared["of"] == 0
        assert loaded.loader.window == rank
        assert loaded.loader.settings.capacity_rows == 10 + rank
        assert loaded.loader.buffered.tolist() == [2 + rank, 4 + rank, 9 + rank]
    checkpoints = Checkpoints(
        run, run_dir=folder, interval=CheckpointInterval.parse(interval), keep=9,
        identity=Identity(dataset="", data="", settings={}, versions={}), collectives=collectives,
        common_steps=STEPS, on_written=lambda written: None,
    )  # fmt: skip
    is_stopped = train(run, checkpoints, stop_at=stop_at if rank == 1 else -1)
    written = checkpoints.finish()
    result = {
        "rank": rank,
        "stopped": is_stopped,
        "step": run.loader.step,
        "weights": run.weights.tolist(),
        "last": None if written is None else written.name,
    }
    print(json.dumps(result))


def train(run: Run, checkpoints: Checkpoints, *, stop_at: int) -> bool:
    for epoch in range(run.loader.epoch, EPOCHS):
        checkpoints.begin_epoch(run.loader.batch)
        for _ in range(run.loader.batch, STEPS):
            run.step()
            if run.loader.step == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            if checkpoints.after_step(run.loader.batch):
                return True
        run.end_epoch()
        if checkpoints.after_epoch(is_last=epoch == EPOCHS - 1):
            return True
    return False


if __name__ == "__main__":
    rank, folder, interval, stop_at = sys.argv[1:]
    with process_group(int(rank), size=2, meeting=Path(folder) / f"meet{stop_at}"):
        main(int(rank), Path(folder), interval, int(stop_at))
