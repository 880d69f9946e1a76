"""What may be changed in a running trainer, and the messages that change it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

DEFAULT_BUFFER_FRACTION = 0.25
"""Of the halo: the published capacity; policies that fetch their rows in rounds begin with it."""
DEFAULT_LOOKAHEAD_BATCHES = 40
MAX_LOOKAHEAD_BATCHES = 1024
MAX_INTERVAL_BATCHES = 1_000_000


class Frozen(BaseModel):
    """A value that never changes. Unknown fields, which another version may write, are ignored."""

    model_config = ConfigDict(frozen=True)


class FrozenExact(Frozen, extra="forbid", allow_inf_nan=False):
    """A frozen value that refuses unknown fields, NaN and infinity."""


_NumRows = Annotated[int, Field(ge=0, le=2**31 - 1)]
_Threshold = Annotated[float, Field(ge=0.0, le=1.0)]
_Lookahead = Annotated[int, Field(ge=0, le=MAX_LOOKAHEAD_BATCHES)]
_Interval = Annotated[int, Field(ge=0, le=MAX_INTERVAL_BATCHES)]


class FetchTargets(FrozenExact, strict=True):
    """Rows to bring into the buffer eagerly, on top of a batch's own misses.

    `source` says how they are chosen: `observed` the most used rows that are not buffered,
    `degree` the halo nodes with most edges into this partition, `vip` those most likely to be
    sampled, `owner` the most used rows of the partition `owner`, `ids` exactly the global node
    ids in `ids`, `hot_set` the same for the hot set of an earlier run, the hottest first; without
    ids the one that this run's memory has.
    while_idle: a few rows at a time, while the loader waits for nothing else from other hosts;
    otherwise all of them with the next batch. A later request for idle times replaces an open one.
    """

    source: Literal["observed", "degree", "vip", "hot_set", "owner", "ids"]
    row_budget: Annotated[int, Field(ge=1, le=2**31 - 1)]
    owner: Annotated[int, Field(ge=0)] | None = None
    ids: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(max_length=100_000)] = ()
    while_idle: bool = False


class BufferSettings(FrozenExact, strict=True):
    """The settings in force in one trainer.

    replacement_interval: batches between replacement rounds, 0: on request only; None where the
    policy has no rounds.
    """

    capacity_rows: _NumRows
    eviction_threshold: _Threshold = 1.0
    lookahead_batches: _Lookahead = DEFAULT_LOOKAHEAD_BATCHES
    replacement_interval: _Interval | None = None


class Change(FrozenExact, strict=True):
    """A request to change settings; those that are None stay as they are."""

    capacity_rows: _NumRows | None = None
    eviction_threshold: _Threshold | None = None
    lookahead_batches: _Lookahead | None = None
    replacement_interval: _Interval | None = None
    fetch_targets: FetchTargets | None = None
    replace_now: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing would change."""
        return self == Change()

    def over(self, settings: BufferSettings) -> BufferSettings:
        """The settings after this change; fetch targets and replacement rounds are not settings."""
        names = BufferSettings.model_fields
        update = {name: value for name in names if (value := getattr(self, name)) is not None}
        return settings.model_copy(update=update)

    @classmethod
    def between(cls, old: BufferSettings, new: BufferSettings) -> Change:
        """The change from the old settings to the new ones; empty where they are equal."""
        names = BufferSettings.model_fields
        wanted = {name: getattr(new, name) for name in names}
        return cls(**{n: v for n, v in wanted.items() if v != getattr(old, n)})


Origin = Literal["user", "mcp", "controller"]


class Command(FrozenExact, strict=True):
    """One message to a trainer's control port; an empty change only asks for the state.

    origin: settings that a `user`, or a program for one (`mcp`), sends become the ones to fall back
    on, a `controller` is only heard while steering is on; issued_at_step: first step after what the
    change is based on; objection: why the sender found that it must not be made: the trainer
    refuses it, so that it is recorded.
    """

    command_id: Annotated[str, Field(min_length=1, max_length=64)]
    change: Change = Change()
    origin: Origin = "user"
    issued_at_step: Annotated[int, Field(ge=0)] | None = None
    objection: Annotated[str, Field(max_length=2000)] | None = None


class Applied(FrozenExact, strict=True):
    """The trainer's answer: the settings in force; step: the first one under them."""

    command_id: str
    outcome: Literal["applied", "refused"]
    rank: int
    step: int
    settings: BufferSettings
    reason: str | None = None
