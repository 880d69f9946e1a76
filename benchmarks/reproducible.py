"""Equal seeds and partitions give equal batches, losses and accuracy, whatever agents do meanwhile.

    python -m benchmarks.reproducible --data PARTS                       20 seeds
    python -m benchmarks.reproducible --data PARTS --first 5 --seeds 5      the seeds 5 to 9

For each seed, `rudder train` runs on the partitions once as a reference, without agents, and then
once per kind: without agents again; steered; steered by controllers that are killed (SIGKILL) as
soon as they run, again and again. Each run is compared with the reference bit for bit: loss and
counts of sampled rows of each rank and epoch, and the accuracy. Prints a line per run; exits 1 if
any run differs.
"""

from __future__ import annotations

import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import psutil

from benchmarks.shared import run_study, train

Kind = Literal["unsteered", "steered", "killed"]
_BETWEEN_KILLS_S = 0.5


def outcome(
    data: Path, *more: str, kind: Kind, seed: int, epochs: int, batch_size: int
) -> list[Any]:
    """What one run came to: accuracies, and loss and sampled rows of each rank and epoch.

    more: options of `rudder train`.
    """
    with tempfile.TemporaryDirectory() as folder:
        summary = train(
            "--data", str(data), "--run-dir", f"{folder}/run", "--seed", str(seed), "--epochs",
            str(epochs), "--eval-every", "1", "--batch-size", str(batch_size), *more,
            *(["--controller", "none"] if kind == "unsteered" else ["--memory", "none"]),
            meanwhile=_kill_controllers if kind == "killed" else None,
        )  # fmt: skip
    epochs_of_ranks = [
        (rank["rank"], epoch["loss"], epoch["rows"]["input_rows"], epoch["rows"]["remote_rows"])
        for rank in summary["ranks"]
        for epoch in rank["epochs"]
    ]
    return [(each["epoch"], each["scores"]) for each in summary["evaluations"]] + epochs_of_ranks


def _kill_controllers(launcher: int) -> None:
    for process in psutil.Process(launcher).children(recursive=True):
        try:
            if "rudder.agents.controller" in " ".join(process.cmdline()):
                process.kill()
        except psutil.Error:
            continue
    time.sleep(_BETWEEN_KILLS_S)


def measure(options: Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    for seed in range(options.first, options.first + options.seeds):
        sizes = {"seed": seed, "epochs": options.epochs, "batch_size": options.batch_size}
        reference = outcome(options.data, kind="unsteered", **sizes)
        for kind in get_args(Kind):
            is_equal = outcome(options.data, kind=kind, **sizes) == reference
            yield {"seed": seed, "kind": kind, "equal": is_equal}


if __name__ == "__main__":
    run_study(
        __doc__, measure, holds=lambda line: line["equal"], data=Path("parts"), seeds=20, first=0,
        epochs=4, batch_size=128,
    )  # fmt: skip
