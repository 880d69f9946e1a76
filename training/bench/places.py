"""The program of a benchmark's trainers, and what each of its variants has to itself.

Free of torch, since the program starts controllers first; `rank` has the measuring itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rudder.training.bench.plan import BenchPlan
from rudder.training.bench.variants import Variant
from rudder.training.config import RunConfig
from rudder.training.control.controller_process import start_early
from rudder.training.events import Emit
from rudder.training.job import Job
from rudder.training.steering_options import SteeringOptions

PROGRAM = __name__
"""The module that `launch` is told to run; see `rudder.training.process.program`."""


@dataclass(frozen=True)
class VariantPlace:
    """Of one variant in one trainer; steering: None where nobody steers it."""

    config: RunConfig
    socket: Path
    folder: Path
    steering: SteeringOptions | None


def place_of(job: Job, variant: Variant, *, rank: int) -> VariantPlace:
    """The place of a variant of a benchmark's job."""
    plan = plan_of(job)
    config = variant.config(job.config).model_copy(update={"epochs": plan.epochs_of_variant})
    socket, number = job.socket_of(rank), plan.variants.index(variant)
    return VariantPlace(
        config=config,
        socket=socket.with_stem(f"{socket.stem}-{number}"),
        folder=job.run_dir / plan.folder_of(variant),
        steering=job.model_copy(update={"config": config}).steering,
    )


def plan_of(job: Job) -> BenchPlan:
    """The plan that `launch` was given as the options of this program."""
    return BenchPlan.model_validate(job.program_options)


def start_controllers(job: Job, *, rank: int) -> None:
    """Start the controllers of all steered variants of this trainer."""
    for variant in plan_of(job).variants:
        place = place_of(job, variant, rank=rank)
        if place.steering is not None:
            start_early(place.socket, rank=rank, options=place.steering, folder=place.folder)


def run(job: Job, *, rank: int, emit: Emit) -> None:
    """Let all variants take their turns in this trainer, and report."""
    from rudder.training.bench.rank import run_bench

    run_bench(job, rank, emit)
