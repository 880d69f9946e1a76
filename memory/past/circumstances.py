"""The circumstances of a decision as a few normalised numbers, so that they can be compared."""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from rudder.memory.records import Observation
from rudder.training.errors import shown
from rudder.training.workload import Workload

Vector = NDArray[np.uint8]

UNIT = 64
"""Steps of a stored feature from 0 to 1; circumstances that are equal in these are equal."""
_MAX = 255
_UNKNOWN = 0.5

NAMES = (
    "hit share",
    "exposed share",
    "capacity over working set",
    "misses per batch",
    "steps left",
    "headroom",
    "lookahead",
    "eviction threshold",
    "halo nodes",
    "batch size",
    "row bytes",
    "trainers",
    "link",
    "memory",
)
NUM_FEATURES = len(NAMES)


def circumstances(observation: Observation, workload: Workload) -> Vector:
    """uint8[NUM_FEATURES], in 1/64 of a feature's usual range; what is not known lies half way.

    Shares count as they are, sizes by their logarithm, so that twice as many is as far at every
    size. What the work is (halo, batch, rows, trainers), how fast the link is and how much memory
    there is for it weigh as what was seen of it.
    """
    settings = observation.settings
    working_set = observation.working_set_rows or workload.num_halo
    headroom = observation.headroom_rows
    room = observation.max_capacity_rows or workload.max_buffer_rows
    features = (
        observation.hit_fraction,
        2 * observation.exposed_fraction,
        settings.capacity_rows / working_set if working_set else None,
        _size(observation.rows_fetched, range_=1e6),
        _size(observation.steps_left, range_=1e6),
        headroom / observation.rows_fetched if headroom and observation.rows_fetched else headroom,
        _size(settings.lookahead_batches, range_=1024),
        settings.eviction_threshold,
        _size(workload.num_halo, range_=1e8),
        _size(workload.batch_size, range_=1e5),
        _size(workload.row_bytes, range_=1e5),
        _size(workload.world_size, range_=1e3),
        _size(_us_per_row(observation), range_=1e3),
        min(room / workload.num_remote, 1.0) if workload.num_remote else None,
    )
    known = np.array([_UNKNOWN if value is None else value for value in features])
    stored: Vector = np.rint(np.clip(known, 0, _MAX / UNIT) * UNIT).astype(np.uint8)
    return stored


def distance(vector: Vector, stored: bytes) -> float:
    """Euclidean, in features' usual ranges; 0 for equal circumstances."""
    difference = vector / UNIT - np.frombuffer(completed(stored), dtype=np.uint8) / UNIT
    return math.sqrt(float(difference @ difference))


def completed(stored: object) -> bytes:
    """A stored vector with the features that its version did not have yet, as unknown; raises
    ValueError for what is none."""
    if not isinstance(stored, bytes):
        raise ValueError(f"circumstances are damaged: {shown(stored)}")
    return stored.ljust(NUM_FEATURES, bytes([round(_UNKNOWN * UNIT)]))


def signature(workload: Workload) -> str:
    """Equal for equal work: the same partition, batches, fan-outs and policy, in any run."""
    parts = (
        workload.policy,
        workload.world_size,
        workload.part,
        workload.num_parts,
        workload.num_inner,
        workload.num_halo,
        workload.num_remote,
        workload.row_bytes,
        workload.batch_size,
        workload.batches_per_epoch,
        workload.fanouts,
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _us_per_row(observation: Observation) -> float | None:
    return None if observation.row_ms is None else 1000 * observation.row_ms


def _size(value: float | None, *, range_: float) -> float | None:
    return None if value is None else math.log1p(max(value, 0)) / math.log1p(range_)
