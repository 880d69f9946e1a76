"""Scores of link prediction are those that its definitions give, on training edges alone."""

from __future__ import annotations

import dgl
import numpy as np
import pytest
import torch
from torchmetrics.functional.retrieval import retrieval_hit_rate, retrieval_reciprocal_rank

from rudder.training.errors import DataError
from rudder.training.loading.batch import Batch, StepAccounts
from rudder.training.metrics import RowCounts, Seconds
from rudder.training.model.link_prediction import (
    NUM_RIVALS,
    LinkPrediction,
    fetch_rows,
    held_out_edges,
    ranking_scores,
    ranking_sums,
    without_held_out,
)
from rudder.training.model.shard import Collectives, Shard
from rudder.training.partition_view import PartitionView
from rudder.training.sampling.edge_split import EdgeSplit

SPLIT = EdgeSplit(seed=1, val=0.2, test=0.3)
NUM_NODES = 50
RANDOM = np.random.default_rng(0)
INDPTR = np.concatenate([[0], np.cumsum(RANDOM.integers(0, 9, NUM_NODES))])
VIEW = PartitionView(
    part=0,
    starts=np.array([0, NUM_NODES]),
    indptr=INDPTR,
    indices=RANDOM.integers(0, NUM_NODES, INDPTR[-1]),
    halo=np.array([], dtype=np.int64),
)


def edges_of(view: PartitionView) -> list[tuple[int, int]]:
    destinations = np.repeat(np.arange(view.num_inner), np.diff(view.indptr))
    return list(zip(view.indices.tolist(), destinations.tolist(), strict=True))


def test_every_edge_is_trained_on_or_tested_in_one_set() -> None:
    shard = Shard.of(VIEW, Collectives(torch.device("cpu")))
    training = edges_of(without_held_out(VIEW, SPLIT))
    tested = [
        list(
            zip(
                *(ends.tolist() for ends in held_out_edges(shard, SPLIT, name, most=1000)),
                strict=True,
            )
        )
        for name in ("val", "test")
    ]
    assert sorted([*training, *tested[0], *tested[1]]) == sorted(edges_of(VIEW))
    assert min(map(len, tested)) > 10
    assert [len(each) for each in held_out_edges(shard, SPLIT, "test", most=7)] == [7, 7]


def test_rows_are_fetched_in_the_order_asked_for() -> None:
    collectives = Collectives(torch.device("cpu"))
    rows = torch.arange(NUM_NODES * 2.0).view(NUM_NODES, 2)
    nodes = np.array([7, 3, 7, 49, 0])
    found = fetch_rows(Shard.of(VIEW, collectives), collectives, rows, nodes)
    assert torch.equal(found, rows[nodes])


def test_an_edge_s_rank_is_one_more_than_the_rivals_that_score_as_high() -> None:
    ones, pool = torch.ones(4, 1), torch.zeros(50, 1)
    count, reciprocal, hits = ranking_sums(ones, torch.tensor([[1.0], [-1.0], [0.0], [2.0]]), pool)
    assert (count, hits) == (4, 2)
    assert reciprocal == pytest.approx(2 + 2 / (NUM_RIVALS + 1))


def test_ranks_are_those_of_torchmetrics() -> None:
    random = torch.Generator().manual_seed(0)
    sources, destinations, rival = (torch.rand(n, 4, generator=random) for n in (30, 30, 1))
    target = torch.tensor([True, *[False] * NUM_RIVALS])
    reciprocal = hits = 0.0
    for source, destination in zip(sources, destinations, strict=True):
        scores = torch.cat([(source @ destination)[None], (rival @ source).expand(NUM_RIVALS)])
        reciprocal += float(retrieval_reciprocal_rank(scores, target))
        hits += float(retrieval_hit_rate(scores, target, top_k=10))
    found = ranking_sums(sources, destinations, rival)
    assert found.tolist() == pytest.approx([30, reciprocal, hits])
    assert 0 < hits < 30


def test_scores_are_means_over_all_ranks_edges() -> None:
    mrr, hits = ranking_scores([4, 3, 2], [0, 0, 0])
    assert (mrr.name, mrr.test, mrr.val) == ("MRR", 0.75, None)
    assert (hits.name, hits.test) == ("Hits@10", 0.5)
    with pytest.raises(DataError, match="no edge is in the test set"):
        ranking_scores([0, 0, 0], [1, 1, 1])


def test_the_loss_falls_as_edges_and_negatives_move_apart() -> None:
    def batch_of(*pairs: tuple[list[int], list[int]]) -> Batch:
        positive, negative = (dgl.graph(ends, num_nodes=3) for ends in pairs)
        accounts = StepAccounts(RowCounts(), Seconds())
        nothing = torch.empty(0, dtype=torch.int64)
        return Batch(0, nothing, nothing, [], accounts, positive, negative)

    batch = batch_of(([0], [1]), ([0], [2]))
    task = LinkPrediction(hidden=1, split=SPLIT)
    undecided = task.loss(torch.zeros(3, 1), batch)
    assert float(undecided) == pytest.approx(np.log(2))
    assert task.loss(torch.tensor([[1.0], [3.0], [-3.0]]), batch) < 0.1
    assert task.num_outputs == 1
