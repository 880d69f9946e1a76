"""A model that goes on from a checkpoint trains as if it had not stopped, dropout included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import dgl
import pytest
import torch

from rudder.training.checkpoint.session import packed, unpacked
from rudder.training.config import run_config
from rudder.training.events import EpochDone, Event
from rudder.training.loading.batch import Batch, StepAccounts
from rudder.training.metrics import RowCounts, Seconds
from rudder.training.sources import Source
from rudder.training.trainer import TrainingLoop
from tests.training.process_group import outputs_of_ranks, process_group

GRAPH: Any = SimpleNamespace(feature_dim=6, num_classes=3, multilabel=False)
NUM_STEPS = 5


class Batches:
    """The same batches in each epoch, in the first one from the k-th on."""

    def __init__(self, *, first_batch: int, skipped: int = 0) -> None:
        self._first_batch, self._skipped = first_batch, skipped

    def batches(self) -> Iterator[Batch]:
        for number in range(self._skipped, NUM_STEPS):
            yield batch_of(self._first_batch + number)
        self._skipped = 0


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


def loop_of(told: list[Event], **options: Any) -> TrainingLoop:
    config = run_config(dropout=0.5, seed=3, **options)
    return TrainingLoop(config, GRAPH, None, rank=0, num_steps=NUM_STEPS, emit=told.append)


def outcome(loop: TrainingLoop) -> tuple[list[Any], list[Any]]:
    epochs = [(each.epoch, each.num_steps, each.loss, each.rows) for each in loop.epochs]
    return epochs, [weights.tolist() for weights in loop.model.state_dict().values()]


def whole(*, first_batch: int = 0, **options: Any) -> TrainingLoop:
    """Three epochs."""
    loop, source = loop_of([], **options), cast("Source", Batches(first_batch=first_batch))
    assert all(loop.train_epoch(epoch, source) for epoch in range(3))
    return loop


def stopped_and_resumed(stop_after: int, *, first_batch: int = 0, **options: Any) -> TrainingLoop:
    """Three epochs, of which the second one is stopped after so many steps, and gone on with."""
    before, source = loop_of([], **options), cast("Source", Batches(first_batch=first_batch))
    assert before.train_epoch(0, source)
    is_over = before.train_epoch(1, source, after_step=lambda step: step == stop_after)
    assert not is_over
    assert before.step_in_epoch == stop_after
    shared, own = (unpacked(packed(state)) for state in (before.shared_state(), before.own_state()))
    torch.rand(7)  # what happens meanwhile
    told: list[Event] = []
    after = loop_of(told, **options)
    after.restore(shared=shared, own=own)
    rest = cast("Source", Batches(first_batch=first_batch, skipped=stop_after))
    assert all(after.train_epoch(epoch, rest) for epoch in (1, 2))
    assert [each.metrics.epoch for each in told if isinstance(each, EpochDone)] == [1, 2]
    return after


@pytest.mark.parametrize("stop_after", [1, 4])
def test_losses_and_weights_are_those_of_a_run_that_did_not_stop(
    stop_after: int, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"model": "gat", "hidden": 8, "heads": 2}
    with process_group(0, size=1, meeting=tmp_path / "meet"):
        assert outcome(stopped_and_resumed(stop_after, **options)) == outcome(whole(**options))


def test_sums_over_four_ranks_are_in_the_same_order_after_a_resume(tmp_path: Path) -> None:
    module = "tests.training.checkpoint.loop_rank"
    outputs_of_ranks(module, tmp_path / "meet", "sage", size=4)
