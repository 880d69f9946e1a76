"""What a classifier sees of a decision: normalised numbers of the observation and the change."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from rudder.memory.circumstances import NAMES, UNIT, circumstances
from rudder.memory.records import Observation
from rudder.training.settings import Change
from rudder.training.workload import PolicyName, Workload

Features = NDArray[np.float32]

_POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
_OF_OBSERVATION = (*NAMES, "drift", "spare share", "capacity share")
_OF_CHANGE = (
    "capacity change",
    "new capacity over working set",
    "lookahead change",
    "threshold change",
    "interval set",
    "round now",
    "rows targeted",
)
FEATURES = (*_OF_OBSERVATION, *_OF_CHANGE, *(f"policy {name}" for name in _POLICIES))
"""Names, in order; a model file holds them, and serves only where they are the same."""
_MAX_DOUBLINGS = 8.0
_MAX_SHARE = 4.0


def features_of(observation: Observation, *, change: Change, workload: Workload) -> Features:
    """float32[len(FEATURES)]; what is not known is 0, or half way where circumstances says so.

    Nothing that an estimator predicts is among them: a classifier learns from measurements alone.
    """
    return np.array(
        [
            *(circumstances(observation, workload) / UNIT),
            observation.drift or 0.0,
            _spare_share(observation),
            _clipped(observation.settings.capacity_rows / max(workload.num_remote, 1), _MAX_SHARE),
            *_of_change(observation, change, workload),
            *(float(workload.policy == name) for name in _POLICIES),
        ],
        dtype=np.float32,
    )


def _spare_share(observation: Observation) -> float:
    if observation.spare_ms is None or observation.step_ms <= 0:
        return 0.0
    return _clipped(observation.spare_ms / observation.step_ms, _MAX_SHARE)


def _of_change(observation: Observation, change: Change, workload: Workload) -> list[float]:
    old, new = observation.settings, change.over(observation.settings)
    working_set = observation.working_set_rows or workload.num_halo or 1
    targets = change.fetch_targets
    return [
        _doublings(old.capacity_rows, new.capacity_rows),
        _clipped(new.capacity_rows / working_set, _MAX_SHARE),
        _doublings(old.lookahead_batches, new.lookahead_batches),
        new.eviction_threshold - old.eviction_threshold,
        float(change.replacement_interval is not None),
        float(change.replace_now),
        0.0 if targets is None else _clipped(targets.row_budget / working_set, _MAX_SHARE),
    ]


def _doublings(old: float, new: float) -> float:
    """How many times as much, as a power of two."""
    return _clipped(math.log2((new + 1) / (old + 1)), _MAX_DOUBLINGS)


def _clipped(value: float, most: float) -> float:
    return min(max(value, -most), most)
