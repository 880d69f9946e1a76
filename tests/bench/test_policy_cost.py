"""Costs of policies are measured for every policy, on the stream that was asked for."""

from __future__ import annotations

import pytest

from rudder.bench.policy_cost import (
    LAYOUTS,
    VARIANTS,
    RecordLayout,
    Work,
    by_capacity,
    by_remote_nodes,
    cost_of,
    series,
)
from rudder.training.errors import ConfigError


def work(layout: RecordLayout = "packed") -> Work:
    return Work(
        capacity=300, num_remote=4000, num_touched=1000, inputs=100, layout=layout, num_batches=12
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_policy_is_timed_while_it_hits(variant: str, layout: RecordLayout) -> None:
    cost = cost_of(variant, work(layout))
    assert 0 < cost.ms_per_batch_min <= cost.ms_per_batch <= cost.ms_per_batch_p95
    assert 0 < cost.hit_fraction < 1
    assert cost.policy_bytes > 4000 * 4


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match="belady"):
        cost_of("belady", work())


def test_one_series_grows_the_buffer_and_one_the_graph_alone() -> None:
    growing = list(by_capacity((10, 1000), inputs=50))
    assert [each.capacity for each in growing] == [10, 1000]
    assert len({each.num_remote for each in growing}) == 1
    wider = list(by_remote_nodes((1000, 50_000), "spread"))
    assert [each.num_remote for each in wider] == [1000, 50_000]
    assert len({(each.capacity, each.inputs, each.num_touched) for each in wider}) == 1


def test_a_series_has_both_layouts_and_flatness_against_the_smallest_graph() -> None:
    costs = list(series("lru", (50,), (500, 1000), inputs=60, num_batches=5))
    assert [each.layout for each in costs] == ["packed", "packed", "packed", "spread", "spread"]
    assert [each.flatness for each in costs[:2]] == [None, 1.0]
    assert costs[2].flatness == costs[2].ms_per_batch / costs[1].ms_per_batch
