"""What settings bring, or are expected to bring."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Range(_Frozen):
    """A prediction: `low <= mid <= high`."""

    low: float
    mid: float
    high: float

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if not self.low <= self.mid <= self.high:
            raise ValueError(
                f"low <= mid <= high does not hold: {self.low}, {self.mid}, {self.high}"
            )
        return self


class Effect(_Frozen):
    """What settings bring per step of one trainer, once their buffer has filled.

    rows_fetched: rows over the network; exposed_wait_ms: the trainer standing still for data;
    buffer_bytes: memory of the buffer's rows.
    """

    rows_fetched: Range
    exposed_wait_ms: Range
    buffer_bytes: int
