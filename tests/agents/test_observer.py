"""What windows mean."""

from __future__ import annotations

import asyncio

import pytest

from rudder.agents.observer import EmbeddedObserver
from rudder.bench.simulated.access_traces import ZipfStream
from rudder.bench.simulated.trainer import Costs
from rudder.memory.records import Observation
from rudder.tools.estimate.history import History
from rudder.tools.toolbox import Toolbox
from rudder.training.metrics import StepTiming, Window
from rudder.training.settings import BufferSettings
from tests.agents.steered import toolbox_after, trainer_of

TINY = BufferSettings(capacity_rows=60, lookahead_batches=0)
FULL = BufferSettings(capacity_rows=6000, lookahead_batches=32)


def observe(toolbox: Toolbox) -> Observation:
    return asyncio.run(EmbeddedObserver().observe(toolbox))


def test_one_window_says_nothing() -> None:
    assert observe(toolbox_after(trainer_of(), windows=0)).bottleneck == "unknown"
    assert observe(toolbox_after(trainer_of(), windows=1)).bottleneck == "unknown"


def test_a_tiny_buffer_is_held_up_by_the_network_and_has_headroom() -> None:
    seen = observe(toolbox_after(trainer_of(TINY)))
    assert seen.bottleneck == "network"
    assert seen.times is not None
    assert seen.times.binds == "link"
    assert seen.has_headroom("time")
    assert seen.exposed_fraction > 0.3
    assert seen.step == 8 * 16
    assert seen.settings == TINY


def test_a_loader_that_samples_too_slowly_is_told_from_the_network() -> None:
    slow_sampler = Costs(sample_ms=60.0, row_ms=0.0)
    seen = observe(toolbox_after(trainer_of(FULL, costs=slow_sampler)))
    assert seen.bottleneck == "loader"
    assert seen.times is not None
    assert seen.times.binds == "loader"
    assert seen.times.loader_ms == pytest.approx(62.0)


def test_a_full_buffer_leaves_nothing_to_gain() -> None:
    seen = observe(toolbox_after(trainer_of(FULL), windows=20))
    assert seen.bottleneck == "none"
    assert seen.times is not None
    assert seen.times.binds == "model"
    assert seen.times.slack_ms > 10
    assert not seen.has_headroom("time")
    assert seen.spare_ms is not None
    assert seen.spare_ms > 0


def test_headroom_is_unknown_without_enough_accesses() -> None:
    seen = observe(toolbox_after(trainer_of(TINY), windows=2))
    assert seen.bottleneck == "network"
    assert seen.headroom_rows is None


@pytest.mark.parametrize(("peer_wait_s", "sets_the_pace"), [(0.5, False), (0.0, True)])
def test_the_rank_that_waits_longest_sets_the_pace(peer_wait_s: float, sets_the_pace: bool) -> None:
    toolbox = toolbox_after(trainer_of(FULL), windows=6)
    peer = StepTiming(rank=1, window=6, step_seconds=0.6, exposed_wait_seconds=peer_wait_s)
    toolbox.history.add(trainer_window_with(peer, toolbox))
    seen = observe(toolbox)
    assert seen.sets_the_pace is sets_the_pace
    assert seen.bottleneck == ("none" if sets_the_pace else "peers")


def trainer_window_with(peer: StepTiming, toolbox: Toolbox) -> Window:
    last = toolbox.history.windows[-1]
    step = last.first_step + last.num_steps
    return last.model_copy(update={"first_step": step, "peers": (peer,), "index": last.index + 1})


def test_drift_shows_when_other_nodes_become_popular() -> None:
    stream = ZipfStream(num_remote=6000, draws=600, phase_batches=160, exponent=1.2)
    trainer = trainer_of(stream=stream)
    history = History(trainer.workload)
    seen: list[float | None] = []
    for _ in range(12):
        history.add(trainer.window())
        seen.append(history.drift)
    assert seen[4] is None
    steady, changed = seen[9], seen[10]
    assert steady is not None
    assert changed is not None
    assert steady < 0.02
    assert changed > 0.05
