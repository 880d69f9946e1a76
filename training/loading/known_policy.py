"""A loader's policy, made with what is known of its run."""

from __future__ import annotations

from dataclasses import replace

from rudder.training.buffer.capacity import capacity_of
from rudder.training.buffer.policy import Policy
from rudder.training.buffer.registry import PolicyOptions, make_policy
from rudder.training.config import BufferSize
from rudder.training.errors import ConfigError
from rudder.training.loading.introduction import Known
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings, Change


def policy_of(
    known: Known,
    view: PartitionView,
    *,
    buffer: str | float | BufferSize,
    lookahead: int,
    eviction_threshold: float | None,
    options: PolicyOptions,
) -> Policy:
    """The policy that the run names; raises ConfigError, MachineError where it cannot be.

    buffer: what the user asked for; options: what is known of the run is filled in.
    """
    rows = capacity_of(
        buffer if known.policy_name != "none" else "0",
        view,
        row_bytes=known.row_bytes,
        max_rows=known.max_buffer_rows,
        rank=known.rank,
    )
    filled_in = replace(
        options,
        fanouts=known.fanouts,
        batch_size=known.batch_size,
        epoch_batches=known.batches_per_epoch,
    )
    settings = BufferSettings(capacity_rows=rows, lookahead_batches=lookahead)
    change = Change(eviction_threshold=eviction_threshold)
    policy = make_policy(known.policy_name, view, _with(change, settings), filled_in)
    if (reason := policy.refusal(change)) is not None:
        raise ConfigError(reason, remedy="leave out eviction_threshold, or use another policy")
    return policy


def _with(change: Change, settings: BufferSettings) -> BufferSettings:
    """Settings that are not given stay unset: some policies have defaults of their own."""
    return settings if change.is_empty else change.over(settings)
