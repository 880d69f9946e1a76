"""How remote nodes are used: reuse, hot nodes, nodes used once, drift."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rudder.tools.constants import PRESENT_WINDOWS
from rudder.tools.estimate.history import History
from rudder.tools.estimate.sampled import SampledTrace
from rudder.tools.readings import ReuseReading
from rudder.training.buffer.policy import IntArray

_BINS = (1, 4, 16, 64)
_HOT_SHARE = 0.1


def once_only_fraction(trace: SampledTrace) -> float:
    """Of the distinct nodes, the share that one batch only uses."""
    return float(np.mean(_uses(trace) == 1))


def hot_fraction(trace: SampledTrace) -> float:
    """Share of the accesses that go to the tenth of the nodes used most."""
    uses = np.sort(_uses(trace))[::-1]
    top = max(round(_HOT_SHARE * len(uses)), 1)
    return float(uses[:top].sum() / uses.sum())


def reuse(trace: SampledTrace) -> ReuseReading:
    """Distances of uses to the last ones, in batches, as shares of all accesses."""
    batches = np.repeat(np.arange(trace.num_batches), trace.widths)
    nodes = _real(trace)
    order = np.argsort(nodes, kind="stable")
    same = np.diff(nodes[order]) == 0
    distances = np.diff(batches[order])[same]
    counts = np.histogram(distances, bins=[0.5, *(edge + 0.5 for edge in _BINS), np.inf])[0]
    shares = counts / max(len(nodes), 1)
    return ReuseReading(
        first_seen=1 - len(distances) / max(len(nodes), 1),
        within_1=shares[0],
        within_4=shares[1],
        within_16=shares[2],
        within_64=shares[3],
        longer=shares[4],
    )


def drift(history: History) -> float | None:
    """Share of the last window's sampled nodes that the four windows before it did not use, less
    the share that is usual (that of the window before), 0 to 1; None while windows are too few."""
    latest = history.latest
    if latest is None or not history.batches:
        return None
    steps = max(latest.num_steps, 1)
    span = (PRESENT_WINDOWS + 2) * steps
    if len(history.batches) < span:
        return None
    nodes = [batch.nodes for batch in history.batches[-span:]]
    usual = _new_share(nodes[steps:-steps], nodes[: -2 * steps], last=steps)
    now = _new_share(nodes[2 * steps :], nodes[steps:-steps], last=steps)
    return float(np.clip(now - usual, 0.0, 1.0))


def _new_share(batches: Sequence[IntArray], before: Sequence[IntArray], *, last: int) -> float:
    """Share of the nodes of the `last` batches that are not in those before."""
    nodes = np.concatenate(batches[-last:])
    if not len(nodes):
        return 0.0
    return float(np.mean(~np.isin(nodes, np.concatenate(before))))


def _real(trace: SampledTrace) -> IntArray:
    return trace.nodes[: trace.bounds[trace.num_batches]]


def _uses(trace: SampledTrace) -> IntArray:
    return np.bincount(_real(trace), minlength=trace.num_nodes)
