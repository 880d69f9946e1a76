"""Which seeds make up which batch: by a seed of its own, or by torch's generator as DGL does it."""

from __future__ import annotations

from typing import Any

import dgl
import numpy as np
import pytest
import torch

from rudder.training.loading.arguments import Course
from rudder.training.loading.seed_order import SeedOrder, seed_from_torch

NODES = np.arange(100, 117)


def order_of(**options: Any) -> SeedOrder:
    """An order by its own seed (7, 0), or by torch's generator with `seed=None`."""
    seed = options.setdefault("seed", (7, 0))
    course = Course.of(
        batch_size=5,
        shuffle=options.get("shuffle", True),
        drop_last=options.get("drop_last", False),
        epochs=None,
        seed=None if seed is None else seed[0],
    )
    return SeedOrder(NODES, course, phases=options.get("phases"), seed=seed or (7, 0))


def epochs_of(order: SeedOrder, count: int = 3) -> list[list[list[int]]]:
    return [[batch.seeds.tolist() for batch in order.epoch(number)] for number in range(count)]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("drop_last", [True, False])
def test_without_a_seed_the_order_is_that_of_dgls_loader(shuffle: bool, drop_last: bool) -> None:
    torch.manual_seed(3)
    ours = epochs_of(order_of(seed=None, shuffle=shuffle, drop_last=drop_last))
    torch.manual_seed(3)
    stock = dgl.distributed.DistDataLoader(
        torch.from_numpy(NODES), 5, shuffle=shuffle, drop_last=drop_last, collate_fn=list
    )
    assert ours == [list(stock) for _ in range(3)]


def test_without_a_seed_repeats_are_told_apart_by_torchs_seed() -> None:
    found = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        found.append((seed_from_torch(), epochs_of(order_of(seed=None))))
    assert found[0] == found[2]
    assert found[0][0] != found[1][0]
    assert found[0][1] != found[1][1]


def test_a_seed_for_draws_leaves_torchs_generator_as_it_is() -> None:
    before = torch.get_rng_state()
    seed_from_torch()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seed_decides_alone() -> None:
    torch.manual_seed(1)
    first = epochs_of(order_of(seed=(7, 0)))
    torch.manual_seed(2)
    assert epochs_of(order_of(seed=(7, 0))) == first
    assert epochs_of(order_of(seed=(7, 1))) != first
    assert first[0] != first[1]


@pytest.mark.parametrize("seed", [None, (7, 0)])
def test_seeds_of_earlier_phases_come_first_and_each_comes_once(seed: tuple[int, int]) -> None:
    phases = np.arange(len(NODES)) % 3
    for epoch in epochs_of(order_of(seed=seed, phases=phases)):
        visited = [node for batch in epoch for node in batch]
        assert sorted(visited) == NODES.tolist()
        found = [int(phases[node - 100]) for node in visited]
        assert found == sorted(found)
