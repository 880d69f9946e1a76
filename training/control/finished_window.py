"""A metrics window as the training thread leaves it; the control thread adds what takes time."""

from __future__ import annotations

from dataclasses import dataclass

from rudder.training.control.peers import NoPeers, Peers
from rudder.training.metrics import AccessSlice, NodeArray, Window


@dataclass(frozen=True)
class SampledAccesses:
    """int32[n] sampled remote numbers of each batch of a window, and the share sampled."""

    rate: float
    batches: tuple[NodeArray, ...]


@dataclass(frozen=True)
class FinishedWindow:
    """A window, and the accesses that are still to be packed into it."""

    window: Window
    accesses: SampledAccesses | None = None

    def completed(self, peers: Peers | NoPeers) -> Window:
        """The window that subscribers get, with packed accesses and the other ranks' paces."""
        update: dict[str, object] = {}
        if (pace := self.window.pace) is not None:
            update["peers"] = peers.exchange(pace)
        if self.accesses is not None:
            update["accesses"] = AccessSlice.of(self.accesses.batches, rate=self.accesses.rate)
        return self.window.model_copy(update=update)
