"""What a trainer tells of itself, and which knobs its policy has no use for."""

from __future__ import annotations

import pytest

from rudder.training.buffer.registry import POLICIES, make_policy
from rudder.training.loading.setup import LoaderInfo, loader_info_of, refused_knobs
from rudder.training.settings import BufferSettings
from tests.training.buffer.player import view_of

VIEW = view_of(100)


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
    known = LoaderInfo(
        rank=1, world_size=4, policy=name, row_bytes=8, batch_size=32, batches_per_epoch=7,
        epochs=3, fanouts=(5, 10), max_buffer_rows=99,
    )  # fmt: skip
    workload = loader_info_of(VIEW, policy, known, run_key="ab")
    assert workload.defaults == policy.settings
    assert workload.num_steps == 21
    assert (workload.part, workload.num_parts, workload.num_halo) == (1, 3, 50)
    assert (workload.num_inner, workload.num_remote) == (3, 100)
