"""Heads of logs told through real stores, and through the ports of trainers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from torch import distributed

from rudder.training.control import unix_socket
from rudder.training.control.log_heads import LogHeads
from rudder.training.control.messages import Heartbeat, LogHead, read_message, to_line
from rudder.training.control.peers import KeyValueStore
from rudder.training.control.service import ControlPort
from tests.waiting import WAIT_SECONDS

TORCH: Any = distributed
"""Its stubs lack some methods of stores."""


def head(rank: int, number: int) -> LogHead:
    return LogHead(rank=rank, number=number, hash=f"{number:064x}")


def heads_of(folder: Path, *, num_ranks: int, run_key: str = "5e") -> list[LogHeads]:
    path = str(folder / "store")
    stores = [TORCH.FileStore(path, num_ranks) for _ in range(num_ranks)]
    return [
        LogHeads(store, rank=rank, world_size=num_ranks, run_key=run_key)
        for rank, store in enumerate(stores)
    ]


def test_each_rank_hears_where_the_log_of_the_next_one_ends(tmp_path: Path) -> None:
    ranks = heads_of(tmp_path, num_ranks=3)
    assert [each.exchange(head(rank, 1)) for rank, each in enumerate(ranks)] == [
        None, None, head(0, 1),
    ]  # fmt: skip
    assert ranks[0].exchange(head(0, 2)) == head(1, 1)
    assert ranks[2].exchange(head(2, 2)) == head(0, 2)
    other = heads_of(tmp_path, num_ranks=3, run_key="77")
    assert other[2].exchange(head(2, 1)) is None


class LostStore:
    """A store whose server is gone."""

    num_calls = 0

    def set(self, key: str, value: str, /) -> None:
        self.num_calls += 1
        raise RuntimeError("Connection reset by peer")


def test_a_store_that_is_gone_is_asked_once_and_ends_nothing() -> None:
    store: Any = LostStore()
    alone: KeyValueStore = store
    heads = LogHeads(alone, rank=0, world_size=2)
    assert [heads.exchange(head(0, number)) for number in (1, 2)] == [None, None]
    assert store.num_calls == 1


def test_a_port_answers_a_heartbeat_that_has_a_head_with_the_next_ranks(tmp_path: Path) -> None:
    ranks = heads_of(tmp_path, num_ranks=2)
    assert ranks[1].exchange(head(1, 7)) is None
    path, began = tmp_path / "rank0.sock", time.monotonic()
    with (
        ControlPort(path, rank=0, heads=ranks[0]) as port,
        unix_socket.connect(path, timeout_s=WAIT_SECONDS) as client,
        client.makefile("rb") as lines,
    ):
        client.sendall(to_line(Heartbeat(heartbeat=1)))
        client.sendall(to_line(Heartbeat(heartbeat=2, head=head(0, 3))))
        assert read_message(lines.readline()) == head(1, 7)
        assert port.last_heartbeat is not None
        assert began <= port.last_heartbeat <= time.monotonic()
    assert ranks[1].exchange(head(1, 8)) == head(0, 3)
