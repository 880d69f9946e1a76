"""What subscribers are sent, read as types: who the trainer is, how it is steered, its windows."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import distributed

from rudder.training.control import unix_socket
from rudder.training.control.messages import (
    WINDOW_STEPS,
    Attention,
    CommandRejected,
    Message,
    SteeringState,
    Subscribe,
    WorkloadMessage,
    read_message,
    to_line,
)
from rudder.training.control.peers import FinishedWindow, Peers, SampledAccesses, timing_key
from rudder.training.control.service import ControlPort
from rudder.training.metrics import RowCounts, Seconds, StepTiming, Window
from rudder.training.settings import Applied, BufferSettings
from rudder.training.workload import RefusedKnob, Workload
from tests.waiting import WAIT_SECONDS, until

TORCH: Any = distributed
"""Its stubs lack some methods of stores."""
SETTINGS = BufferSettings(capacity_rows=100)
WORKLOAD = Workload(
    run_key="ab12", rank=3, world_size=4, part=0, num_parts=2, num_inner=9, num_halo=5,
    num_remote=9, row_bytes=8, batch_size=2, batches_per_epoch=5, epochs=None, fanouts=(2, -1),
    policy="lookahead", defaults=SETTINGS, max_buffer_rows=7,
    refused_knobs=(RefusedKnob(knob="replacement_interval", reason="no rounds"),),
)  # fmt: skip
WINDOW = Window(
    rank=3, index=2, epoch=0, first_step=32, num_steps=16, rows=RowCounts(input_rows=9),
    seconds=Seconds(exposed_wait=1.6), settings=SETTINGS, buffered_rows=1, waiting_batches=2,
    wall_seconds=8.0,
)  # fmt: skip
STATE = SteeringState(
    is_on=False, rank=3, step=4, settings=SETTINGS, defaults=SETTINGS, reason="off"
)


@pytest.mark.parametrize(
    "message",
    [
        Applied(command_id="a", outcome="applied", rank=0, step=1, settings=SETTINGS),
        CommandRejected(command_id=None, rank=0, reason="why"),
        STATE,
        WINDOW,
    ],
    ids=["applied", "rejected", "state", "window"],
)
def test_a_message_is_read_as_it_was_written(message: Message) -> None:
    assert read_message(to_line(message)) == message


def test_an_introduction_is_read_as_the_workload() -> None:
    line = to_line(WorkloadMessage(workload=WORKLOAD))
    assert line.startswith(b'{"workload":')
    assert read_message(line) == WORKLOAD


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"{}", b'{"hello": 1}'])
def test_a_line_that_says_nothing_known_is_none(line: bytes) -> None:
    assert read_message(line) is None


def test_a_subscriber_is_told_the_workload_then_the_state_then_windows(tmp_path: Path) -> None:
    path = tmp_path / "rank3.sock"
    with ControlPort(path, rank=3, workload=WORKLOAD) as port:
        port.tell(STATE)
        with (
            unix_socket.connect(path, timeout_s=WAIT_SECONDS) as client,
            client.makefile("rb") as stream,
        ):
            client.sendall(to_line(Subscribe(subscribe="windows")) * 2)
            until(lambda: port.wants_accesses)
            port.publish(FinishedWindow(WINDOW))
            assert [read_message(stream.readline()) for _ in range(3)] == [WORKLOAD, STATE, WINDOW]
        until(lambda: not port.wants_accesses)


def test_a_subscriber_that_rests_is_sent_long_windows_without_accesses_until_it_leaves(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rank3.sock"
    with ControlPort(path, rank=3) as port:
        with unix_socket.connect(path, timeout_s=WAIT_SECONDS) as client:
            client.sendall(to_line(Subscribe(subscribe="windows")))
            until(lambda: port.wants_accesses)
            client.sendall(to_line(Attention(window_steps=64, accesses=False)))
            until(lambda: not port.wants_accesses)
            assert port.window_steps == 64
        until(lambda: port.window_steps == WINDOW_STEPS)


def test_accesses_are_packed_by_the_ports_thread_and_only_for_subscribers(tmp_path: Path) -> None:
    path = tmp_path / "rank3.sock"
    batches = tuple(np.arange(n, dtype=np.int32) for n in (3, 0, 5))
    with (
        ControlPort(path, rank=3) as port,
        unix_socket.connect(path, timeout_s=WAIT_SECONDS) as client,
        client.makefile("rb") as stream,
    ):
        port.publish(FinishedWindow(WINDOW, SampledAccesses(0.5, batches)))
        client.sendall(to_line(Subscribe(subscribe="windows")))
        until(lambda: port.wants_accesses)
        later = WINDOW.model_copy(update={"index": 3})
        port.publish(FinishedWindow(later, SampledAccesses(0.5, batches)))
        window = read_message(stream.readline())
    assert isinstance(window, Window)
    assert window.index == 3
    assert window.accesses is not None
    assert window.accesses.rate == 0.5
    assert [batch.tolist() for batch in window.accesses.batches()] == [b.tolist() for b in batches]


def test_windows_carry_the_other_ranks_paces(tmp_path: Path) -> None:
    store = TORCH.FileStore(str(tmp_path / "store"), 2)
    other = StepTiming(rank=1, window=1, step_seconds=0.4, exposed_wait_seconds=0.1)
    Peers(store, rank=1, world_size=2, run_key="5e").share(other)
    threads: set[str] = set()

    class WatchedPeers(Peers):
        def share(self, pace: StepTiming) -> tuple[StepTiming, ...]:
            threads.add(threading.current_thread().name)
            return super().share(pace)

    path = tmp_path / "rank0.sock"
    peers = WatchedPeers(store, rank=0, world_size=2, run_key="5e")
    with (
        ControlPort(path, rank=0, peers=peers) as port,
        unix_socket.connect(path, timeout_s=WAIT_SECONDS) as client,
        client.makefile("rb") as stream,
    ):
        client.sendall(to_line(Subscribe(subscribe="windows")))
        until(lambda: port.wants_accesses)
        port.publish(FinishedWindow(WINDOW.model_copy(update={"rank": 0})))
        window = read_message(stream.readline())
    assert isinstance(window, Window)
    assert window.peers == (other,)
    assert threads == {"rudder-control"}
    assert store.get(timing_key("5e", 0)) == b"0 1 0 2 500000 100000"
