"""The arguments of the tools, checked strictly: what is missing, extra or not finite is refused.

Flat, without defaults in the write tools: an empty call must never be a valid one. Where an
argument does not apply there is a value that says so.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rudder.tools.effects import Range
from rudder.training.settings import (
    MAX_INTERVAL_BATCHES,
    MAX_LOOKAHEAD_BATCHES,
    Change,
    FetchTargets,
)

MAX_ROWS = 2**31 - 1
_MAX_EXPECTED = 1e12
_MAX_IDS = 1000

Capacity = Annotated[int, Field(ge=0, le=MAX_ROWS, description="rows the buffer holds")]
Threshold = Annotated[
    float,
    Field(ge=0, le=1, description="uses per batch; rows used less may be displaced, 1: every row"),
]
Lookahead = Annotated[
    int, Field(ge=0, le=MAX_LOOKAHEAD_BATCHES, description="batches sampled ahead")
]
Interval = Annotated[
    int,
    Field(ge=0, le=MAX_INTERVAL_BATCHES, description="batches between rounds, 0: on request only"),
]
ExpectedRows = Annotated[
    float, Field(ge=0, le=_MAX_EXPECTED, description="expected rows fetched per step")
]
ExpectedWait = Annotated[
    float, Field(ge=0, le=_MAX_EXPECTED, description="expected exposed wait per step, ms")
]


class Arguments(BaseModel):
    """Arguments of any tool."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class WriteArguments(Arguments):
    """What every write tool is told: the effect that is expected once the buffer has filled."""

    expected_rows_low: ExpectedRows
    expected_rows_high: ExpectedRows
    expected_wait_ms_low: ExpectedWait
    expected_wait_ms_high: ExpectedWait
    reason: Annotated[str, Field(min_length=1, max_length=300, description="why, in one sentence")]

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.expected_rows_low > self.expected_rows_high:
            raise ValueError("expected_rows_low is above expected_rows_high")
        if self.expected_wait_ms_low > self.expected_wait_ms_high:
            raise ValueError("expected_wait_ms_low is above expected_wait_ms_high")
        return self

    @property
    def expected_rows(self) -> Range:
        """Rows fetched per step, the middle of both ends as `mid`."""
        return _range(self.expected_rows_low, self.expected_rows_high)

    @property
    def expected_wait_ms(self) -> Range:
        """Exposed wait per step."""
        return _range(self.expected_wait_ms_low, self.expected_wait_ms_high)

    def change(self) -> Change:
        """The change that is asked for: of the knobs that the tool has."""
        knobs = self.model_dump(include=set(Change.model_fields))
        return Change(**knobs)


class SetBufferCapacity(WriteArguments):
    """Another capacity."""

    capacity_rows: Capacity


class SetEvictionThreshold(WriteArguments):
    """Another threshold."""

    eviction_threshold: Threshold


class SetLookahead(WriteArguments):
    """Another lookahead."""

    lookahead_batches: Lookahead


class SetReplacementInterval(WriteArguments):
    """Another interval of rounds."""

    replacement_interval: Interval


class SetFetchTargets(WriteArguments):
    """Rows to fetch eagerly, once."""

    source: Literal["observed", "degree", "vip", "hot_set", "owner", "ids"]
    row_budget: Annotated[int, Field(ge=1, le=MAX_ROWS, description="rows at most")]
    owner: Annotated[
        int, Field(ge=0, le=MAX_ROWS, description="partition, for source owner; otherwise 0")
    ]
    ids: Annotated[
        list[Annotated[int, Field(ge=0)]],
        Field(
            max_length=_MAX_IDS,
            description="global node ids, for sources ids and hot_set; otherwise empty",
        ),
    ]

    def change(self) -> Change:
        """The change that is asked for."""
        owner = self.owner if self.source == "owner" else None
        targets = FetchTargets(
            source=self.source, row_budget=self.row_budget, owner=owner, ids=tuple(self.ids)
        )
        return Change(fetch_targets=targets)


class ReplaceNow(WriteArguments):
    """One replacement round."""

    def change(self) -> Change:
        """The change that is asked for."""
        return Change(replace_now=True)


class KeepCurrent(WriteArguments):
    """No change."""


class NoArguments(Arguments):
    """A read tool that needs to be told nothing."""


class ReadMetrics(Arguments):
    """How far back to look."""

    num_windows: Annotated[int, Field(ge=1, le=16, description="windows, the last ones")]


class RecallEpisodes(Arguments):
    """How many to recall."""

    num_episodes: Annotated[int, Field(ge=1, le=10, description="episodes, the nearest ones")]


class EstimateEffect(Arguments):
    """Settings to try; the present value leaves a knob as it is."""

    capacity_rows: Capacity
    eviction_threshold: Threshold
    lookahead_batches: Lookahead
    replacement_interval: Annotated[
        int,
        Field(ge=0, le=MAX_INTERVAL_BATCHES, description="0 where the policy has no rounds"),
    ]
    fetch_row_budget: Annotated[
        int, Field(ge=0, le=MAX_ROWS, description="most used rows fetched eagerly, 0: none")
    ]
    replace_now: Annotated[bool, Field(description="whether to run one replacement round")]


def _range(low: float, high: float) -> Range:
    return Range(low=low, mid=min(max((low + high) / 2, low), high), high=high)
