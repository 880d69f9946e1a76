"""Batches are whole and in order, in whatever order answers come and whatever happens meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import dgl
import numpy as np
import pytest
import torch

from rudder.training.buffer.registry import POLICIES
from rudder.training.errors import RunError
from rudder.training.loading.batch import Batch
from rudder.training.loading.pipeline import QueueLimits
from rudder.training.loading.tensors import GraphTensor
from rudder.training.metrics import RowCounts
from rudder.training.partition_view import IntArray
from rudder.training.settings import Change, FetchTargets
from tests.training.loading.small_world import ROWS, World, asked_of, wrong_rows

SEEDS = range(16)
"""Each decides on capacity, lookahead, and the order of answers and events."""


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("policy", POLICIES)
def test_batches_come_in_order_with_the_rows_of_their_nodes(policy: str, seed: int) -> None:
    world = World(seed, policy=policy, of_edges=seed % 2 > 0)
    seeds = [world.seeds() for _ in range(30)]
    world.add(seeds)
    batches = world.finish()
    assert [batch.number for batch in batches] == list(range(30))
    for batch, asked in zip(batches, seeds, strict=True):
        assert asked_of(batch) == asked.tolist()
        assert wrong_rows(batch) == []
        for rows in (batch.accounts.rows, batch.accounts.edge_rows):
            assert rows.hits + rows.rows_fetched.miss == rows.remote_rows <= rows.input_rows
        drawn = np.unique(torch.cat([block.edata[dgl.EID] for block in batch.blocks]).numpy())
        assert batch.accounts.edge_rows.input_rows == len(drawn) * world.of_edges
    accounts = [batch.accounts for batch in batches]
    fetched = sum((each.rows + each.edge_rows).rows_fetched.total for each in accounts)
    assert fetched == sum(pull.rows for each in accounts for pull in each.pulls)
    assert fetched == sum(map(len, world.wire.pulled))
    assert not world.pipeline.has_open_questions


@pytest.mark.parametrize("policy", POLICIES)
def test_a_node_whose_seed_is_given_twice_is_looked_up_and_fetched_once(policy: str) -> None:
    for seed in SEEDS:
        world = World(seed, policy=policy)
        seeds = [np.repeat(world.seeds(), 2) for _ in range(30)]
        world.add(seeds)
        for batch, asked in zip(world.finish(), seeds, strict=True):
            assert asked_of(batch) == asked.tolist()
            assert wrong_rows(batch) == []
            remote = np.unique(batch.input_nodes.numpy())
            remote = remote[(remote < world.nodes.view.first) | (remote >= world.nodes.view.last)]
            assert batch.accounts.rows.remote_rows == len(remote)


def test_batches_depend_neither_on_the_order_of_answers_nor_on_settings() -> None:
    seeds = [World(0).seeds() for _ in range(30)]
    drawn = []
    for seed in SEEDS:
        world = World(seed)
        world.add(seeds)
        drawn.append([_structure(batch) for batch in world.finish()])
    assert all(each == drawn[0] for each in drawn)
    other = World(0)
    other.add(seeds[:1])  # takes the first key
    other.add(seeds)
    assert [_structure(batch) for batch in other.finish()[1:]] != drawn[0]


def _structure(batch: Batch) -> list[list[int]]:
    ends = [torch.stack(block.edges()).flatten().tolist() for block in batch.blocks]
    return [batch.input_nodes.tolist(), *ends]


@pytest.mark.parametrize("seed", range(40))
def test_batches_are_right_after_changes_and_after_batches_that_were_given_up(seed: int) -> None:
    world = World(seed, of_edges=seed % 2 > 0)
    random, due = world.random, deque[list[int]]()

    def change() -> None:
        asked = Change(
            capacity_rows=random.choice([0, 1, 5, 30]), lookahead_batches=random.choice([0, 2, 9])
        )
        if world.policy.refusal(asked) is None:
            world.policy.apply(asked)

    def add() -> None:
        seeds = [world.seeds() for _ in range(random.randint(1, 12))]
        world.add(seeds)
        due.extend(each.tolist() for each in seeds)

    def give_up() -> None:
        world.pipeline.drop_all()
        world.ready.clear()
        due.clear()
        assert world.pipeline.is_empty
        assert not world.pipeline.has_open_questions

    for _ in range(40):
        random.choice([change, add, add, give_up])()
        for _ in range(random.randint(0, 60)):
            world.turn(room=len(world.ready) < 2)
        while world.ready:
            batch = world.ready.popleft()
            assert asked_of(batch) == due.popleft()
            assert wrong_rows(batch) == []
    assert [asked_of(batch) for batch in world.finish()] == list(due)


@pytest.fixture
def rows_as_they_were() -> Iterator[None]:
    before = {name: rows.clone() for name, rows in ROWS.items()}
    yield
    for name, rows in before.items():
        ROWS[name].copy_(rows)


@pytest.mark.usefixtures("rows_as_they_were")
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("policy", POLICIES)
def test_rows_that_were_written_are_new_in_every_later_batch(policy: str, seed: int) -> None:
    world = World(seed, policy=policy, of_edges=True)
    pipeline, num_taken = world.pipeline, 0
    world.add([world.seeds() for _ in range(40)])
    while not pipeline.is_empty:
        for _ in range(world.random.randint(0, 80)):
            world.turn(room=len(world.ready) < 2)
        while pipeline.has_open_questions:
            pipeline.receive(0, give_up_s=60.0)
        written = [tensor for tensor in tensors_of(world) if world.random.random() < 0.5]
        for tensor in written:
            ROWS[tensor.name].add_(1)
            pipeline.refresh(tensor, read_now)
            for batch in world.ready:
                tensor.put(batch, read_now(tensor, tensor.ids(batch).numpy()))
        while world.ready:
            assert wrong_rows(world.ready.popleft()) == []
            num_taken += 1
    assert num_taken == 40


def tensors_of(world: World) -> list[GraphTensor]:
    stages = (world.nodes, world.edges)
    return [tensor for stage in stages for tensor in (*stage.inputs, *stage.outputs)]


def read_now(tensor: GraphTensor, nodes: IntArray) -> torch.Tensor:
    return ROWS[tensor.name][torch.from_numpy(nodes)]


@pytest.mark.parametrize("seed", range(10))
def test_what_a_script_keeps_of_a_batch_is_never_written_again(seed: int) -> None:
    world = World(seed)
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []
    most_bytes = 0
    for number in range(300):
        world.add([world.seeds()])
        for batch in world.finish():
            x = batch.blocks[0].srcdata["feat"]
            nodes = batch.input_nodes
            views = [x, x[1:], x.t().t(), x.view(-1, 1)[::3], x.detach()[:, 1]]
            wanted = ROWS["feat"][nodes]
            copies = [wanted, wanted[1:], wanted, wanted.view(-1, 1)[::3], wanted[:, 1]]
            which = world.random.randrange(len(views))
            if world.random.random() < 0.5:
                kept.append((views[which], copies[which]))
            del x, views, batch
        assert all(torch.equal(view, copy) for view, copy in kept[-20:])
        if number % 50 == 49:
            assert all(torch.equal(view, copy) for view, copy in kept)
            kept.clear()
        most_bytes = max(most_bytes, world.nodes.pool.num_bytes)
    limits = QueueLimits()
    assert most_bytes <= 2 * (limits.ready + 3) * 90 * 12 * 2


@pytest.mark.parametrize("seed", range(16))
@pytest.mark.parametrize("policy", ["lookahead", "lfu", "static"])
def test_rows_fetched_while_idle_are_right_and_counted(policy: str, seed: int) -> None:
    world = World(seed, policy=policy)
    asked = Change(
        capacity_rows=world.random.choice([5, 40]),
        fetch_targets=FetchTargets(source="degree", row_budget=5, while_idle=True),
    )
    seeds = [world.seeds() for _ in range(12)]
    for number in range(0, 12, 4):
        world.policy.apply(asked)
        for _ in range(world.random.randint(0, 60)):
            world.turn(room=len(world.ready) < 2)
        world.add(seeds[number : number + 4])
    batches = world.finish()
    assert [batch.seeds.tolist() for batch in batches] == [each.tolist() for each in seeds]
    assert all(wrong_rows(batch) == [] for batch in batches)
    fetched = sum(batch.accounts.rows.rows_fetched.total for batch in batches)
    assert fetched == sum(map(len, world.wire.pulled))


def test_rows_of_edges_are_kept_in_a_buffer_whose_capacity_follows_that_of_nodes() -> None:
    world = World(0, of_edges=True)
    edges = [world.seeds() for _ in range(20)]
    hits, rows = [], []
    for capacity in (0, 90, 90, 0, 5):
        world.policy.apply(Change(capacity_rows=capacity))
        world.add(edges)
        counts = sum((batch.accounts.edge_rows for batch in world.finish()), RowCounts())
        hits.append(counts.hits)
        rows.append(world.edges.policy.settings.capacity_rows)
    assert rows == [0, 360, 360, 0, 30]
    assert hits[0] == hits[3] == 0 < hits[4] < hits[1] < hits[2]


def test_rows_are_fetched_before_the_first_batch() -> None:
    world = World(0)
    targets = FetchTargets(source="degree", row_budget=20, while_idle=True)
    world.policy.apply(Change(capacity_rows=20, fetch_targets=targets))
    for _ in range(100):
        world.turn()
    assert world.policy.num_buffered == 20
    world.add([world.seeds()])
    (batch,) = world.finish()
    assert batch.accounts.rows.hits > 0
    assert batch.accounts.rows.rows_fetched.idle == 20
    assert batch.accounts.pulls == () or sum(pull.rows for pull in batch.accounts.pulls) < 40


@pytest.mark.parametrize("turns", range(8))
def test_rows_fetched_while_idle_count_though_batches_are_given_up(turns: int) -> None:
    world = World(0)
    targets = FetchTargets(source="degree", row_budget=20, while_idle=True)
    world.policy.apply(Change(capacity_rows=20, fetch_targets=targets))
    for _ in range(turns):
        world.turn()
    world.pipeline.drop_all()
    fetched = sum(map(len, world.wire.pulled))
    world.add([world.seeds()])
    (batch,) = world.finish()
    idle = batch.accounts.rows.rows_fetched.idle
    assert fetched <= idle <= 20


def test_a_pipeline_runs_ahead_as_far_as_its_limits() -> None:
    world = World(1)
    assert world.policy.refusal(Change(lookahead_batches=6)) is None
    world.policy.apply(Change(lookahead_batches=6))
    world.add([world.seeds() for _ in range(100)])
    for _ in range(2000):
        world.turn(room=False)
    limits = QueueLimits()
    assert world.pipeline.next_planned == limits.pulling
    started = world.pipeline._next_number - limits.pulling
    assert 6 + limits.drawn <= started <= 6 + limits.drawn + 1
    assert not world.ready


def test_silent_servers_end_the_wait_with_their_partitions_named() -> None:
    world = World(0)
    world.add([np.array([0, 89])])
    while not world.pipeline.has_open_questions:
        world.turn()
    world.wire.waiting.clear()
    with pytest.raises(RunError, match=r"partitions \[0, 2\]"):
        world.pipeline.receive(0, give_up_s=0.0)
