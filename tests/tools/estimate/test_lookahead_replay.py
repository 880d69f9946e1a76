"""The compiled replay decides as the policy does."""

from __future__ import annotations

import numpy as np
import pytest

from rudder.tools.estimate.lookahead_replay import KnownUses, lookahead_misses
from rudder.tools.estimate.past_uses import Heat, PastUses
from rudder.training.buffer.policy import IntArray
from rudder.training.settings import BufferSettings
from tests.tools.plain_replay import PlainReplay
from tests.tools.runs import replay, zipf

NUM_NODES = 800


def uses_of(batches: list[IntArray], *, heat: Heat | None = None) -> KnownUses:
    bounds = np.concatenate([[0], np.cumsum([len(batch) for batch in batches])])
    return KnownUses.of(np.concatenate(batches), bounds, heat=heat or Heat.none(NUM_NODES))


def compiled(
    batches: list[IntArray], settings: BufferSettings, *, heat: Heat | None = None
) -> IntArray:
    uses = uses_of(batches, heat=heat)
    return lookahead_misses(uses, num_planned=len(batches), settings=settings)


@pytest.mark.parametrize("capacity", [0, 1, 40, 250, NUM_NODES])
@pytest.mark.parametrize("lookahead", [0, 3, 40])
@pytest.mark.parametrize("threshold", [0.0, 0.15, 1.0])
def test_misses_are_the_policys(capacity: int, lookahead: int, threshold: float) -> None:
    settings = BufferSettings(
        capacity_rows=capacity, lookahead_batches=lookahead, eviction_threshold=threshold
    )
    seed = capacity + lookahead
    traces = [zipf(150, seed=each, num_nodes=NUM_NODES, width=60) for each in (seed, seed + 1)]
    policy = np.concatenate([replay(each, settings, num_remote=NUM_NODES) for each in traces])
    ours = np.concatenate([compiled(each, settings) for each in traces])
    assert ours.sum() == pytest.approx(policy.sum(), rel=0.02)
    assert np.abs(ours - policy).mean() <= 0.03 * max(policy.mean(), 1)


def test_a_buffer_that_the_past_has_filled_misses_less_at_the_start() -> None:
    batches = zipf(200, seed=1, num_nodes=NUM_NODES, width=60)
    settings = BufferSettings(capacity_rows=200, lookahead_batches=4)
    past = PastUses()
    for batch in batches[:150]:
        past.add(batch)
    primed = compiled(batches[150:], settings, heat=past.heat(np.arange(NUM_NODES)))
    whole = compiled(batches, settings)[150:]
    empty = compiled(batches[150:], settings)
    assert abs(primed[:10].sum() - whole[:10].sum()) < 0.2 * (empty[:10].sum() - whole[:10].sum())
    assert primed.sum() == pytest.approx(whole.sum(), rel=0.03)


def test_heat_of_the_past_is_a_decayed_count_of_uses() -> None:
    past = PastUses()
    for _ in range(100):
        past.add(np.array([7]))
    heat = past.heat(np.array([7, 8]))
    assert heat.of_nodes[0] == pytest.approx(heat.total, rel=1e-6)
    assert 98 < heat.total < 100
    assert heat.of_nodes[1] == 0


@pytest.mark.parametrize("capacity", [0, 1, 25, 90, 200])
@pytest.mark.parametrize("lookahead", [0, 2, 9, 30])
@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.4, 1.0])
def test_misses_are_exactly_those_of_a_replay_without_shortcuts(
    capacity: int, lookahead: int, threshold: float
) -> None:
    batches = zipf(60, seed=capacity, num_nodes=120, width=20)
    settings = BufferSettings(
        capacity_rows=capacity, lookahead_batches=lookahead, eviction_threshold=threshold
    )
    past = PastUses()
    for batch in batches[:10]:
        past.add(batch)
    heat = past.heat(np.arange(NUM_NODES))
    hottest = uses_of(batches[10:], heat=heat).hottest.tolist()
    plain = PlainReplay(batches[10:], settings, heat=heat, hottest=hottest)
    assert compiled(batches[10:], settings, heat=heat).tolist() == plain.misses
