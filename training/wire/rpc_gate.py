"""Lets all threads of a trainer use DGL's client RPC at the same time.

DGL hands the next message that arrives to whichever thread asks first. With two threads, one of
them takes the other's answer: it reads wrong rows, or fails. The gate stands around the functions
of `dgl.distributed.rpc` through which every message passes. It notes which thread sent a request
and gives the answer to that thread, so a script may read and write DistTensors, sample, and wait at
barriers while loaders fetch ahead.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from dgl.distributed import rpc
from dgl.distributed.kvstore import PullRequest

_SLICE_MS = 1000
"""Longest wait inside DGL, where Python cannot act on Ctrl-C."""


class RpcMessage(Protocol):
    """What the gate reads of a DGL message."""

    @property
    def service_id(self) -> int:
        """Kind of message."""

    @property
    def msg_seq(self) -> int:
        """Number of the request among this process's requests; its answer has the same."""


@dataclass(frozen=True)
class Transport:
    """DGL's functions, as they are without the gate.

    receive: takes milliseconds and returns None when they are over; answer_class: of a service,
    None where requests are not answered. Several services may share one, and then DGL gives their
    answers the id of any of them.
    """

    send: Callable[[Any, int], None]
    receive: Callable[[int], Any]
    answer_class: Callable[[int], Any]


class _Request(NamedTuple):
    answer_class: Any
    number: int


class RpcGate:
    """Gives each thread the answers to its own requests."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._changed = threading.Condition()
        self._own = threading.local()
        self._askers: dict[_Request, deque[Any]] = {}
        self._given_up: set[_Request] = set()
        self._is_receiving = False

    def send(self, message: RpcMessage, target: int) -> None:
        """Send a message, and remember that its answer belongs to this thread."""
        with self._changed:
            request = self._request(message)
            if request.answer_class is not None:
                self._askers[request] = self._answers
            self._transport.send(message, target)

    def receive(self, timeout_ms: int = 0) -> Any:
        """This thread's next answer; None after `timeout_ms`, which 0 makes endless.

        One thread at a time receives for all, the others wait for what it passes on.
        """
        until = time.monotonic() + timeout_ms / 1000 if timeout_ms else math.inf
        answers = self._answers
        try:
            while (left := until - time.monotonic()) > 0:
                with self._changed:
                    if not answers and self._is_receiving:
                        self._changed.wait(min(left, _SLICE_MS / 1000))
                    if answers:
                        return answers.popleft()
                    if self._is_receiving:
                        continue
                    self._is_receiving = True
                self._receive_one(math.ceil(min(_SLICE_MS, 1000 * left)))
        except BaseException:
            self._give_up(answers)
            raise
        with self._changed:
            return answers.popleft() if answers else None

    def alone(self, work: Callable[[], torch.Tensor]) -> torch.Tensor | None:
        """Do work that sends and receives by itself, if no request is open; None otherwise."""
        with self._changed:
            return None if self._askers or self._is_receiving else work()

    @property
    def _answers(self) -> deque[Any]:
        """Answers to this thread that it has not taken yet."""
        if not hasattr(self._own, "answers"):
            self._own.answers = deque()
        found: deque[Any] = self._own.answers
        return found

    def _request(self, message: RpcMessage) -> _Request:
        """What identifies a request, of the request or of its answer."""
        return _Request(self._transport.answer_class(message.service_id), message.msg_seq)

    def _receive_one(self, timeout_ms: int) -> None:
        message = None
        try:
            message = self._transport.receive(timeout_ms)
        finally:
            with self._changed:
                self._is_receiving = False
                if message is not None:
                    self._pass_on(message)
                self._changed.notify_all()

    def _pass_on(self, message: RpcMessage) -> None:
        request = self._request(message)
        if request in self._given_up:
            self._given_up.remove(request)
            return
        if request not in self._askers:
            # A barrier's answer has the number of the request that came last, of any trainer.
            alike = (each for each in self._askers if each.answer_class is request.answer_class)
            request = next(alike, request)
        if (answers := self._askers.pop(request, None)) is not None:
            answers.append(message)

    def _give_up(self, answers: deque[Any]) -> None:
        """Drop what a thread was still to get: it was interrupted and will not ask for it."""
        with self._changed:
            unanswered = [each for each, asker in self._askers.items() if asker is answers]
            for request in unanswered:
                del self._askers[request]
            self._given_up.update(unanswered)
            answers.clear()


def _pull(
    fast_pull: Callable[..., torch.Tensor],
    gate: RpcGate,
    name: str,
    ids: torch.Tensor,
    parts: torch.Tensor,
    *rest: Any,
) -> torch.Tensor:
    """In place of DGL's `fast_pull`, which takes any thread's answers for its own."""
    alone = gate.alone(lambda: fast_pull(name, ids, parts, *rest))
    if alone is not None:
        return alone
    here, local, policy = rest[3], rest[5], rest[6]
    rows: torch.Tensor = local.new_empty((len(ids), *local.shape[1:]))
    remote = [part for part in np.unique(parts.numpy()).tolist() if part != here]
    places = {part: (parts == part).nonzero().flatten() for part in [here, *remote]}
    asked = [(part, PullRequest(name, ids[places[part]])) for part in remote]
    sent = rpc.send_requests_to_machine(asked)
    rows[places[here]] = local[policy.to_local(ids[places[here]])]
    if asked:
        for part, answer in zip(remote, rpc.recv_responses(sent), strict=True):
            rows[places[part]] = answer.data_tensor
    return rows


@cache
def open_gate() -> RpcGate:
    """Put the gate around this process's RPC, once; call it after `dgl.distributed.initialize`."""
    fast_pull = rpc.fast_pull
    gate = RpcGate(
        Transport(
            send=rpc.send_rpc_message,
            receive=rpc.recv_rpc_message,
            answer_class=lambda service_id: rpc.SERVICE_ID_TO_PROPERTY[service_id][1],
        )
    )
    rpc.send_rpc_message, rpc.recv_rpc_message = gate.send, gate.receive
    rpc.fast_pull = lambda *arguments: _pull(fast_pull, gate, *arguments)
    rpc.incr_msg_seq = itertools.count(rpc.incr_msg_seq()).__next__  # DGL's own is not atomic
    return gate
