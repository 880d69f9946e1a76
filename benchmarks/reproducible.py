"""Equal seeds and partitions give equal batches, losses and weights, whatever agents do meanwhile.

    python -m benchmarks.reproducible --data PARTS                       20 seeds
    python -m benchmarks.reproducible --data PARTS --first 5 --seeds 5      the seeds 5 to 9

For each seed, `rudder train` runs on the partitions once as a reference, without agents, and then
once per kind: without agents again; steered; steered by controllers that are killed (SIGKILL) or
stopped (SIGSTOP) at random moments, again and again. The buffer is small, so that agents make it
larger while training goes on. Each run is compared with the reference bit for bit: loss and counts
of sampled rows of each rank and epoch, the scores of each evaluation, and the weights. Prints a
line per run, with the changes that were made; exits 1 if any run differs.
"""

from __future__ import annotations

import hashlib
import random
import signal
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import psutil

from benchmarks.shared import run_study, train

Kind = Literal["unsteered", "steered", "interrupted"]
_SIGNALS = (signal.SIGKILL, signal.SIGSTOP)
_BETWEEN_SIGNALS_S = (0.5, 10.0)


@dataclass(frozen=True)
class Outcome:
    """What one run came to, and the changes of its buffers, which are not compared.

    scores: of each evaluation; epochs: of each rank and epoch the loss, sampled and remote rows;
    weights: the digest of the last model.
    """

    scores: list[Any]
    epochs: list[Any]
    weights: str
    changes: int = field(compare=False)


def outcome(data: Path, *more: str, kind: Kind, seed: int, epochs: int, batch_size: int) -> Outcome:
    """Train, and see what it comes to. more: options of `rudder train`."""
    with tempfile.TemporaryDirectory() as folder:
        summary = train(
            "--data", str(data), "--run-dir", f"{folder}/run", "--seed", str(seed), "--epochs",
            str(epochs), "--eval-every", "1", "--batch-size", str(batch_size), "--buffer", "0.1",
            "--memory", "none", "--start-timeout", "900", "--stall-timeout", "900", *more,
            *(["--controller", "none"] if kind == "unsteered" else []),
            meanwhile=_signalling(seed) if kind == "interrupted" else None,
        )  # fmt: skip
        weights = Path(folder, "run", "model", "last.safetensors").read_bytes()
    return Outcome(
        scores=[(each["epoch"], each["scores"]) for each in summary["evaluations"]],
        epochs=[
            (rank["rank"], epoch["loss"], epoch["rows"]["input_rows"], epoch["rows"]["remote_rows"])
            for rank in summary["ranks"]
            for epoch in rank["epochs"]
        ],
        weights=hashlib.sha256(weights).hexdigest(),
        changes=sum(each["applied"] for each in summary.get("steering") or []),
    )


def _signalling(seed: int) -> Callable[[int], None]:
    """What kills or stops the controllers of a launcher, after a pause."""
    draw = random.Random(seed)

    def send(launcher: int) -> None:
        time.sleep(draw.uniform(*_BETWEEN_SIGNALS_S))
        for process in psutil.Process(launcher).children(recursive=True):
            try:
                if "rudder.agents.controller" in " ".join(process.cmdline()):
                    process.send_signal(draw.choice(_SIGNALS))
            except psutil.Error:
                continue

    return send


def measure(options: Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    for seed in range(options.first, options.first + options.seeds):
        sizes = {"seed": seed, "epochs": options.epochs, "batch_size": options.batch_size}
        reference = outcome(options.data, kind="unsteered", **sizes)
        for kind in get_args(Kind):
            found = outcome(options.data, kind=kind, **sizes)
            yield {
                "seed": seed, "kind": kind, "equal": found == reference, "changes": found.changes
            }  # fmt: skip


if __name__ == "__main__":
    run_study(
        __doc__, measure, holds=lambda line: line["equal"], data=Path("parts"), seeds=20, first=0,
        epochs=6, batch_size=64,
    )  # fmt: skip
