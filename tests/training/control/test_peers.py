"""Paces told through real stores, between clients and between processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from torch import distributed

from rudder.training.control.endpoint import ProcessGroup
from rudder.training.control.peers import KeyValueStore, Peers, timing_key
from rudder.training.metrics import StepTiming

Clients = tuple[KeyValueStore, KeyValueStore]
TORCH: Any = distributed
"""Its stubs lack some methods of stores."""


def file_stores(folder: Path) -> Clients:
    path = str(folder / "store")
    return TORCH.FileStore(path, 2), TORCH.FileStore(path, 2)


def tcp_stores(folder: Path) -> Clients:
    quick = timedelta(seconds=5)
    server = TORCH.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=quick)
    client = TORCH.TCPStore("127.0.0.1", server.port, timeout=quick)
    return server, client


def prefix_stores(folder: Path) -> Clients:
    """As torch's default group has them."""
    one, two = tcp_stores(folder)
    return (
        TORCH.PrefixStore("default_pg", one),
        TORCH.PrefixStore("default_pg", two),
    )


@pytest.fixture(params=[file_stores, tcp_stores, prefix_stores])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Clients:
    make: Callable[[Path], Clients] = request.param
    return make(tmp_path)


def peers_of(store: KeyValueStore, *, rank: int, world_size: int = 2, run_key: str = "5e") -> Peers:
    return Peers(store, rank=rank, world_size=world_size, run_key=run_key)


def pace(rank: int, *, window: int = 0) -> StepTiming:
    return StepTiming(rank=rank, window=window, step_seconds=0.5, exposed_wait_seconds=0.25)


def test_ranks_hear_each_others_last_word(stores: Clients) -> None:
    first = peers_of(stores[0], rank=0, world_size=2)
    second = peers_of(stores[1], rank=1, world_size=2)
    assert first.share(pace(0)) == ()
    assert second.share(pace(1)) == (pace(0),)
    assert first.share(pace(0, window=1)) == (pace(1),)
    assert second.share(pace(1, window=1)) == (pace(0, window=1),)


def test_two_loaders_of_one_job_do_not_hear_each_others_paces(stores: Clients) -> None:
    training = [peers_of(store, rank=rank, run_key="a1") for rank, store in enumerate(stores)]
    validation = [peers_of(store, rank=rank, run_key="b2") for rank, store in enumerate(stores)]
    training[0].share(pace(0, window=7))
    validation[0].share(pace(0, window=3))
    assert training[1].share(pace(1)) == (pace(0, window=7),)
    assert validation[1].share(pace(1)) == (pace(0, window=3),)


def test_a_rank_that_has_not_told_is_not_waited_for(stores: Clients) -> None:
    peers = peers_of(stores[0], rank=2, world_size=4)
    started = time.monotonic()
    assert [peers.share(pace(2, window=window)) for window in range(2)] == [(), ()]
    assert time.monotonic() - started < 4


def test_ranks_of_a_large_world_are_found_little_by_little(tmp_path: Path) -> None:
    one, two = file_stores(tmp_path)
    for rank in range(1, 10):
        peers_of(two, rank=rank, world_size=10).share(pace(rank))
    peers = peers_of(one, rank=0, world_size=10)
    counts = [len(peers.share(pace(0))) for _ in range(4)]
    assert counts[-1] == 9
    assert counts == sorted(counts)
    assert counts[0] < 9


def test_an_error_ends_the_exchange_with_one_line(
    stores: Clients, capfd: pytest.CaptureFixture[str]
) -> None:
    stores[1].set(timing_key("5e", 1), "no pace")
    peers = peers_of(stores[0], rank=0, world_size=2)
    assert peers.share(pace(0)) == ()
    assert peers.share(pace(0)) == ()
    assert capfd.readouterr().err.count("no longer shared") == 1


def test_a_store_whose_server_is_gone_ends_the_exchange(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = (
        "import sys; from datetime import timedelta; from torch import distributed as d;"
        "s = d.TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False,"
        " timeout=timedelta(seconds=5)); print(s.port, flush=True); sys.stdin.readline()"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    port = int(server.stdout.readline())
    client = TORCH.TCPStore("127.0.0.1", port, timeout=timedelta(seconds=5))
    peers = peers_of(client, rank=0, world_size=2)
    assert peers.share(pace(0)) == ()
    client.set(timing_key("5e", 1), pace(1).model_dump_json())
    assert peers.share(pace(0)) == (pace(1),)
    server.kill()
    server.communicate()
    assert peers.share(pace(0)) == ()
    assert peers.share(pace(0)) == ()
    assert capfd.readouterr().err.count("no longer shared") == 1


def test_all_ranks_agree_on_what_the_first_proposed(stores: Clients) -> None:
    first, second = (
        ProcessGroup(store=store, rank=rank, world_size=2) for rank, store in enumerate(stores)
    )
    assert second.agree("subject", "two") == "two"
    assert first.agree("subject", "one") == "two"
    assert first.agree("another", "one") == "one"


def test_every_loader_of_a_process_has_a_run_key_of_its_own() -> None:
    alone = ProcessGroup(store=None, rank=0, world_size=1)
    keys = {alone.new_run_key() for _ in range(5)}
    assert len(keys) == 5
    assert all(int(key, 16) >= 0 for key in keys)
    assert alone.peers(keys.pop()).share(pace(0)) == ()
