"""Recording a loader's run: its policy, with every call to it written to a trace."""

from __future__ import annotations

from pathlib import Path

from rudder.training.buffer.policy import Policy
from rudder.training.loading.introduction import Known
from rudder.training.partition_view import PartitionView
from rudder.training.trace import RecordedPolicy, TraceHeader, TraceWriter


class NoTrace:
    """Nothing is recorded."""

    def close(self) -> None:
        """Do nothing."""


def recorded(
    policy: Policy, path: Path | None, view: PartitionView, known: Known
) -> tuple[Policy, TraceWriter | NoTrace]:
    """The policy as it is to be used, and what is to be closed at the end."""
    if path is None:
        return policy, NoTrace()
    header = TraceHeader(
        rank=known.rank,
        part=view.part,
        starts=tuple(view.starts.tolist()),
        num_halo=len(view.halo),
        row_bytes=known.row_bytes,
        batch_size=known.batch_size,
        batches_per_epoch=known.batches_per_epoch,
        fanouts=known.fanouts,
        policy=known.policy_name,
        settings=policy.settings,
    )
    writer = TraceWriter(path, header, view)
    return RecordedPolicy(policy, writer), writer
