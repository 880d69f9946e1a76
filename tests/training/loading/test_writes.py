"""Writes are seen by the loaders of all trainers, whichever of them writes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from dgl.distributed import rpc
from dgl.distributed.kvstore import KVClient

from rudder.training.control.endpoint import ProcessGroup
from rudder.training.errors import ConfigError
from rudder.training.loading import writes
from rudder.training.loading.tensors import GraphTensor
from rudder.training.loading.writes import Writes

NUM_ROWS = 4
TORCH: Any = torch.distributed
"""Its stubs lack the stores."""


class Trainer:
    """One trainer of two: its loader, and what its process has of DGL."""

    def __init__(self, rank: int, store: Any) -> None:
        self.rows = torch.zeros(NUM_ROWS)
        self.tensor = GraphTensor("inputs", "feat", "node~_N~feat", (), self.rows.dtype, self.rows)
        self._counts: dict[str, writes.WriteCount] = {}
        self._enter()
        self.writes = Writes([self.tensor], ProcessGroup(store, rank=rank, world_size=2))

    def _enter(self) -> None:
        writes._counts = self._counts  # each process has its own

    def push(self) -> None:
        self._enter()
        client = SimpleNamespace(machine_id=0, get_partid=lambda name, ids: torch.zeros(len(ids)))
        client.data = self.rows
        KVClient.push(client, self.tensor.key, torch.tensor([1]), torch.tensor([7.0]))

    def written(self) -> list[str]:
        self._enter()
        return [tensor.name for tensor in self.writes.take()]


def push(client: Any, name: str, ids: torch.Tensor, data: torch.Tensor) -> None:
    client.data[ids] = data


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Trainer, Trainer]]:
    monkeypatch.setattr(KVClient, "push", push)
    monkeypatch.setattr(rpc, "get_num_server_per_machine", lambda: 1)
    monkeypatch.setattr(writes, "_counts", {})
    writes._count_pushes.cache_clear()
    store = TORCH.TCPStore("127.0.0.1", 0, is_master=True, timeout=timedelta(seconds=10))
    yield Trainer(0, store), Trainer(1, store)
    writes._count_pushes.cache_clear()


def test_a_write_is_seen_by_every_trainer_once(trainers: tuple[Trainer, Trainer]) -> None:
    one, other = trainers
    assert one.written() == other.written() == []
    for _ in range(2):
        one.push()
        assert one.written() == other.written() == ["feat"]
        assert one.written() == other.written() == []


def test_a_write_through_the_local_partition_is_seen_by_its_trainer_at_once(
    trainers: tuple[Trainer, Trainer],
) -> None:
    one, other = trainers
    one.rows[2] = 5
    assert one.written() == ["feat"]
    assert other.written() == ["feat"]
    assert one.written() == []


def test_a_write_that_no_other_trainer_hears_of_is_told_once(
    trainers: tuple[Trainer, Trainer], capsys: pytest.CaptureFixture[str]
) -> None:
    alone = Trainer(1, None)
    for _ in range(2):
        alone.push()
        assert alone.written() == ["feat"]
    (line,) = capsys.readouterr().err.splitlines()
    assert "rank 1" in line
    assert "feat was written" in line
    assert "init_process_group" in line


def test_a_write_within_an_epoch_is_refused_and_not_made(
    trainers: tuple[Trainer, Trainer],
) -> None:
    one, _ = trainers
    one.writes.is_reading = True
    with pytest.raises(ConfigError, match=r"^feat is written while a loader[\s\S]*`mutable`"):
        one.push()
    assert not one.rows.any()
    one.writes.is_reading = False
    one.push()
    assert one.rows.any()


def test_an_epoch_in_which_another_trainer_wrote_ends_with_a_warning(
    trainers: tuple[Trainer, Trainer], capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = trainers
    one.writes.check_epoch()
    assert capsys.readouterr().err == ""
    other.push()
    one._enter()
    one.writes.check_epoch()
    assert "another trainer wrote feat" in capsys.readouterr().err
    assert one.written() == ["feat"]
