"""Rows of any size are copied whole, and a batch's memory is its own while anybody looks at it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch

from rudder.training.buffer.policy import BatchPlan, Resize
from rudder.training.buffer.rows import (
    BufferRows,
    Bytes,
    MemoryPool,
    Words,
    as_words,
    copy_rows,
    word_type,
)

ROW_SIZES = [1, 2, 3, 5, 8, 12, 100, 2408]


def random_rows(count: int, row_bytes: int) -> Bytes:
    return np.random.default_rng(row_bytes).integers(0, 256, (count, row_bytes), dtype=np.uint8)


def as_bytes(words: Words, row_bytes: int) -> Bytes:
    return np.ascontiguousarray(words).view(np.uint8).reshape(len(words), row_bytes)


def unaligned(count: int, row_bytes: int) -> Bytes:
    memory = np.empty(count * row_bytes + 1, dtype=np.uint8)
    rows = memory[1:].reshape(count, row_bytes)
    rows[:] = random_rows(count, row_bytes)
    return rows


def resize_to(capacity: int, moves: dict[int, int]) -> BatchPlan:
    none = np.empty(0, dtype=np.int64)
    sources, targets = (np.array(list(side), dtype=np.int64) for side in (moves, moves.values()))
    resize = Resize(capacity=capacity, sources=sources, targets=targets)
    return BatchPlan(hits=none, hit_slots=none, misses=none, resize=resize)


@pytest.mark.parametrize(
    ("row_bytes", "width"), [(1, 1), (2, 2), (3, 1), (5, 1), (8, 8), (12, 4), (100, 4), (2408, 8)]
)
def test_rows_are_copied_by_the_widest_word_that_divides_them(row_bytes: int, width: int) -> None:
    assert word_type(row_bytes).itemsize == width


@pytest.mark.parametrize("row_bytes", ROW_SIZES)
def test_copied_rows_arrive_whole_where_they_belong(row_bytes: int) -> None:
    source = random_rows(5, row_bytes)
    target = np.zeros((4, row_bytes), dtype=np.uint8)
    copy_rows(as_words(source), np.array([4, 0, 2]), as_words(target), np.array([1, 3, 0]))
    assert target[[1, 3, 0]].tolist() == source[[4, 0, 2]].tolist()
    assert not target[2].any()


@pytest.mark.parametrize("row_bytes", ROW_SIZES)
@pytest.mark.parametrize("count", [0, 3])
def test_rows_are_seen_as_words_whether_aligned_or_not(row_bytes: int, count: int) -> None:
    for rows in (random_rows(count, row_bytes), unaligned(count, row_bytes)):
        words = as_words(rows)
        assert words.flags.aligned
        assert np.array_equal(as_bytes(words, row_bytes), rows)


def test_aligned_rows_are_seen_without_a_copy() -> None:
    rows = random_rows(3, 16)
    assert np.shares_memory(as_words(rows), rows)


def test_rows_without_bytes_are_rows_all_the_same() -> None:
    assert as_words(np.empty((3, 0), dtype=np.uint8)).shape == (3, 0)
    BufferRows(2, 0).store(as_words(np.empty((3, 0), dtype=np.uint8)), np.arange(2), np.arange(2))


@pytest.mark.parametrize("row_bytes", ROW_SIZES)
def test_a_buffer_gives_back_what_was_stored_after_any_resize(row_bytes: int) -> None:
    rows = random_rows(3, row_bytes)
    buffer = BufferRows(4, row_bytes)
    buffer.store(as_words(rows), np.array([0, 1, 2]), np.array([3, 0, 1]))
    buffer.resize(resize_to(2, {3: 0, 1: 1}))
    assert buffer.capacity == 2
    buffer.resize(resize_to(9, {0: 8, 1: 2}))
    out = np.zeros((2, row_bytes), dtype=np.uint8)
    buffer.read(np.array([8, 2]), as_words(out), np.array([1, 0]))
    assert out[[1, 0]].tolist() == rows[[0, 2]].tolist()


def test_a_buffer_without_capacity_holds_nothing() -> None:
    buffer = BufferRows(0, 8)
    buffer.resize(resize_to(0, {}))
    assert buffer.capacity == 0


# -- memory pool ------------------------------------------------------------------------


def address(block: Bytes) -> int:
    return int(block.ctypes.data)


def test_memory_that_nobody_sees_is_used_again() -> None:
    pool = MemoryPool(max_blocks=2)
    block = pool.take(1000)
    first = address(block)
    del block
    assert address(pool.take(1000)) == first
    assert pool.num_bytes < 2000


@pytest.mark.parametrize(
    "see",
    [
        lambda block: block,
        lambda block: block[10:20],
        lambda block: block[:800].reshape(-1, 8).view(np.float32),
        lambda block: torch.from_numpy(block),
        lambda block: torch.from_numpy(block).view(torch.float32).view(-1, 5),
        lambda block: torch.from_numpy(block)[5:9],
        lambda block: {"deep": [torch.from_numpy(block.reshape(10, 100))[3].t()]},
        lambda block: memoryview(block),
        lambda block: torch.utils.dlpack.from_dlpack(
            torch.utils.dlpack.to_dlpack(torch.from_numpy(block))  # type: ignore[attr-defined]
        ),
    ],
)
def test_memory_is_not_used_again_while_a_view_of_it_lives(
    see: Callable[[Bytes], object],
) -> None:
    pool = MemoryPool(max_blocks=4)
    view = see(pool.take(1000))
    blocks = [pool.take(1000) for _ in range(6)]
    assert not any(np.shares_memory(a, b) for a in blocks for b in blocks if a is not b)
    first = pool.num_bytes
    del blocks
    held = {address(pool.take(1000)) for _ in range(6)}
    assert len(held) == 1
    del view
    gc.collect()
    kept = [pool.take(1000) for _ in range(4)]
    assert len({address(block) for block in kept} | held) == 4
    assert pool.num_bytes == first


def test_a_tensor_saved_for_backward_keeps_its_memory() -> None:
    pool = MemoryPool(max_blocks=1)
    rows = torch.from_numpy(pool.take(400)).view(torch.float32)
    rows[:] = 3.0
    weight = torch.ones(len(rows), requires_grad=True)
    loss = (rows * weight).sum()
    del rows
    pool.take(400)[:] = 0
    loss.backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert weight.grad.tolist() == [3.0] * 100


def test_a_full_pool_still_gives_memory_but_keeps_no_more_of_it() -> None:
    pool = MemoryPool(max_blocks=2)
    blocks = [pool.take(100) for _ in range(5)]
    assert len({address(block) for block in blocks}) == 5
    assert pool.num_bytes <= 2 * 114


def test_small_and_large_batches_do_not_take_turns_at_growing_one_block() -> None:
    pool = MemoryPool(max_blocks=4)
    small, large = pool.take(10), pool.take(1000)
    addresses = {address(small), address(large)}
    for _ in range(5):
        del small, large
        small, large = pool.take(10), pool.take(1000)
        assert {address(small), address(large)} == addresses


def test_a_block_that_is_too_small_is_replaced_by_one_with_room() -> None:
    pool = MemoryPool(max_blocks=4)
    pool.take(100)
    assert len(pool.take(800)) == 800
    assert 800 <= pool.num_bytes <= 901
    assert len(pool.take(0)) == 0


def test_a_block_has_room_for_an_eighth_more_and_serves_no_more_than_that() -> None:
    pool = MemoryPool(max_blocks=1)
    pool.take(800)
    assert pool.num_bytes == 901
    pool.take(901)
    assert pool.num_bytes == 901
    pool.take(902)
    assert pool.num_bytes == 902 + 112 + 1


def test_ids_are_so_many_rows_of_so_many_numbers() -> None:
    pool = MemoryPool(max_blocks=1)
    ids = pool.take_ids(3, 5)
    assert ids.shape == (3, 5)
    assert ids.dtype == np.int64
    assert pool.num_bytes == 120 + 15 + 1


def test_a_borrower_may_outlive_the_pool() -> None:
    pool = MemoryPool(max_blocks=2)
    block = pool.take(100)
    block[:] = 7
    del pool
    gc.collect()
    assert block.tolist() == [7] * 100


def test_memory_comes_back_from_any_thread_while_it_is_lent() -> None:
    pool = MemoryPool(max_blocks=6)
    given: list[tuple[int, torch.Tensor]] = []
    wrong: list[int] = []
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set() or given:
            if given:
                number, rows = given.pop(0)
                wrong.extend(set(rows.tolist()) - {number})
                del rows

    thread = threading.Thread(target=look)
    thread.start()
    for turn in range(3000):
        number = turn % 251
        rows = torch.from_numpy(pool.take(200 + turn % 90))
        rows[:] = number
        given.append((number, rows[::7]))
        del rows
    is_over.set()
    thread.join()
    assert not wrong
    assert pool.num_bytes <= 6 * 330
