"""The embedded observer: summarises the last windows, by plain code."""

from __future__ import annotations

from collections.abc import Sequence

from rudder.memory.records import Bottleneck, Observation
from rudder.tools.calls import NotReadyError
from rudder.tools.constants import HIDDEN_SHARE, MIN_WINDOWS
from rudder.tools.estimate.history import History
from rudder.tools.estimate.whatif import WhatIf
from rudder.tools.limits import Limits
from rudder.tools.readings import MetricsReading
from rudder.tools.toolbox import Toolbox
from rudder.training.metrics import StepTiming


class EmbeddedObserver:
    """Reads history and what-if; the same answer for the same windows."""

    name = "embedded"

    def __init__(self, *, estimates: bool = True) -> None:
        """estimates: whether to work out the headroom, which takes longest."""
        self._estimates = estimates

    async def observe(self, toolbox: Toolbox) -> Observation:
        """The observation; its bottleneck is `unknown` until a second window is there, for
        the first one begins with an empty buffer."""
        history = toolbox.history
        try:
            metrics = toolbox.read_metrics()
        except NotReadyError:
            return _nothing_yet(history, toolbox)
        peers = _peers(history)
        present, wait_ms = metrics.present, metrics.present.exposed_wait_ms
        is_first = len(history.windows) < MIN_WINDOWS
        return Observation(
            step=metrics.next_step,
            window=history.windows[-1].index,
            steps_left=metrics.steps_left,
            settings=history.settings,
            bottleneck="unknown" if is_first else _bottleneck(metrics, peers),
            trend=metrics.wait_trend,
            hit_fraction=present.hit_fraction,
            remote_rows=present.remote_rows,
            rows_fetched=present.rows_fetched,
            exposed_wait_ms=wait_ms,
            step_ms=present.step_ms,
            noise_rows=metrics.noise_rows,
            noise_wait_ms=metrics.noise_wait_ms,
            **(_headroom(toolbox.whatif, toolbox.limits) if self._estimates else _NO_HEADROOM),
            spare_ms=metrics.spare_ms,
            drift=history.drift,
            working_set_rows=_working_set_rows(history),
            peers=peers,
            sets_the_pace=_worst_wait_ms(peers) <= wait_ms + metrics.noise_wait_ms,
            row_ms=_row_ms(toolbox.whatif),
            max_capacity_rows=toolbox.limits.max_capacity_rows,
            turn=history.windows[-1].turn,
            times=present.times,
            noise_step_ms=history.noise.step_ms,
        )


def _nothing_yet(history: History, toolbox: Toolbox) -> Observation:
    return Observation(
        step=history.next_step,
        window=len(history.windows),
        steps_left=history.steps_left,
        settings=history.settings,
        bottleneck="unknown",
        trend="unknown",
        hit_fraction=None,
        remote_rows=0.0,
        rows_fetched=0.0,
        exposed_wait_ms=0.0,
        step_ms=0.0,
        noise_rows=0.0,
        noise_wait_ms=0.0,
        headroom_rows=None,
        headroom_wait_ms=None,
        spare_ms=None,
        drift=None,
        working_set_rows=None,
        max_capacity_rows=toolbox.limits.max_capacity_rows,
        hot_rows=toolbox.hot_rows,
    )


def _row_ms(whatif: WhatIf) -> float | None:
    cost = whatif.cost
    return cost.ms_per_row if cost is not None and cost.rows > 0 else None


def _bottleneck(metrics: MetricsReading, peers: Sequence[StepTiming]) -> Bottleneck:
    """What the trainer stands still for; of a loader that is late, what it spends longest on."""
    present = metrics.present
    if present.exposed_wait_ms <= HIDDEN_SHARE * present.step_ms:
        worst_ms = _worst_wait_ms(peers)
        return "peers" if worst_ms > HIDDEN_SHARE * present.step_ms else "none"
    return "network" if present.pull_ms >= present.sample_ms + present.assemble_ms else "loader"


def _peers(history: History) -> tuple[StepTiming, ...]:
    latest = history.latest
    return latest.peers if latest is not None else ()


def _worst_wait_ms(peers: Sequence[StepTiming]) -> float:
    return 1000 * max((peer.exposed_wait_seconds for peer in peers), default=0.0)


_NO_HEADROOM: dict[str, float | None] = {"headroom_rows": None, "headroom_wait_ms": None}


def _headroom(whatif: WhatIf, limits: Limits) -> dict[str, float | None]:
    """What OPT would save at the largest capacity; nothing known until there is a trace.

    Where the estimate is worse than what was measured, nothing is to be saved.
    """
    if not whatif.is_ready:
        return _NO_HEADROOM
    present, best = whatif.present(), whatif.opt(limits.max_capacity_rows)
    return {
        "headroom_rows": max(present.rows_fetched.mid - best.rows_fetched.mid, 0.0),
        "headroom_wait_ms": max(present.exposed_wait_ms.mid - best.exposed_wait_ms.mid, 0.0),
    }


def _working_set_rows(history: History) -> int | None:
    """Distinct remote nodes of the kept batches, estimated from the sampled ones."""
    if history.rate is None or not history.batches:
        return None
    return history.working_set_rows or 0
