"""Six classifiers, fitted to simulated runs that explored, and how well each tells what helps.

    python -m benchmarks.planners --out runs/planners
    rudder bench planners --seeds 1 --model-file runs/planners/rf.model ...

Runs differ in network, starting settings and draws. Every classifier is fitted --splits times, on
other runs each time; the model of the first split is kept.
"""

from __future__ import annotations

import shutil
import statistics
import time
from pathlib import Path
from typing import get_args

from benchmarks.shared import parser_of
from rudder.agents.learned.planner import fit
from rudder.bench.simulated.rehearsal import rehearse
from rudder.training.steering_options import ClassifierName


def measured(kind: ClassifierName, memory: Path, out: Path, *, splits: int) -> str:
    """One line of the table."""
    began = time.perf_counter()
    found = [
        fit(memory, planner=kind, out=out if seed == 0 else out.with_suffix(".other"), seed=seed)
        for seed in range(splits)
    ]
    seconds = (time.perf_counter() - began) / splits
    aucs = [each.metrics.roc_auc for each in found]
    accuracy = statistics.mean(each.metrics.balanced_accuracy for each in found)
    out.with_suffix(".other").unlink(missing_ok=True)
    return (
        f"{kind:7} {statistics.mean(aucs):8.3f} {min(aucs):8.3f} {max(aucs):8.3f}"
        f" {accuracy:9.3f} {seconds:8.2f} {out.stat().st_size / 1024:8.0f}"
    )


def main() -> None:
    """Collect, fit and print."""
    parser = parser_of(__doc__, runs=36, windows=40, splits=5)
    parser.add_argument("--out", type=Path, default=Path("runs/planners"))
    arguments = parser.parse_args()
    shutil.rmtree(arguments.out, ignore_errors=True)
    arguments.out.mkdir(parents=True)
    memory = rehearse(arguments.out, runs=arguments.runs, windows=arguments.windows)
    print("planner      AUC    least     most  balanced  seconds      KiB")
    for kind in get_args(ClassifierName):
        print(measured(kind, memory, arguments.out / f"{kind}.model", splits=arguments.splits))


if __name__ == "__main__":
    main()
