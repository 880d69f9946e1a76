"""Negative edges come from where their class says, and a seed repeats them."""

from __future__ import annotations

import numpy as np
import pytest

from rudder.training.errors import ConfigError
from rudder.training.sampling.negatives import (
    Ends,
    InBatchNegatives,
    Negatives,
    PerSourceNegatives,
    UniformNegatives,
)

ENDS = Ends(np.arange(50), np.arange(100, 150))
ALL: tuple[type[Negatives], ...] = (PerSourceNegatives, UniformNegatives, InBatchNegatives)


def draw(negatives: Negatives, *, ends: Ends = ENDS, seed: int = 0) -> Ends:
    return negatives.draw(ends, num_nodes=1000, random=np.random.default_rng(seed))


@pytest.mark.parametrize("kind", ALL)
def test_each_edge_has_k_negatives_which_a_seed_repeats(kind: type[Negatives]) -> None:
    drawn, again, other = draw(kind(3)), draw(kind(3)), draw(kind(3), seed=1)
    assert len(drawn.sources) == len(drawn.destinations) == 150
    assert (drawn.destinations == again.destinations).all()
    assert (drawn.destinations != other.destinations).any()


def test_sources_stay_unless_both_ends_are_drawn() -> None:
    repeated = np.repeat(ENDS.sources, 3)
    assert (draw(PerSourceNegatives(3)).sources == repeated).all()
    assert (draw(InBatchNegatives(3)).sources == repeated).all()
    assert draw(UniformNegatives(3)).sources.max() > 500


def test_destinations_are_those_of_other_edges_of_the_batch_or_any_nodes() -> None:
    drawn = draw(InBatchNegatives(40))
    assert set(drawn.destinations.tolist()) == set(ENDS.destinations.tolist())
    assert (drawn.destinations != drawn.sources + 100).all()
    assert draw(PerSourceNegatives(40)).destinations.max() > 900


def test_an_edge_alone_in_its_batch_has_negatives_from_all_nodes() -> None:
    alone = Ends(np.array([3]), np.array([4]))
    assert len(set(draw(InBatchNegatives(40), ends=alone).destinations.tolist())) > 20


@pytest.mark.parametrize("k", [0, 1.5, True])
def test_a_number_of_negatives_that_cannot_be_is_refused(k: int) -> None:
    with pytest.raises(ConfigError, match=r"InBatchNegatives.k = .* at least 1"):
        InBatchNegatives(k)
