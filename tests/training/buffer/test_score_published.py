"""The published policy on a skewed stream, against what was measured on DistDGL's own traces.

There it fetched 1.71, 0.95 and 0.95 times the rows of no buffer with a round in every batch, and
0.84, 0.76 and 0.79 with one in 16 (buffers of 5, 25 and 50 % of the halo).
"""

from __future__ import annotations

import numpy as np
import pytest

from rudder.training.buffer.policy import IntArray
from rudder.training.buffer.registry import make_policy, parse_variant
from rudder.training.settings import BufferSettings
from tests.training.buffer.player import Player, view_of

VIEW = view_of(4000)
HALO = VIEW.to_remote(VIEW.halo)
SHARES = (0.05, 0.25, 0.5)


@pytest.fixture(scope="module")
def stream() -> list[IntArray]:
    """Three epochs of 59 batches: 120 distinct halo nodes each, Zipf-like (rank ** -0.6)."""
    random = np.random.default_rng(5)
    weights = random.permutation(np.arange(1, len(HALO) + 1) ** -0.6)
    weights /= weights.sum()
    return [np.sort(random.choice(HALO, 120, replace=False, p=weights)) for _ in range(177)]


def fetched(variant: str, share: float, stream: list[IntArray]) -> float:
    """Rows fetched, as a share of what no buffer would fetch."""
    name, options = parse_variant(variant)
    settings = BufferSettings(capacity_rows=int(share * len(HALO)))
    player = Player(make_policy(name, VIEW, settings, options), may_fetch_twice=True)
    player.play(stream, ahead=0)
    return player.rows_fetched / sum(map(len, stream))


@pytest.mark.parametrize("share", SHARES)
def test_as_published_rounds_in_every_batch_cost_more_rows_than_no_buffer(
    share: float, stream: list[IntArray]
) -> None:
    found = fetched("score:interval=1+start=random+faithful=true", share, stream)
    assert 1.4 < found < 2.4  # and not the 5 of misses that are counted, but never compared


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("faithful", ["true", "false"])
def test_rounds_in_every_16th_batch_save_some_rows_whatever_the_buffer(
    share: float, faithful: str, stream: list[IntArray]
) -> None:
    assert 0.6 < fetched(f"score:interval=16+faithful={faithful}", share, stream) < 0.9


@pytest.mark.parametrize(("share", "at_most"), [(0.05, 0.86), (0.25, 0.72), (0.5, 0.72)])
def test_newcomers_that_are_compared_do_not_send_rows_to_and_fro(
    share: float, at_most: float, stream: list[IntArray]
) -> None:
    assert fetched("score:interval=1+start=random", share, stream) < at_most


@pytest.mark.parametrize("share", SHARES)
def test_it_fetches_more_than_counting_uses_and_admitting_misses_does(
    share: float, stream: list[IntArray]
) -> None:
    best = min(fetched(f"score:interval={each}", share, stream) for each in (1, 16, 32))
    assert fetched("lfu", share, stream) < best
