from __future__ import annotations

from pathlib import Path

import dgl
import dgl.distributed
import numpy as np
import pytest

from rudder.training.distdgl import partition_view
from rudder.training.errors import DataError


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_a_part_that_does_not_list_its_own_nodes_first_is_refused(tmp_path: Path) -> None:
    graph = dgl.rand_graph(60, 400)
    dgl.distributed.partition_graph(graph, "g", 2, str(tmp_path))
    local, _, _, book, *_ = dgl.distributed.load_partition(str(tmp_path / "g.json"), 1)
    view = partition_view(local, book, with_edge_ids=False)
    ids = local.ndata[dgl.NID]
    np.testing.assert_array_equal(view.halo, ids[view.num_inner :])
    local.ndata[dgl.NID] = ids.flip(0)
    with pytest.raises(DataError, match="part 1 does not list its own nodes first"):
        partition_view(local, book, with_edge_ids=False)
