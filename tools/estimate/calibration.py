"""Scales the share of sampled rows that are fetched up to all rows.

What the sample says is right but for which nodes it happens to hold. Two points of the way from
sample to truth are known: no buffer fetches everything, in both; and under settings that were
measured, the measured share stands against the sampled one. In between, lines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rudder.tools.constants import (
    BLOCK_BATCHES,
    LEARN_SHARE,
    MAX_CALIBRATION,
    MIN_BATCHES,
    MIN_WINDOWS,
    PRIOR_ERROR,
    PRIOR_ERROR_UNCALIBRATED,
)
from rudder.tools.estimate.means import sigma_of_few
from rudder.training.buffer.policy import IntArray
from rudder.training.metrics import Window
from rudder.training.settings import FrozenExact

if TYPE_CHECKING:
    from rudder.tools.estimate.sampled import SampledTrace


@dataclass(frozen=True)
class Share:
    """A share, and the standard error of it."""

    mid: float
    error: float

    @classmethod
    def of(cls, rows: IntArray, nodes: IntArray) -> Share:
        """int64[batches]: rows fetched, and sampled nodes used; the error from means of blocks."""
        blocks = np.arange(len(rows)) // BLOCK_BATCHES
        of_blocks = np.bincount(blocks, rows) / np.maximum(np.bincount(blocks, nodes), 1)
        sigma = sigma_of_few(float(np.var(of_blocks, ddof=1)), num_free=len(of_blocks) - 1)
        error = sigma / math.sqrt(len(of_blocks))
        return cls(float(rows.sum()) / float(nodes.sum()), error)

    def mixed(self, other: Share, *, weight: float) -> Share:
        """So much of the other, 0 to 1, in place of this one."""
        mid = (1 - weight) * self.mid + weight * other.mid
        return Share(mid, math.hypot((1 - weight) * self.error, weight * other.error))


class Learned(FrozenExact):
    """What an estimator keeps from decision to decision.

    sampled, measured: shares of rows fetched under settings that were in force, of the sampled
    rows and of all; equal ones calibrate nothing. is_measured: whether they come from windows;
    error_fraction: of past predictions of rows (one sigma), None: there was none.
    """

    sampled: float = 0.5
    measured: float = 0.5
    is_measured: bool = False
    error_fraction: float | None = None

    @property
    def error(self) -> float:
        """How wrong past predictions of rows were (one sigma), or a prior."""
        prior = PRIOR_ERROR if self.is_measured else PRIOR_ERROR_UNCALIBRATED
        return prior if self.error_fraction is None else self.error_fraction

    def from_outcome(self, rows_error: float) -> Learned:
        """With what came of an estimate: by which share more rows were fetched."""
        mixed = (1 - LEARN_SHARE) * self.error + LEARN_SHARE * min(abs(rows_error), 1.0)
        return self.model_copy(update={"error_fraction": mixed})

    def from_windows(
        self, sampled_rows: IntArray, trace: SampledTrace, windows: tuple[Window, ...]
    ) -> Learned:
        """Compare a replay under the settings in force with settled windows under them.

        sampled_rows: int64[num_batches]. The same where too few windows and batches meet.
        """
        begin = 0 if trace.first_step == 0 else MIN_BATCHES
        begin = min(begin, trace.num_batches // 2)
        rows = nodes = fetched = remote = used = 0
        for window in windows:
            batches = trace.of_window(window)
            if batches is None or batches.start < begin:
                continue
            rows += int(sampled_rows[batches].sum())
            nodes += int(trace.widths[batches].sum())
            fetched += window.rows.rows_fetched.miss + window.rows.rows_fetched.target
            remote += window.rows.remote_rows
            used += 1
        if used < MIN_WINDOWS or not (0 < rows < nodes and 0 < fetched < remote):
            return self
        sampled, measured = rows / nodes, fetched / remote
        low, high = sampled / MAX_CALIBRATION, 1 - (1 - sampled) / MAX_CALIBRATION
        return Learned(
            sampled=sampled,
            measured=min(max(measured, low), high),
            is_measured=True,
            error_fraction=self.error_fraction,
        )

    def share(self, sampled: float) -> float:
        """Share of all remote rows that is fetched, for a share of the sampled ones; it rises
        with it, from 0 to 1 (targets may lift it above)."""
        if sampled <= self.sampled:
            return sampled * self.measured / self.sampled
        return self.measured + (sampled - self.sampled) * (1 - self.measured) / (1 - self.sampled)
