"""Every thread gets the answers to its own requests, under every order that a seed can force."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
import torch
from dgl.distributed import rpc

from rudder.training.wire import rpc_gate
from rudder.training.wire.rpc_gate import RpcGate, Transport, open_gate
from tests.training.loading.interleaving import Turns

READ, WRITE, BARRIER, SAMPLE = 1, 2, 3, 4
ANSWERS = {READ: "rows", BARRIER: "barrier", SAMPLE: "edges", SAMPLE + 1: "edges"}
SEEDS = range(40)


@dataclass(frozen=True)
class Sent:
    """A request, or its answer."""

    service_id: int
    msg_seq: int


@dataclass
class Servers:
    """Answer in any order.

    A barrier's answer has the number of another trainer's request, a sample's another service.
    """

    turns: Turns
    random: Random
    waiting: list[Sent] = field(default_factory=list)
    num_inside: int = 0

    def send(self, message: Sent, target: int) -> None:
        if message.service_id != WRITE:
            self.waiting.append(message)

    def receive(self, timeout_ms: int) -> Sent | None:
        assert self.num_inside == 0, "two threads in DGL's receiver"
        self.num_inside += 1
        self.turns.point()
        self.num_inside -= 1
        if not self.waiting or self.random.random() < 0.2:
            return None
        answer = self.waiting.pop(self.random.randrange(len(self.waiting)))
        if answer.service_id == BARRIER:
            return Sent(BARRIER, self.random.randrange(100))
        return Sent(answer.service_id + (answer.service_id == SAMPLE), answer.msg_seq)


@pytest.fixture
def worlds(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(seed: int) -> tuple[Turns, Servers, RpcGate]:
        turns = Turns(seed)
        monkeypatch.setattr(rpc_gate, "threading", turns.threading)
        servers = Servers(turns, turns.random)
        transport = Transport(servers.send, servers.receive, ANSWERS.get)
        return turns, servers, RpcGate(transport)

    return make


def numbers() -> Iterator[int]:
    yield from range(1_000_000)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_thread_gets_its_own_answers(seed: int, worlds: Any) -> None:
    turns, _, gate = worlds(seed)
    number = numbers()
    wrong: list[tuple[set[int], set[int]]] = []

    def use(service_id: int) -> None:
        for _ in range(8):
            sent = {next(number) for _ in range(turns.random.randint(1, 4))}
            for each in sent:
                gate.send(Sent(WRITE, next(number)), 0)
                gate.send(Sent(service_id, each), 0)
            got = {gate.receive().msg_seq for _ in sent}
            if sent != got:
                wrong.append((sent, got))

    def meet() -> None:
        for _ in range(8):
            gate.send(Sent(BARRIER, next(number)), 0)
            if gate.receive().service_id != BARRIER:
                wrong.append((set(), set()))

    threads = [turns.start(lambda: use(READ)), turns.start(lambda: use(SAMPLE)), turns.start(meet)]
    use(READ)
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("seed", range(20))
def test_what_an_interrupted_thread_did_not_get_is_given_to_nobody(seed: int, worlds: Any) -> None:
    _, servers, gate = worlds(seed)
    gate.send(Sent(READ, 1), 0)
    receive, gate._transport = gate._transport, Transport(servers.send, interrupted, ANSWERS.get)
    with pytest.raises(KeyboardInterrupt):
        gate.receive()
    gate._transport = receive
    gate.send(Sent(READ, 2), 0)
    assert gate.receive().msg_seq == 2


def interrupted(timeout_ms: int) -> None:
    raise KeyboardInterrupt


def test_a_wait_ends_when_its_time_is_up(worlds: Any) -> None:
    *_, gate = worlds(0)
    gate.send(Sent(WRITE, 1), 0)
    assert gate.receive(1) is None


def test_work_that_receives_by_itself_is_done_only_while_no_request_is_open(worlds: Any) -> None:
    *_, gate = worlds(0)
    assert gate.alone(lambda: torch.ones(1)) is not None
    gate.send(Sent(READ, 1), 0)
    assert gate.alone(lambda: torch.ones(1)) is None
    gate.receive()
    assert gate.alone(lambda: torch.ones(1)) is not None


def test_all_of_dgls_messages_pass_the_gate_after_it_was_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("send_rpc_message", "recv_rpc_message", "fast_pull", "incr_msg_seq"):
        monkeypatch.setattr(rpc, name, getattr(rpc, name))
    open_gate.cache_clear()
    gate = open_gate()
    assert rpc.send_rpc_message == gate.send
    assert rpc.recv_rpc_message == gate.receive
    assert rpc.incr_msg_seq() + 1 == rpc.incr_msg_seq()
    assert open_gate() is gate
    open_gate.cache_clear()
