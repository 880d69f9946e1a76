"""A model that goes on from a checkpoint trains as if it had not stopped, dropout included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import dgl
import pytest
import torch
from torch import distributed

from rudder.training.checkpoint.session import packed, unpacked
from rudder.training.config import run_config
from rudder.training.events import EpochDone, Event
from rudder.training.loading.batch import Batch, StepAccounts
from rudder.training.metrics import RowCounts, Seconds
from rudder.training.sources import Source
from rudder.training.trainer import TrainingLoop

MANIFEST: Any = SimpleNamespace(feature_dim=6, num_classes=3, multilabel=False)
NUM_STEPS = 5


@pytest.fixture(autouse=True)
def _process_group(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


class Batches:
    """The same batches in each epoch, from the k-th on."""

    def __init__(self, first: int = 0) -> None:
        self._first = first

    def batches(self) -> Iterator[Batch]:
        for number in range(self._first, NUM_STEPS):
            yield batch_of(number)
        self._first = 0


def batch_of(number: int) -> Batch:
    generator = torch.Generator().manual_seed(number)
    blocks = []
    for num_src, num_dst in ((12, 8), (8, 4)):
        ends = (
            torch.randint(num_src, (20,), generator=generator),
            torch.randint(num_dst, (20,), generator=generator),
        )
        blocks.append(dgl.create_block(ends, num_src_nodes=num_src, num_dst_nodes=num_dst))
    blocks[0].srcdata["feat"] = torch.randn(12, 6, generator=generator)
    blocks[-1].dstdata["label"] = torch.randint(3, (4,), generator=generator)
    accounts = StepAccounts(RowCounts(input_rows=number), Seconds(compute=1.0))
    none = torch.empty(0, dtype=torch.int64)
    return Batch(number=number, input_nodes=none, seeds=none, blocks=blocks, accounts=accounts)


def loop_of(told: list[Event]) -> TrainingLoop:
    config = run_config(
        hidden=8, dropout=0.5, model="gat", heads=2, seed=3, scheduler="StepLR:step_size=1", lr=0.1
    )
    return TrainingLoop(config, MANIFEST, None, rank=0, num_steps=NUM_STEPS, emit=told.append)


def outcome(loop: TrainingLoop) -> tuple[list[Any], list[Any]]:
    epochs = [(each.epoch, each.num_steps, each.loss, each.rows) for each in loop.epochs]
    return epochs, [weights.tolist() for weights in loop.model.state_dict().values()]


@pytest.mark.parametrize("stop_after", [1, 4])
def test_losses_and_weights_are_those_of_a_run_that_did_not_stop(stop_after: int) -> None:
    whole = loop_of([])
    for epoch in range(3):
        assert whole.train_epoch(epoch, cast("Source", Batches()))
        whole.end_epoch(())
    before = loop_of([])
    assert before.train_epoch(0, cast("Source", Batches()))
    before.end_epoch(())
    is_over = before.train_epoch(
        1, cast("Source", Batches()), after_step=lambda step: step == stop_after
    )
    assert not is_over
    assert before.step_in_epoch == stop_after
    shared, own = (unpacked(packed(state)) for state in (before.shared_state(), before.own_state()))
    torch.rand(7)  # what happens meanwhile
    told: list[Event] = []
    after = loop_of(told)
    after.restore(shared=shared, own=own)
    rest = Batches(first=stop_after)
    for epoch in (1, 2):
        assert after.train_epoch(epoch, cast("Source", rest))
        after.end_epoch(())
    assert outcome(after) == outcome(whole)
    assert [each.metrics.epoch for each in told if isinstance(each, EpochDone)] == [1, 2]
