"""Who owns which node, in graphs of any size and with any partition empty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rudder.training.partition_view import PartitionView

NONE = np.empty(0, dtype=np.int64)


def view_of(sizes: list[int], part: int) -> PartitionView:
    starts = np.cumsum([0, *sizes])
    return PartitionView(part=part, starts=starts, indptr=NONE, indices=NONE, halo=NONE)


@given(
    sizes=st.lists(st.integers(0, 2**40) | st.integers(0, 3), min_size=1, max_size=5),
    data=st.data(),
)
def test_remote_numbers_are_dense_and_lead_back(sizes: list[int], data: st.DataObject) -> None:
    view = view_of(sizes, data.draw(st.integers(0, len(sizes) - 1)))
    assert view.num_remote == sum(sizes) - sizes[view.part]
    if not view.num_remote:
        return
    places = st.lists(st.integers(0, view.num_remote - 1), min_size=1)
    remote = np.array(data.draw(places), dtype=np.int64)
    nodes = view.to_global(remote)
    assert view.to_remote(nodes).tolist() == remote.tolist()
    assert not view.not_remote(nodes.tolist())
    owners = view.owners(nodes)
    assert (owners != view.part).all()
    for node, owner in zip(nodes.tolist(), owners.tolist(), strict=True):
        assert view.starts[owner] <= node < view.starts[owner + 1]


def test_ids_beyond_2_31_are_not_cut() -> None:
    view = view_of([2**33, 5, 2**33], part=1)
    nodes = np.array([2**32 + 1, 2**33 - 1, 2**33 + 5, 2**34 + 4])
    assert view.owners(nodes).tolist() == [0, 0, 2, 2]
    assert view.to_remote(nodes).tolist() == [2**32 + 1, 2**33 - 1, 2**33, 2**34 - 1]


@pytest.mark.parametrize("node", [-1, 2, 4, 9])
def test_inner_nodes_and_nodes_of_no_graph_are_not_remote(node: int) -> None:
    assert view_of([2, 3, 4], part=1).not_remote([node]) == [node]


def test_inner_nodes_are_counted() -> None:
    view = view_of([2, 3, 4], part=1)
    assert (view.first, view.last, view.num_inner, view.num_nodes) == (2, 5, 3, 9)


def test_halo_degree_counts_edges_from_each_halo_node() -> None:
    view = PartitionView(
        part=0,
        starts=np.array([0, 2, 9]),
        indptr=np.array([0, 3, 6]),
        indices=np.array([0, 2, 4, 2, 1, 2]),
        halo=np.array([5, 3, 8]),
    )
    assert view.halo_degree.tolist() == [3, 0, 1]


def test_a_partition_without_halo_has_no_halo_degrees() -> None:
    assert view_of([2, 3], part=0).halo_degree.tolist() == []
