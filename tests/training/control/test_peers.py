"""Paces told through real stores, between clients and between processes."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from torch import distributed

from rudder.memory.sample import sample_window, sample_workload
from rudder.training.control.endpoint import ProcessGroup
from rudder.training.control.peers import KeyValueStore, Peers, ranks_per_group, timing_key
from rudder.training.metrics import StepTiming
from rudder.training.turn import RankTurn
from tests.waiting import WAIT_SECONDS

Clients = tuple[KeyValueStore, KeyValueStore]
TORCH: Any = distributed
WINDOW = sample_window(0, workload=sample_workload())
"""Its stubs lack some methods of stores."""


def file_stores(folder: Path) -> Clients:
    path = str(folder / "store")
    return TORCH.FileStore(path, 2), TORCH.FileStore(path, 2)


def tcp_stores(folder: Path) -> Clients:
    patient = timedelta(seconds=WAIT_SECONDS)
    server = TORCH.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=patient)
    client = TORCH.TCPStore("127.0.0.1", server.port, timeout=patient)
    return server, client


def prefix_stores(folder: Path) -> Clients:
    """As torch's default group has them."""
    one, two = tcp_stores(folder)
    return (
        TORCH.PrefixStore("default_pg", one),
        TORCH.PrefixStore("default_pg", two),
    )


