"""The highest of many scores, without sorting them all."""

from __future__ import annotations

import numpy as np

from rudder.training.buffer.policy import IntArray
from rudder.training.buffer.vip import FloatArray


def highest(values: FloatArray, numbers: IntArray, count: int) -> IntArray:
    """Positions of the `count` highest values; of equal ones (to 9 decimals) the lower numbers."""
    count = min(count, len(values))
    values = np.round(values, 9)
    if count in (0, len(values)):
        return np.arange(count)
    last = np.partition(values, len(values) - count)[len(values) - count]
    above, ties = np.flatnonzero(values > last), np.flatnonzero(values == last)
    missing = count - len(above)
    if missing < len(ties):
        ties = ties[np.argpartition(numbers[ties], missing - 1)[:missing]]
    return np.concatenate([above, ties])
