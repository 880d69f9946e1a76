"""Policies by name, for what a recording knows of its partition."""

from __future__ import annotations

from rudder.training.buffer.policy import Policy
from rudder.training.buffer.registry import PolicyOptions, make_policy, parse_variant
from rudder.training.settings import BufferSettings
from rudder.training.simulate.recording import Recording


def make_policy_of(text: str, recording: Recording, settings: BufferSettings) -> Policy:
    """Make the policy `name` or `name:key=value` for one recorded rank; raises ConfigError.

    A recording has no in-edges, so sources that need them (vip) are refused.
    """
    header = recording.header
    defaults = PolicyOptions(
        batch_size=header.batch_size, epoch_batches=header.batches_per_epoch, seed=header.rank
    )
    name, options = parse_variant(text, defaults)
    fresh = settings.model_copy(update={"replacement_interval": None})
    return make_policy(name, recording.view, fresh, options)