@contextmanager
def store_process() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that keeps a store, as rank 0 does, and its port."""
    code = (
        "import sys; from datetime import timedelta; from torch import distributed as d;"
        "s = d.TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False,"
        f" timeout=timedelta(seconds={WAIT_SECONDS}));"
        "print(s.port, flush=True); sys.stdin.readline()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            yield server, int(server.stdout.readline())
        finally:
            server.kill()


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
    assert time.monotonic() - started < WAIT_SECONDS


def test_ranks_of_a_large_world_are_found_little_by_little(tmp_path: Path) -> None:
    one, two = file_stores(tmp_path)
    for rank in range(1, 14):
        peers_of(two, rank=rank, world_size=14).share(pace(rank))
    peers = peers_of(one, rank=0, world_size=14)
    assert [len(peers.share(pace(0))) for _ in range(3)] == [8, 13, 13]


def test_a_group_is_of_whole_hosts_and_groups_are_about_as_many_as_their_ranks() -> None:
    sizes = {
        (world, on_host): ranks_per_group(world, trainers_on_host=on_host)
        for world, on_host in ((1, 1), (8, 1), (16, 4), (256, 1), (512, 1), (512, 8), (40, 3))
    }
    assert list(sizes.values()) == [16, 16, 16, 16, 23, 24, 18]


def test_of_other_groups_and_its_own_a_rank_is_told_who_waits_longest(stores: Clients) -> None:
    worst = {5: 0.4, 20: 0.3, 39: 0.9}
    paces = [
        StepTiming(rank=r, window=1, step_seconds=1.0, exposed_wait_seconds=worst.get(r, 0.1))
        for r in range(40)
    ]
    peers = [peers_of(stores[rank % 2], rank=rank, world_size=40) for rank in range(40)]
    for _ in range(4):
        found = [each.share(pace) for each, pace in zip(peers, paces, strict=True)]
    assert [(each.rank, each.num_ranks) for each in found[0]] == [(5, 15), (20, 16), (39, 8)]
    assert [(each.rank, each.num_ranks) for each in found[39]] == [(32, 7), (5, 16), (20, 16)]
    assert found[0][2].exposed_wait_seconds == 0.9


class CountedStore:
    """A client of a store that counts requests, their keys, and bytes of keys and values."""

    def __init__(self, store: KeyValueStore) -> None:
        self._store, self.num_requests, self.num_keys, self.num_bytes = store, 0, 0, 0

    def multi_set(self, keys: list[str], values: list[str]) -> None:
        self._count(keys, values)
        self._store.multi_set(keys, values)

    def multi_get(self, keys: list[str]) -> list[bytes]:
        found = self._store.multi_get(keys)
        self._count(keys, found)
        return found

    def _count(self, keys: list[str], values: Sequence[str | bytes]) -> None:
        self.num_requests += 1
        self.num_keys += len(keys)
        self.num_bytes += sum(map(len, (*keys, *values)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def peers_that_know_each_other(
    store: KeyValueStore, *, world_size: int, on_host: int
) -> list[Peers]:
    key = f"{world_size:016}"
    ranks = [
        Peers(store, rank=rank, world_size=world_size, trainers_on_host=on_host, run_key=key)
        for rank in range(world_size)
    ]
    for window in range(4):
        for rank, peers in enumerate(ranks):
            peers.share(pace(rank, window=window))
    assert not any(peers._of_group._unseen or peers._of_others._unseen for peers in ranks)
    return ranks


@pytest.mark.parametrize("on_host", [1, 8])
def test_at_512_ranks_a_window_costs_2_requests_4_kib_and_a_few_times_the_time_of_16_ranks(
    on_host: int,
) -> None:
    with store_process() as (_, port):
        client = TORCH.TCPStore("127.0.0.1", port, timeout=timedelta(seconds=WAIT_SECONDS))
        job = TORCH.PrefixStore("default_pg", client)
        few = peers_that_know_each_other(job, world_size=16, on_host=on_host)
        store: Any = CountedStore(job)
        many = peers_that_know_each_other(store, world_size=512, on_host=on_host)
        store.num_requests = store.num_keys = store.num_bytes = 0
        costs: list[tuple[float, float]] = []
        for rank, peers in enumerate(many):
            times = [time.process_time()]
            few[rank % 16].share(pace(rank % 16, window=4000))
            times.append(time.process_time())
            found = peers.share(pace(rank, window=4000))
            times.append(time.process_time())
            costs.append((times[1] - times[0], times[2] - times[1]))
            assert sum(each.num_ranks for each in found) == 511
            shown = WINDOW.model_copy(update={"peers": found}).model_dump_json()
            assert len(shown) - len(WINDOW.model_dump_json()) < 4096
    assert store.num_requests == 2 * 512
    assert store.num_keys <= (2 * math.isqrt(512 - 1) + 4) * 512
    assert store.num_bytes < 4096 * 512
    of_few, of_many = (statistics.median(each) for each in zip(*costs, strict=True))
    assert of_many < 5 * of_few


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
    with store_process() as (server, port):
        client = TORCH.TCPStore("127.0.0.1", port, timeout=timedelta(seconds=WAIT_SECONDS))
        peers = peers_of(client, rank=0, world_size=2)
        assert peers.share(pace(0)) == ()
        peers_of(client, rank=1).share(pace(1))
        assert peers.share(pace(0)) == (pace(1),)
        server.kill()
        server.wait()
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


def test_one_of_the_ranks_that_want_the_next_turn_has_it_and_all_hear_of_it(
    stores: Clients,
) -> None:
    first, second = (peers_of(store, rank=rank) for rank, store in enumerate(stores))
    turn, other = (
        RankTurn(
            number=1, rank=rank, state="deciding", step=16, until_step=99, settings=WINDOW.settings
        )
        for rank in (0, 1)
    )
    second.share(pace(1))
    assert second.turn is None
    assert first.write_turn(turn, instead_of=None) == turn
    assert second.write_turn(other, instead_of=None) == turn
    second.share(pace(1, window=1))
    assert second.turn == turn
    closed = turn.model_copy(update={"state": "kept"})
    assert first.write_turn(closed, instead_of=turn) == closed
    following = other.model_copy(update={"number": 2})
    assert second.write_turn(following, instead_of=closed) == following
    assert first.write_turn(turn, instead_of=closed) == following


def test_without_a_store_there_are_no_turns() -> None:
    turn = RankTurn(number=1, rank=0, state="kept", step=0, until_step=9, settings=WINDOW.settings)
    assert Peers().write_turn(turn, instead_of=None) is None
