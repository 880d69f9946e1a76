"""The order of measurement: each round has a turn of every variant, in an order of its own.

A turn is some epochs. Round 0 warms up buffers, memory and threads, and does not count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from rudder.bench.variants import Variant
from rudder.training.config import RunConfig
from rudder.training.control.controller_process import start_early
from rudder.training.events import Emit
from rudder.training.job import Job
from rudder.training.settings import Frozen
from rudder.training.steering_options import SteeringOptions

MAX_ROUNDS = 1000
"""And epochs of a turn: so many take days."""


@dataclass(frozen=True)
class Turn:
    """A turn of one variant: `num_epochs` epochs of the run from `first_epoch` on."""

    round: int
    variant: Variant
    first_epoch: int
    num_epochs: int

    @property
    def epochs(self) -> range:
        """The numbers of its epochs in the run."""
        return range(self.first_epoch, self.first_epoch + self.num_epochs)


class BenchPlan(Frozen):
    """A warm-up round, and `repeats` rounds that count."""

    variants: tuple[Variant, ...] = Field(min_length=1)
    repeats: int = Field(3, ge=1, le=MAX_ROUNDS)
    epochs_per_turn: int = Field(2, ge=1, le=MAX_ROUNDS)
    least_turn_steps: int = Field(0, ge=0)
    """A turn has more epochs where these have fewer steps than this."""

    def for_epochs_of(self, num_steps: int) -> BenchPlan:
        """The plan with turns that are long enough; num_steps: of an epoch."""
        least = math.ceil(self.least_turn_steps / max(1, num_steps))
        return self.model_copy(update={"epochs_per_turn": max(self.epochs_per_turn, least)})

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns, in order; each round begins with another variant than the one before."""
        order = [
            (number, self.variants[(number + place) % len(self.variants)])
            for number in range(self.repeats + 1)
            for place in range(len(self.variants))
        ]
        size = self.epochs_per_turn
        return tuple(Turn(number, who, i * size, size) for i, (number, who) in enumerate(order))

    @property
    def epochs_of_variant(self) -> int:
        """Epochs of a variant in all its turns."""
        return (self.repeats + 1) * self.epochs_per_turn

    def folder_of(self, variant: Variant) -> Path:
        """The folder of a variant's controllers, relative to the job's folder."""
        return Path("variants") / str(self.variants.index(variant))

    def turn_of(self, epoch: int) -> Turn:
        """The turn that an epoch of the run belongs to."""
        return self.turns[epoch // self.epochs_per_turn]


# The program of a benchmark's trainers, and what each of its variants has to itself.
#
# Free of torch, since the program starts controllers first; `rank` has the measuring itself.


PROGRAM = __name__
"""The module that `launch` is told to run; see `rudder.training.process.program`."""


@dataclass(frozen=True)
class VariantPlace:
    """What one variant in one trainer has to itself; steering: None if it is not steered."""

    config: RunConfig
    socket: Path
    folder: Path
    steering: SteeringOptions | None


def place_of(job: Job, variant: Variant, *, rank: int) -> VariantPlace:
    """The config, socket and folder of a variant in trainer `rank` of a benchmark's job."""
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
    from rudder.bench.rank import run_bench

    run_bench(job, rank, emit)
