"""A policy with what the user asked for, as far as it has a use for it."""

from __future__ import annotations

import numpy as np
import pytest

from rudder.training.buffer.options import BufferOptions
from rudder.training.buffer.policy import Policy
from rudder.training.errors import ConfigError
from rudder.training.loading.setup import LoaderInfo, policy_of
from tests.training.buffer.player import view_of


def policy(name: str, threshold: float | None) -> Policy:
    known = LoaderInfo(
        rank=0, world_size=1, policy=name, row_bytes=8, batch_size=32, batches_per_epoch=7,
        epochs=3, fanouts=(5, 10), trainers_on_host=1, max_buffer_rows=99,
    )  # fmt: skip
    text = f"{name}:interval=10+alpha=0.1" if name == "score" else name
    options = BufferOptions(size="20", policy=text, lookahead=4, eviction_threshold=threshold)
    return policy_of(known, view_of(100), options, seeds=np.arange(3), seed=0, most_rows=99)


@pytest.mark.parametrize("name", ["lookahead", "lfu", "score"])
def test_a_threshold_that_is_given_is_in_force(name: str) -> None:
    assert policy(name, 0.0).settings.eviction_threshold == 0.0
    assert policy(name, 0.25).settings.eviction_threshold == 0.25


def test_a_policy_of_the_simulator_is_refused_with_what_is_offered() -> None:
    with pytest.raises(ConfigError, match=r"lookahead, score, static, lfu, none.*rudder simulate"):
        policy("lru", None)


def test_one_that_is_not_given_is_the_policy_s_own() -> None:
    assert policy("lookahead", None).settings.eviction_threshold == 1.0
    assert policy("score", None).settings.eviction_threshold == pytest.approx(0.9**10)


@pytest.mark.parametrize("name", ["static", "none"])
def test_policies_that_have_no_threshold_refuse_one(name: str) -> None:
    assert policy(name, None).settings.lookahead_batches == 4
    with pytest.raises(ConfigError, match="eviction_threshold means nothing"):
        policy(name, 0.5)
