"""What a broken model endpoint adds to a training step: real jobs beside embedded and no agents.

    python benchmarks/llm_steps.py --faults hang,drip,huge,mixed --rate 10mbit

One job a fault: all variants take turns in it, and the model's one asks a server that fails so
every time. p99: of the steps of an epoch (waiting for the batch, and computing it), as the median
over epochs and ranks. Steps take tens of milliseconds and differ by as many, so the tail of the
embedded one is shown beside it: what both share is not the model's.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rudder.bench.model_server.scripted_server import FAULTS, ScriptedServer
from rudder.bench.model_server.stand_in import MIXED, failing
from rudder.bench.planners_live import LivePlanner, compare_live, variant_of
from rudder.cli.show.bench import BenchProgress
from rudder.cli.show.progress import say
from rudder.training.config import run_config

VARIANTS = {name: variant_of(name) for name in ("none", "embedded", "llm")}


def measure(fault: str, *, options: argparse.Namespace, out: Path) -> list[LivePlanner]:
    """One job; options: of the command line."""
    chosen = next(each for each in (*FAULTS, MIXED) if each == fault)
    with ScriptedServer(failing(chosen)) as server:
        config = run_config(
            dataset=options.dataset,
            batch_size=options.batch_size,
            llm=server.url,
            llm_model="broken",
            llm_roles=("observer", "planner", "critic"),
            llm_deadline=options.deadline,
        )
        return compare_live(
            VARIANTS,
            config,
            rate=options.rate,
            turns=options.turns,
            jobs=1,
            out=out,
            say=say,
            progress=lambda plan: BenchProgress(plan, num_ranks=config.num_trainers, say=say),
        )


def line(fault: str, found: list[LivePlanner]) -> str:
    """One line of the table."""
    by = {each.planner: each for each in found}
    tails = [by[name].step_ms_p99 or 0.0 for name in VARIANTS]
    calls = sum(model.calls for model in by["llm"].models)
    ratio = by["llm"].to_embedded
    return (
        f"{fault:16} {calls:5} {tails[0]:8.1f} {tails[1]:8.1f} {tails[2]:8.1f}"
        f" {tails[2] - tails[0]:+9.1f} {tails[2] - tails[1]:+9.1f}"
        f" {ratio.median if ratio else 0.0:9.3f}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", default=f"hang,drip,huge,{MIXED}", help="or all")
    parser.add_argument("--dataset", default="synthetic:tiny")
    parser.add_argument("--rate", default="10mbit")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--deadline", type=float, default=0.5, help="seconds of a decision")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    out = options.out or Path("runs") / time.strftime("llm-steps-%Y%m%d-%H%M%S")
    faults = FAULTS if options.faults == "all" else options.faults.split(",")
    print("fault            calls p99 none embedded      llm    - none  - embed.  time / e.")
    for fault in faults:
        print(line(fault, measure(fault, options=options, out=out / fault)), flush=True)


if __name__ == "__main__":
    main()
