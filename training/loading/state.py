"""Where a loader stands between two batches, so that another one can go on from there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from rudder.training.buffer.policy import IntArray, Policy
from rudder.training.errors import ConfigError
from rudder.training.settings import BufferSettings, Change, FetchTargets

_MAX_TARGETS = 100_000
"""Ids that one FetchTargets may have."""


@dataclass(frozen=True)
class LoaderState:
    """A loader's place in its run, and what its buffer is like.

    epoch: of the next batch, counted from 0; batch: batches of that epoch that are done; step:
    number of the next batch in the run; window: number of the next window; run_key: name of the
    run in its record, None where nothing is recorded; settings: those in force; buffered: int64[n],
    global ids of the nodes whose rows are buffered.
    """

    epoch: int
    batch: int
    step: int
    window: int
    run_key: str | None
    settings: BufferSettings
    buffered: IntArray = field(
        default_factory=lambda: np.empty(0, dtype=np.int64), compare=False, repr=False
    )


BEGINNING = LoaderState(
    epoch=0, batch=0, step=0, window=0, run_key=None, settings=BufferSettings(capacity_rows=0)
)
"""Where a loader stands that begins; its settings are its own."""


def check_resumable(state: LoaderState, *, seed: int | None, num_batches: int) -> None:
    """Raise ConfigError where a loader cannot go on from this state."""
    if state is BEGINNING:
        return
    if seed is None:
        raise ConfigError.for_field(
            "seed",
            value=seed,
            allowed="the seed of the loader whose state this is",
            remedy="pass the same seed to both loaders: an order from torch cannot be found again",
        )
    if not 0 <= state.batch <= num_batches:
        raise ConfigError.for_field(
            "resume_from.batch",
            value=state.batch,
            allowed=f"0 to {num_batches}, the batches of an epoch",
            remedy="pass the same nodes and batch_size as to the loader whose state this is",
        )


def restore(policy: Policy, state: LoaderState, *, max_rows: int) -> None:
    """Put the state's settings in force, and have the rows that were buffered fetched again.

    max_rows: the capacity that this host allows, which may be less than the earlier one did.
    """
    rows = min(state.settings.capacity_rows, max_rows)
    wanted = state.settings.model_copy(update={"capacity_rows": rows})
    for change in _changes(policy.settings, wanted, state.buffered[:rows]):
        if not change.is_empty and policy.refusal(change) is None:
            policy.apply(change)


def _changes(now: BufferSettings, wanted: BufferSettings, nodes: IntArray) -> Iterator[Change]:
    yield Change.between(now, wanted)
    for start in range(0, len(nodes), _MAX_TARGETS):
        ids = tuple(nodes[start : start + _MAX_TARGETS].tolist())
        yield Change(fetch_targets=FetchTargets(source="ids", row_budget=len(ids), ids=ids))
