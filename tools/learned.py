"""What the what-if estimator learned from earlier windows and outcomes, as plain numbers."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Learned(BaseModel):
    """sampled, measured: the two shares of rows fetched that calibrate, as in calibration.py;
    is_measured: whether they come from windows; error_fraction: of past predictions, None: there
    was none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sampled: float
    measured: float
    is_measured: bool
    error_fraction: float | None
