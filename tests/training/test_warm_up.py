"""After the warm-up no run waits for the compiler."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.training.compiled_loops import compiled_by, run_python

_RUN = """
import numpy as np
from rudder.training.buffer import rows
from rudder.training.buffer.directory import SeenDirectory
from rudder.training.buffer.policies.lookahead import LookaheadBuffer
from rudder.training.buffer.registry import POLICIES, PolicyOptions, make_policy
from rudder.training.partition_view import PartitionView
from rudder.training.sampling import kernels
from rudder.training.sampling.neighbor import LayerDraw, NeighborSampling
from rudder.training.settings import BufferSettings, Change, FetchTargets

inner, degree = 500, 9
random = np.random.default_rng(0)

def view_of(part, edge_ids):
    return PartitionView(
        part=part, starts=np.array([0, inner, 2 * inner]), indptr=degree * np.arange(inner + 1),
        indices=random.integers(0, 2 * inner, degree * inner),
        halo=np.arange(inner) + (1 - part) * inner, csc_edge_ids=edge_ids,
    )

for edge_ids in (None, np.arange(degree * inner)):
    here, there = (NeighborSampling(view_of(part, edge_ids)) for part in (0, 1))
    buffer = LookaheadBuffer(view_of(0, None), BufferSettings(capacity_rows=100))
    for number in range(40):
        draw = LayerDraw(fanout=5, key=number)
        half = here.begin(random.permutation(2 * inner)[:50], draw)
        layer = here.finish(half, [there.draw(asked.nodes, draw) for asked in half.questions])
        remote = layer.nodes[layer.nodes >= inner] - inner
        buffer.observe(remote)
        if number == 20:
            buffer.apply(Change(capacity_rows=50, eviction_threshold=0.1, replace_now=True))
        if number == 30:
            buffer.apply(Change(fetch_targets=FetchTargets(source="degree", row_budget=9)))
        plan = buffer.plan(remote)
        for row_bytes in (400, 12, 6, 3):
            held = rows.BufferRows(100, row_bytes)
            fetched = rows.as_words(np.zeros((len(plan.misses), row_bytes), dtype=np.uint8))
            held.resize(plan)
            held.store(fetched, plan.admitted, plan.admitted_slots)
for num_remote in (5_000_000, 1000):
    directory = SeenDirectory(num_remote)
    for _ in range(4):
        nodes = random.permutation(num_remote)[:900]
        directory.is_seen(nodes)
        directory.find(nodes)
options = PolicyOptions(fanouts=(2, 2), source="vip")
for name in POLICIES:
    policy = make_policy(name, view_of(0, None), BufferSettings(capacity_rows=100), options)
    for number in range(40):
        change = Change(capacity_rows=50)
        if number == 20 and policy.refusal(change) is None:
            policy.apply(change)
        remote = random.permutation(inner)[:90]
        policy.observe(remote)
        policy.plan(remote)
kernels.count_runs(remote, remote, np.empty(len(remote), dtype=np.int64))

"""


def test_after_the_warm_up_another_process_compiles_nothing(tmp_path: Path) -> None:
    assert run_python("-m", "rudder.training.warm_up", cache=tmp_path) == ""
    assert compiled_by(_RUN, least=20, cache=tmp_path) == []


def test_the_warm_up_needs_neither_torch_nor_dgl() -> None:
    code = "import sys, rudder.training.warm_up; print({'torch', 'dgl'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
