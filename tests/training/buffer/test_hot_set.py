"""What a run used most, kept for the next one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rudder.training.buffer.hot_set import HotSet
from rudder.training.buffer.registry import make_policy
from rudder.training.settings import BufferSettings
from tests.training.buffer.player import NUM_REMOTE, Player, array, view_of

VIEW = view_of(NUM_REMOTE)


@pytest.mark.parametrize("name", ["lookahead", "lfu", "static"])
def test_the_hot_set_has_global_ids_the_hottest_first(name: str) -> None:
    player = Player(make_policy(name, VIEW, BufferSettings(capacity_rows=2)))
    player.play([array({9, 3}), array({9}), array({9, 3}), array({12})], ahead=0)
    hot = player.policy.hot_set()
    assert hot.nodes.tolist() == VIEW.to_global(np.array([9, 3, 12])).tolist()
    assert hot.uses[0] == pytest.approx(3.0, rel=0.01)


def test_a_policy_without_a_buffer_has_none() -> None:
    assert not len(make_policy("none", VIEW, BufferSettings(capacity_rows=0)).hot_set().nodes)


def test_a_hot_set_is_read_as_it_was_written(tmp_path: Path) -> None:
    hot = HotSet(np.array([2**40, 7]), np.array([3.5, 1.0], dtype=np.float32))
    hot.save(tmp_path / "hot" / "rank0.npz")
    found = HotSet.load(tmp_path / "hot" / "rank0.npz")
    assert found is not None
    assert found.nodes.tolist() == [2**40, 7]
    assert found.uses.tolist() == [3.5, 1.0]


@pytest.mark.parametrize("content", [None, b"", b"not a file of numpy", b"PK\x03\x04 cut"])
def test_what_cannot_be_read_is_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "rank0.npz"
    if content is not None:
        path.write_bytes(content)
    assert HotSet.load(path) is None
