"""What a loader tells of its run to whoever subscribes to its windows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import cast, get_args

from rudder.training.buffer.policy import Policy
from rudder.training.partition_view import PartitionView
from rudder.training.settings import Change, FetchTargets
from rudder.training.workload import Knob, PolicyName, RefusedKnob, Workload

KNOBS: tuple[Knob, ...] = get_args(Knob)


@dataclass(frozen=True)
class Known:
    """What a loader knows of its run, beside its partition and its policy; see Workload."""

    rank: int
    world_size: int
    policy_name: str
    row_bytes: int
    batch_size: int
    batches_per_epoch: int
    epochs: int | None
    fanouts: tuple[int, ...] | None
    max_buffer_rows: int


def introduce(view: PartitionView, policy: Policy, known: Known, *, run_key: str) -> Workload:
    """One trainer's run; its policy's settings, as they are now, are the defaults."""
    return Workload(
        run_key=run_key,
        rank=known.rank,
        world_size=known.world_size,
        trainers_on_host=trainers_on_host(),
        part=view.part,
        num_parts=len(view.starts) - 1,
        num_inner=view.num_inner,
        num_halo=len(view.halo),
        num_remote=view.num_remote,
        row_bytes=known.row_bytes,
        batch_size=known.batch_size,
        batches_per_epoch=known.batches_per_epoch,
        epochs=known.epochs,
        fanouts=known.fanouts,
        policy=cast("PolicyName", known.policy_name),
        defaults=policy.settings,
        max_buffer_rows=known.max_buffer_rows,
        refused_knobs=refused_knobs(policy),
    )


def trainers_on_host() -> int:
    """Trainers that share this host, as torch's launchers say; 1 where none has said."""
    text = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(int(text), 1) if text.isdecimal() else 1


def refused_knobs(policy: Policy) -> tuple[RefusedKnob, ...]:
    """The knobs that a policy has no use for, found by asking it about a change of each."""
    reasons = ((knob, policy.refusal(_sample(knob, policy))) for knob in KNOBS)
    return tuple(RefusedKnob(knob=knob, reason=reason) for knob, reason in reasons if reason)


def _sample(knob: Knob, policy: Policy) -> Change:
    """A change of this knob; rows to fetch need a buffer, and there may be none yet."""
    settings = policy.settings
    room = Change(capacity_rows=settings.capacity_rows or 1)
    needs_room = not settings.capacity_rows and policy.refusal(room) is None
    rows = room.capacity_rows if needs_room else None
    samples: dict[Knob, Change] = {
        "capacity_rows": room,
        "eviction_threshold": Change(eviction_threshold=0.5),
        "lookahead_batches": Change(lookahead_batches=settings.lookahead_batches),
        "replacement_interval": Change(replacement_interval=1),
        "fetch_targets": Change(
            capacity_rows=rows, fetch_targets=FetchTargets(source="observed", row_budget=1)
        ),
        "replace_now": Change(capacity_rows=rows, replace_now=True),
    }
    return samples[knob]
