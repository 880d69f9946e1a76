"""The ring of uses to come keeps its order and its places while it grows and turns."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from rudder.training.buffer.policies.lookahead import LookaheadWindow
from rudder.training.errors import MachineError


def enter(window: LookaheadWindow, uses: list[int]) -> None:
    window.make_room(len(uses))
    places = np.arange(window.head, window.head + len(uses))
    window.next_use[places % len(window.next_use)] = uses
    window.append(len(uses))


def test_the_ring_keeps_uses_in_order_however_it_grows_and_turns() -> None:
    random = np.random.default_rng(0)
    window = LookaheadWindow()
    expected: deque[list[int]] = deque()
    for _ in range(150):
        if expected and random.random() < 0.45:
            window.pop()
            expected.popleft()
        uses = random.integers(0, 2**31, random.choice([0, 10, 1500])).tolist()
        enter(window, uses)
        expected.append(uses)
        places = np.arange(window.tail, window.head) % len(window.next_use)
        assert window.next_use[places].tolist() == [use for batch in expected for use in batch]
        assert len(window) == len(expected)


def test_the_rings_take_at_most_16_bytes_a_use() -> None:
    window = LookaheadWindow()
    for _ in range(50):
        enter(window, [1] * 10_000)
    assert window.num_bytes <= 16 * 500_000 * 1.05


def test_a_window_beyond_what_places_can_number_names_the_setting_to_lower() -> None:
    with pytest.raises(MachineError, match="lookahead_batches"):
        LookaheadWindow().make_room(2**31 + 1)
