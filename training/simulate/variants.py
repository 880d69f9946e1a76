"""All policies by name: those of runs, and those that only the simulator has."""

from __future__ import annotations

from rudder.training.buffer.policy import Policy
from rudder.training.buffer.registry import POLICIES, PolicyOptions, make_policy, parse_variant
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings
from rudder.training.simulate.history_policies import QUEUES, HistoryBuffer
from rudder.training.simulate.recording import Recording

SIMULATED_POLICIES = (*POLICIES, *QUEUES)


def make_simulated(
    name: str,
    view: PartitionView,
    settings: BufferSettings,
    options: PolicyOptions | None = None,
) -> Policy:
    """Make the policy of that name; raises ConfigError if there is none, or it lacks something."""
    if name in QUEUES:
        return HistoryBuffer(name, settings, num_remote=view.num_remote)
    return make_policy(name, view, settings, options or PolicyOptions())


def parse_simulated(text: str, defaults: PolicyOptions | None = None) -> tuple[str, PolicyOptions]:
    """Read a variant as `parse_variant` does, of any policy; raises ConfigError."""
    return parse_variant(text, defaults, allowed=SIMULATED_POLICIES)


def make_policy_of(text: str, recording: Recording, settings: BufferSettings) -> Policy:
    """Make the policy `name` or `name:key=value` for one recorded rank; raises ConfigError.

    A recording has no in-edges, so sources that need them (vip) are refused.
    """
    header = recording.header
    defaults = PolicyOptions(
        batch_size=header.batch_size, epoch_batches=header.batches_per_epoch, seed=header.rank
    )
    name, options = parse_simulated(text, defaults)
    fresh = settings.model_copy(update={"replacement_interval": None})
    return make_simulated(name, recording.view, fresh, options)
