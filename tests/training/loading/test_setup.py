"""What a trainer tells of itself, and which knobs its policy has no use for."""

from __future__ import annotations

import pytest

from rudder.training.buffer.registry import POLICIES, make_policy
from rudder.training.config import AUTO, BufferSize
from rudder.training.errors import MachineError
from rudder.training.loading.setup import (
    LoaderInfo,
    budget_rows,
    capacity_of,
    loader_info_of,
    refused_knobs,
)
from rudder.training.settings import BufferSettings
from tests.training.buffer.player import view_of

VIEW = view_of(100)
HALO = 50


def known(policy: str, *, max_buffer_rows: int = 1000) -> LoaderInfo:
    return LoaderInfo(
        rank=1, world_size=6, policy=policy, row_bytes=8, batch_size=32, batches_per_epoch=7,
        epochs=3, fanouts=(5, 10), trainers_on_host=2, max_buffer_rows=max_buffer_rows,
    )  # fmt: skip


@pytest.mark.parametrize("capacity", [0, 10])
def test_lookahead_refuses_only_rounds(capacity: int) -> None:
    policy = make_policy("lookahead", VIEW, BufferSettings(capacity_rows=capacity))
    refused = refused_knobs(policy)
    assert [each.knob for each in refused] == ["replacement_interval"]
    assert "replacement_interval means nothing" in refused[0].reason


def test_score_takes_rounds() -> None:
    policy = make_policy("score", VIEW, BufferSettings(capacity_rows=10))
    assert "replacement_interval" not in {each.knob for each in refused_knobs(policy)}


def test_without_a_buffer_only_the_lookahead_is_left() -> None:
    policy = make_policy("none", VIEW, BufferSettings(capacity_rows=0))
    knobs = {each.knob for each in refused_knobs(policy)}
    assert "lookahead_batches" not in knobs
    assert len(knobs) == 5


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_is_introduced_with_its_defaults(name: str) -> None:
    policy = make_policy(name, VIEW, BufferSettings(capacity_rows=10, lookahead_batches=5))
    workload = loader_info_of(VIEW, policy, known(name), run_key="ab")
    assert workload.defaults == policy.settings
    assert workload.num_steps == 21
    assert (workload.part, workload.num_parts, workload.num_halo) == (1, 3, HALO)
    assert (workload.num_inner, workload.num_remote) == (3, 100)


@pytest.mark.parametrize(
    ("policy", "most_rows", "capacity"),
    [
        ("lookahead", 1000, VIEW.num_remote),
        ("lfu", 1000, VIEW.num_remote),
        ("lookahead", 70, 70),
        ("score", 1000, HALO // 4),
        ("static", 5, 5),
    ],
)
def test_auto_takes_what_the_budget_holds_but_no_more_than_helps(
    policy: str, most_rows: int, capacity: int
) -> None:
    assert capacity_of(AUTO, known(policy), VIEW, most_rows=most_rows) == capacity
    assert capacity_of(BufferSize.parse("20"), known(policy), VIEW, most_rows=most_rows) == 20


def test_a_buffer_that_the_host_has_no_memory_for_is_refused_but_auto_never_is() -> None:
    small = known("lookahead", max_buffer_rows=30)
    assert capacity_of(AUTO, small, VIEW, most_rows=30) == 30
    with pytest.raises(MachineError, match="half of the memory"):
        capacity_of(BufferSize.parse("31"), small, VIEW, most_rows=30)


def test_the_budget_of_a_host_is_shared_by_its_trainers() -> None:
    info = known("lookahead", max_buffer_rows=99)
    assert budget_rows(info, budget_bytes=8 * 2 * 40) == 40
    assert budget_rows(info, budget_bytes=8 * 2 * 400) == 99
    assert budget_rows(info, budget_bytes=None) == 99
