"""A window as the trainer leaves it; what takes time is added by the thread that sends it."""

from __future__ import annotations

from dataclasses import dataclass

from rudder.training.access_slice import AccessSlice, NodeArray
from rudder.training.control.memory_quota import NO_ALLOTMENT, Allotment, NoAllotment
from rudder.training.control.peers import NoPeers, Peers
from rudder.training.metrics import StepTiming, Window


@dataclass(frozen=True)
class SampledAccesses:
    """int32[n] sampled remote numbers of each batch of a window, and the share sampled."""

    rate: float
    batches: tuple[NodeArray, ...]


@dataclass(frozen=True)
class FinishedWindow:
    """A window, and what is to be packed into it."""

    window: Window
    accesses: SampledAccesses | None = None

    def completed(
        self, peers: Peers | NoPeers, *, allotment: Allotment | NoAllotment = NO_ALLOTMENT
    ) -> Window:
        """The window as subscribers get it; tells the other ranks this one's pace and stake."""
        update: dict[str, object] = {}
        if (pace := self._pace()) is not None:
            told = pace.model_copy(update={"stake": allotment.stake(pace)})
            update["peers"] = heard = peers.exchange(told)
            allotment.hear(pace, heard)
        update["allotted_rows"] = allotment.offered_rows
        if self.accesses is not None:
            update["accesses"] = AccessSlice.of(self.accesses.batches, rate=self.accesses.rate)
        return self.window.model_copy(update=update)

    def _pace(self) -> StepTiming | None:
        window = self.window
        if window.wall_seconds is None:
            return None
        return StepTiming(
            rank=window.rank,
            window=window.index,
            step_seconds=window.wall_seconds / window.num_steps,
            exposed_wait_seconds=window.stalled_seconds / window.num_steps,
        )
