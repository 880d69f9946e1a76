"""Each row of a batch comes from where its plan says, and the buffer gets what it admits."""

from __future__ import annotations

import numpy as np
import torch

from rudder.training.buffer.policy import IntArray, Plan, Resize
from rudder.training.buffer.rows import MemoryPool
from rudder.training.loading.assembly import Assembly, Fetch
from rudder.training.wire.wire import Rows
from tests.training.loading.small_world import HERE, ROWS, STARTS, tensor_of

NONE = np.empty(0, dtype=np.int64)


def ids(*values: int) -> IntArray:
    return np.array(values, dtype=np.int64)


def fetched(nodes: IntArray, *, misses: IntArray, targets: IntArray = NONE) -> tuple[Fetch, Rows]:
    rows = {f"key of {name}": ROWS[name][torch.from_numpy(nodes)] for name in ("feat", "year")}
    return Fetch(ticket=0, misses=misses, targets=targets), rows


def assembly(capacity: int = 3) -> Assembly:
    return Assembly(
        [tensor_of("feat"), tensor_of("year")],
        capacity=capacity,
        first=int(STARTS[HERE]),
        pool=MemoryPool(max_blocks=4),
    )


def check(made: dict[str, torch.Tensor], nodes: IntArray) -> None:
    assert {name: rows.dtype for name, rows in made.items()} == {
        "feat": torch.float32, "year": torch.int16
    }  # fmt: skip
    for name, rows in made.items():
        assert torch.equal(rows, ROWS[name][torch.from_numpy(nodes)])


def hits(nodes: IntArray, slots: IntArray, resize: Resize | None = None) -> Plan:
    return Plan(hits=np.arange(len(nodes)), hit_slots=slots, misses=NONE, resize=resize)


def read(each: Assembly, nodes: IntArray, slots: IntArray, resize: Resize | None = None) -> None:
    plan = hits(nodes, slots, resize)
    check(each.run(nodes, local=NONE, remote=np.arange(len(nodes)), plan=plan, fetched=[]), nodes)


def test_local_missed_and_eager_rows_go_where_they_belong() -> None:
    each = assembly()
    nodes = ids(40, 5, 31, 80, 7)
    plan = Plan(
        hits=NONE, hit_slots=NONE, misses=ids(0, 1, 2), admitted=ids(2), admitted_slots=ids(1),
        targets=ids(9, 50), target_slots=ids(2, 0),
    )  # fmt: skip
    made = each.run(
        nodes, local=ids(0, 2), remote=ids(1, 3, 4), plan=plan,
        fetched=[fetched(ids(80, 85), misses=ids(1), targets=ids(1)),
                 fetched(ids(5, 7, 9), misses=ids(0, 2), targets=ids(0))],
    )  # fmt: skip
    check(made, nodes)
    read(each, ids(7, 9, 85), ids(1, 2, 0))


def test_a_batch_that_nobody_gets_leaves_the_buffer_as_planned() -> None:
    each = assembly()
    plan = Plan(
        hits=NONE, hit_slots=NONE, misses=ids(0, 1), admitted=ids(1), admitted_slots=ids(0),
        resize=Resize(capacity=5, sources=NONE, targets=NONE),
    )  # fmt: skip
    each.store_only(plan, [fetched(ids(5, 80), misses=ids(0, 1))])
    assert each.buffer_rows == 5
    read(each, ids(80), ids(0))


def test_rows_move_with_a_resize_before_they_are_read() -> None:
    each = assembly()
    plan = Plan(hits=NONE, hit_slots=NONE, misses=ids(0), admitted=ids(0), admitted_slots=ids(2))
    each.store_only(plan, [fetched(ids(66), misses=ids(0))])
    read(each, ids(66), ids(0), Resize(capacity=1, sources=ids(2), targets=ids(0)))


def test_a_buffer_of_no_tensors_has_no_rows() -> None:
    each = Assembly([], capacity=3, first=0, pool=MemoryPool(max_blocks=0))
    assert each.buffer_rows == 0
    assert each.run(ids(1), local=NONE, remote=ids(0), plan=hits(NONE, NONE), fetched=[]) == {}
