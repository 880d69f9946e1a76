"""Equal seeds and partitions give equal batches, losses and accuracy, whatever agents do meanwhile.

    python -m benchmarks.reproducible --data PARTS                       20 seeds
    python -m benchmarks.reproducible --data PARTS --seeds 2 --epochs 3

For each seed, `rudder train` runs on the partitions once as a reference, without agents, and then
once per kind: without agents again; steered; steered by controllers that are killed (SIGKILL) as
soon as they run, again and again. Each run is compared with the reference bit for bit: loss and
counts of sampled rows of each rank and epoch, and the accuracy. Prints a line per run; exits 1 if
any run differs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal, get_args

import psutil

from benchmarks.shared import parser_of

Kind = Literal["unsteered", "steered", "killed"]
_RUDDER = Path(sys.executable).parent / "rudder"
_BETWEEN_KILLS_S = 0.5


def outcome(
    data: Path, *more: str, kind: Kind, seed: int, epochs: int, batch_size: int
) -> list[Any]:
    """What one run came to: accuracies, and loss and sampled rows of each rank and epoch.

    more: options of `rudder train`.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(_RUDDER), "train", "--data", str(data), "--run-dir", f"{folder}/run", "--json",
            "--seed", str(seed), "--epochs", str(epochs), "--eval-every", "1",
            "--batch-size", str(batch_size), *more,
            *(["--controller", "none"] if kind == "unsteered" else ["--memory", "none"]),
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
            while kind == "killed" and run.poll() is None:
                _kill_controllers(run.pid)
                time.sleep(_BETWEEN_KILLS_S)
            out, error = run.communicate()
        if run.returncode:
            raise RuntimeError(error.decode())
        return _essence(json.loads(out))


def _kill_controllers(launcher: int) -> None:
    for process in psutil.Process(launcher).children(recursive=True):
        try:
            if "rudder.agents.controller" in " ".join(process.cmdline()):
                process.kill()
        except psutil.Error:
            continue


def _essence(summary: dict[str, Any]) -> list[Any]:
    epochs = [
        (rank["rank"], epoch["loss"], epoch["rows"]["input_rows"], epoch["rows"]["remote_rows"])
        for rank in summary["ranks"]
        for epoch in rank["epochs"]
    ]
    quality = [(each["epoch"], each["scores"]) for each in summary["evaluations"]]
    return [*quality, *epochs]


def main() -> None:
    """Run all, and exit."""
    parser = parser_of(__doc__, seeds=20, epochs=4, batch_size=128)
    parser.add_argument("--data", type=Path, required=True, help="what `rudder prepare` wrote")
    options = parser.parse_args()
    num_different = 0
    for seed in range(options.seeds):
        sizes = {"seed": seed, "epochs": options.epochs, "batch_size": options.batch_size}
        reference = outcome(options.data, kind="unsteered", **sizes)
        for kind in get_args(Kind):
            is_equal = outcome(options.data, kind=kind, **sizes) == reference
            num_different += not is_equal
            print(json.dumps({"seed": seed, "kind": kind, "equal": is_equal}), flush=True)
    sys.exit(num_different > 0)


if __name__ == "__main__":
    main()
