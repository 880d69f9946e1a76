"""What the variants of a benchmark's job have each to itself, before any of them is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rudder.training.bench.variants import Variant
from rudder.training.config import RunConfig
from rudder.training.job import Job
from rudder.training.steering_options import SteeringOptions


@dataclass(frozen=True)
class VariantPlace:
    """Of one variant in one trainer; steering: None where nobody steers it."""

    config: RunConfig
    socket: Path
    folder: Path
    steering: SteeringOptions | None


def place_of(job: Job, variant: Variant, *, rank: int) -> VariantPlace:
    """The place of a variant of `job.bench`."""
    assert job.bench is not None
    config = variant.config(job.config).model_copy(update={"epochs": job.bench.epochs_of_variant})
    socket, number = job.socket_of(rank), job.bench.variants.index(variant)
    return VariantPlace(
        config=config,
        socket=socket.with_stem(f"{socket.stem}-{number}"),
        folder=job.run_dir / job.bench.folder_of(variant),
        steering=job.model_copy(update={"config": config}).steering,
    )
