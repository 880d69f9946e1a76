"""How remote nodes are used: reuse, hot nodes, nodes used once, drift."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rudder.tools.estimate.sampled import SampledBatch, SampledTrace
from rudder.tools.readings import ReuseReading
from rudder.training.buffer.policy import IntArray

_BINS = (1, 4, 16, 64)
_HOT_SHARE = 0.1
_DRIFT_BEFORE = 8
"""Windows of the past that a window is compared with, where there are so many."""
_MIN_DRIFT_WINDOWS = 3


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


def drift(batches: Sequence[SampledBatch], *, window: int) -> float | None:
    """How much more of the last window's nodes are new than usual, 0 to 1.

    New: not used in the windows before, eight at most; usual: the median of the earlier windows,
    each against as many before it. window: batches of one. None where there are too few.
    """
    count = len(batches) // window if window else 0
    if count < _MIN_DRIFT_WINDOWS:
        return None
    recent = batches[len(batches) - count * window :]
    windows = [
        np.unique(np.concatenate([each.nodes for each in recent[at : at + window]]))
        for at in range(0, len(recent), window)
    ]
    before = min(_DRIFT_BEFORE, count // 2)
    novelty = [_new_share(windows[at], windows[at - before : at]) for at in range(before, count)]
    if len(novelty) < 2:
        return None
    return max(novelty[-1] - float(np.median(novelty[:-1])), 0.0)


def _new_share(nodes: IntArray, before: Sequence[IntArray]) -> float:
    if not len(nodes):
        return 0.0
    return float(np.mean(~np.isin(nodes, np.concatenate(before))))


def _real(trace: SampledTrace) -> IntArray:
    return trace.nodes[: trace.bounds[trace.num_batches]]


def _uses(trace: SampledTrace) -> IntArray:
    return np.bincount(_real(trace), minlength=trace.num_nodes)
