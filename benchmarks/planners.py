"""Six classifiers, fitted to simulated runs that explored, and how well each tells what helps.

    python -m benchmarks.planners --out runs/planners
    rudder bench planners --seeds 1 --model-file runs/planners/rf.model ...

Runs differ in network, starting settings and draws. Every classifier is fitted --splits times, on
other runs each time; the model of the first split is kept.
"""

from __future__ import annotations

import shutil
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from benchmarks.shared import middle, run_study
from rudder.agents.learned.planner import fit
from rudder.bench.simulated.rehearsal import rehearse
from rudder.training.steering_options import ClassifierName


def measure(options: Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    memory = rehearse(options.out, runs=options.runs, windows=options.windows)
    for kind in get_args(ClassifierName):
        began, found, kept = time.perf_counter(), [], options.out / f"{kind}.model"
        for seed in range(options.splits):
            out = kept if seed == 0 else folder / "other.model"
            found.append(fit(memory, planner=kind, out=out, seed=seed).metrics)
        yield {
            "planner": kind,
            "auc": middle([each.roc_auc for each in found]),
            "balanced_accuracy": middle([each.balanced_accuracy for each in found]),
            "seconds": round((time.perf_counter() - began) / options.splits, 2),
            "kib": round(kept.stat().st_size / 1024),
        }


if __name__ == "__main__":
    run_study(__doc__, measure, runs=36, windows=40, splits=5, out=Path("runs/planners"))
