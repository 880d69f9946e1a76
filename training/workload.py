"""The facts of a trainer's run on which steering its buffer depends."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from rudder.training.plugins import ChosenName, Plugins
from rudder.training.settings import BufferSettings, Frozen

Knob = Literal[
    "capacity_rows",
    "eviction_threshold",
    "lookahead_batches",
    "replacement_interval",
    "fetch_targets",
    "replace_now",
]
LivePolicy = Literal["lookahead", "score", "static", "lfu", "none"]
"""The policies that a run can train with."""
POLICY_CHOICES = (
    f"{', '.join(get_args(LivePolicy))} (lru, s3fifo and sieve: only in `rudder simulate`)"
)
PolicyName = Literal["lookahead", "score", "static", "lru", "lfu", "s3fifo", "sieve", "none"]
"""The policies that a record may name; runs of earlier versions trained with all of these."""
OWN_POLICIES = Plugins("rudder.policies", field="policy", ours=get_args(PolicyName))
ROUND_POLICIES: tuple[PolicyName, ...] = ("score", "static")
"""They admit no row that passes by; a round fetches what is to enter, all at once."""


class RefusedKnob(Frozen):
    """A knob that this trainer's policy has no use for, and why."""

    knob: Knob
    reason: str


class Workload(Frozen):
    """One trainer's run, sent once to each client that subscribes to its windows.

    It has numbers and Rudder's own names only, so that it may be shown to a language model; but for
    the policy, which a person may have chosen from another package (`shown_policy`).

    run_key: random hexadecimal name of the run, the same on all ranks; num_halo, num_remote:
    nodes of other partitions within one hop, and all of them; row_bytes: of one node's inputs;
    epochs: None where the script did not say; fanouts: input layer first, None where a sampler of
    the user's draws; defaults: the settings that the run began with, and falls back on.
    """

    run_key: str
    rank: int
    world_size: int
    trainers_on_host: int = 1
    part: int
    num_parts: int
    num_inner: int
    num_halo: int
    num_remote: int
    row_bytes: int
    batch_size: int
    batches_per_epoch: int
    epochs: int | None
    fanouts: tuple[int, ...] | None
    policy: ChosenName
    defaults: BufferSettings
    max_buffer_rows: int = Field(
        description="rows that this trainer's share of the host's memory holds"
    )
    refused_knobs: tuple[RefusedKnob, ...] = ()

    @property
    def num_steps(self) -> int | None:
        """Steps of the whole run, where the number of epochs is known."""
        return None if self.epochs is None else self.epochs * self.batches_per_epoch

    @property
    def shown_policy(self) -> str:
        """The policy as a language model is told of it."""
        return "own" if OWN_POLICIES.is_own(self.policy) else self.policy

    def refusal(self, knob: Knob) -> str | None:
        """Why the policy has no use for a knob, or None."""
        return next((each.reason for each in self.refused_knobs if each.knob == knob), None)
