"""Each row of a batch comes from where its plan says, and the buffer gets what it admits."""

from __future__ import annotations

import numpy as np
import torch

from rudder.training.buffer.policy import BatchPlan, IntArray, Resize
from rudder.training.buffer.rows import MemoryPool
from rudder.training.loading.assembly import Assembly
from rudder.training.loading.batch import Fetch, Lookup
from rudder.training.loading.tensors import GraphTensor
from rudder.training.wire.wire import Rows
from tests.training.loading.small_world import HERE, ROWS, STARTS, tensor_of

NONE = np.empty(0, dtype=np.int64)


def ids(*values: int) -> IntArray:
    return np.array(values, dtype=np.int64)


def planned(
    nodes: IntArray,
    plan: BatchPlan,
    *fetched: tuple[IntArray, IntArray, IntArray],
    local: IntArray = NONE,
) -> Lookup:
    """A look-up with its answers: of each the nodes, and which misses and targets they are."""
    remote = np.setdiff1d(np.arange(len(nodes)), local)
    return Lookup(
        nodes,
        outputs=NONE,
        answers={ticket: rows_of(asked) for ticket, (asked, _, _) in enumerate(fetched)},
        local=local,
        remote=remote,
        remote_numbers=nodes[remote],
        plan=plan,
        fetches=tuple(
            Fetch(ticket, misses, targets) for ticket, (_, misses, targets) in enumerate(fetched)
        ),
    )


def rows_of(nodes: IntArray) -> Rows:
    return {f"key of {name}": ROWS[name][torch.from_numpy(nodes)] for name in ("feat", "year")}


def assembly(capacity: int = 3) -> Assembly:
    return Assembly(
        [tensor_of("feat"), tensor_of("year")],
        capacity=capacity,
        first=int(STARTS[HERE]),
        pool=MemoryPool(max_blocks=4),
    )


def check(made: dict[GraphTensor, torch.Tensor], nodes: IntArray) -> None:
    assert {tensor.name: rows.dtype for tensor, rows in made.items()} == {
        "feat": torch.float32, "year": torch.int16
    }  # fmt: skip
    for tensor, rows in made.items():
        assert torch.equal(rows, ROWS[tensor.name][torch.from_numpy(nodes)])


def hits(nodes: IntArray, slots: IntArray, resize: Resize | None = None) -> BatchPlan:
    return BatchPlan(hits=np.arange(len(nodes)), hit_slots=slots, misses=NONE, resize=resize)


def read(each: Assembly, nodes: IntArray, slots: IntArray, resize: Resize | None = None) -> None:
    check(each.run(planned(nodes, hits(nodes, slots, resize))), nodes)


def test_local_missed_and_eager_rows_go_where_they_belong() -> None:
    each = assembly()
    nodes = ids(40, 5, 31, 80, 7)
    plan = BatchPlan(
        hits=NONE, hit_slots=NONE, misses=ids(0, 1, 2), admitted=ids(2), admitted_slots=ids(1),
        targets=ids(9, 50), target_slots=ids(2, 0),
    )  # fmt: skip
    lookup = planned(
        nodes, plan, (ids(80, 50), ids(1), ids(1)), (ids(5, 7, 9), ids(0, 2), ids(0)),
        local=ids(0, 2),
    )  # fmt: skip
    check(each.run(lookup), nodes)
    read(each, ids(7, 9, 50), ids(1, 2, 0))


def test_a_batch_that_nobody_gets_leaves_the_buffer_as_planned() -> None:
    each = assembly()
    plan = BatchPlan(
        hits=NONE, hit_slots=NONE, misses=ids(0, 1), admitted=ids(1), admitted_slots=ids(0),
        resize=Resize(capacity=5, sources=NONE, targets=NONE),
    )  # fmt: skip
    each.store_only(planned(ids(5, 80), plan, (ids(5, 80), ids(0, 1), NONE)))
    assert each.buffer_rows == 5
    read(each, ids(80), ids(0))


def test_rows_move_with_a_resize_before_they_are_read() -> None:
    each = assembly()
    plan = BatchPlan(
        hits=NONE, hit_slots=NONE, misses=ids(0), admitted=ids(0), admitted_slots=ids(2)
    )
    each.store_only(planned(ids(66), plan, (ids(66), ids(0), NONE)))
    read(each, ids(66), ids(0), Resize(capacity=1, sources=ids(2), targets=ids(0)))


def test_a_buffer_of_no_tensors_has_no_rows() -> None:
    each = Assembly([], capacity=3, first=0, pool=MemoryPool(max_blocks=0))
    assert each.buffer_rows == 0
    assert each.run(planned(ids(1), hits(NONE, NONE))) == {}
