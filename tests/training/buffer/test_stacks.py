"""Many stacks in one piece of memory do what lists do, in the memory they were given."""

from __future__ import annotations

import numpy as np
import psutil
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder.training.buffer.records import Int32s
from rudder.training.buffer.stacks import Chunks, drain, is_empty, make_stacks, pop, push
from rudder.training.compiled import compiled

COUNT, ROOM = 3, 300


@compiled
def play(chunks: Chunks, tops: Int32s, calls: Int32s, popped: Int32s) -> None:
    """calls: int32[n, 2], a stack and what to push on it, below 0: pop instead."""
    for i in range(calls.shape[0]):
        if calls[i, 1] >= 0:
            push(chunks, tops, calls[i, 0], calls[i, 1])
        elif not is_empty(tops, calls[i, 0]):
            popped[i] = pop(chunks, tops, calls[i, 0])


@given(seed=st.integers(0, 2**31), runs=st.lists(st.integers(1, 200), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_stacks_do_what_lists_do_in_the_room_they_have(seed: int, runs: list[int]) -> None:
    random = np.random.default_rng(seed)
    lists: list[list[int]] = [[] for _ in range(COUNT)]
    calls, expected = [], []
    for run in runs:
        stack, pushes = int(random.integers(COUNT)), bool(random.integers(2))
        for number in random.integers(0, 1000, run).tolist():
            if pushes and sum(map(len, lists)) < ROOM:
                lists[stack].append(number)
                calls.append((stack, number))
                expected.append(-1)
            elif not pushes:
                calls.append((stack, -1))
                expected.append(lists[stack].pop() if lists[stack] else -1)
    stacks = make_stacks(COUNT, room=ROOM)
    popped = np.full(len(calls), -1, dtype=np.int32)
    play(stacks.chunks, stacks.tops, np.array(calls, dtype=np.int32).reshape(-1, 2), popped)
    assert popped.tolist() == expected
    left = np.empty(sum(map(len, lists)), dtype=np.int64)
    drain(stacks.chunks, stacks.tops, left)
    assert left.tolist() == [number for each in lists for number in reversed(each)]


def test_no_more_chunks_than_numbers_are_made() -> None:
    assert make_stacks(1000, room=0).chunks.shape[0] == 1
    assert make_stacks(2, room=100_000).num_bytes < 4.2 * 100_000


def test_room_that_is_not_used_takes_no_memory() -> None:
    before = psutil.Process().memory_info().rss
    stacks = make_stacks(2, room=2**25)
    assert stacks.num_bytes > 2**27
    assert psutil.Process().memory_info().rss - before < 2**24
