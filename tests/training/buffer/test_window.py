"""The ring of nodes to come keeps its order and its nodes' places while it grows and turns."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from rudder.training.buffer import records
from rudder.training.buffer.policy import IntArray
from rudder.training.buffer.window import Window
from rudder.training.errors import MachineError


def enter(window: Window, nodes: IntArray, state: records.Records) -> None:
    window.make_room(len(nodes), state)
    places = (window.tail + window.length + np.arange(len(nodes))) % len(window.users)
    window.users[places] = nodes
    state["place"][nodes] = places
    window.append(len(nodes))


def test_the_ring_keeps_nodes_in_order_however_it_grows_and_turns() -> None:
    random = np.random.default_rng(0)
    window, state = Window(), np.zeros(2000, dtype=records.LOOKAHEAD_NODE)
    expected: deque[list[int]] = deque()
    for _ in range(150):
        if expected and random.random() < 0.45:
            window.pop()
            expected.popleft()
        nodes = random.permutation(2000)[: random.choice([0, 10, 1500])]
        enter(window, nodes, state)
        expected.append(nodes.tolist())
        places = (window.tail + np.arange(window.length)) % len(window.users)
        assert window.users[places].tolist() == [node for batch in expected for node in batch]
        assert window.widths.tolist() == [len(batch) for batch in expected]
        assert len(window) == len(expected)
        for batch in expected:
            assert window.users[state["place"][batch]].tolist() == batch


def test_the_ring_takes_little_more_than_its_nodes_need() -> None:
    window, state = Window(), np.zeros(10_000, dtype=records.LOOKAHEAD_NODE)
    for _ in range(50):
        enter(window, np.arange(10_000), state)
    assert window.num_bytes <= 12 * 500_000 * 1.5 * 1.05


def test_a_window_beyond_what_places_can_number_names_the_setting_to_lower() -> None:
    with pytest.raises(MachineError, match="lookahead_batches"):
        Window().make_room(2**31, np.zeros(1, dtype=records.LOOKAHEAD_NODE))
