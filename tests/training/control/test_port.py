"""The control port over real sockets: commands in, windows out, and nothing a client can spoil."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rudder.training.control import unix_socket
from rudder.training.control.messages import MAX_LINE_BYTES, Subscribe, send_command, to_line
from rudder.training.control.peers import FinishedWindow
from rudder.training.control.service import (
    MAX_CONNECTIONS,
    MAX_PENDING_COMMANDS,
    MAX_WAITING_WINDOWS,
    ControlPort,
    NoControl,
)
from rudder.training.errors import RunError
from rudder.training.metrics import RowCounts, Seconds, Window
from rudder.training.settings import Applied, BufferSettings, Change, Command, FetchTargets
from tests.waiting import WAIT_SECONDS, until

SETTINGS = BufferSettings(capacity_rows=100)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control" / "rank0.sock"


@pytest.fixture
def port(path: Path) -> Iterator[ControlPort]:
    with ControlPort(path, rank=3) as port:
        yield port


@contextmanager
def client_of(path: Path) -> Iterator[socket.socket]:
    with unix_socket.connect(path, timeout_s=WAIT_SECONDS) as client:
        yield client


def applied(command: Command) -> Applied:
    capacity = command.change.capacity_rows
    in_force = SETTINGS if capacity is None else BufferSettings(capacity_rows=capacity)
    return Applied(
        command_id=command.command_id, outcome="applied", rank=3, step=7, settings=in_force
    )


@contextmanager
def trainer(
    port: ControlPort, *, answer_of: Callable[[Command], Applied] = applied
) -> Iterator[list[Command]]:
    """Answers commands as a trainer does between two batches."""
    seen: list[Command] = []
    done = threading.Event()

    def run() -> None:
        while not done.is_set():
            if (command := port.take()) is not None:
                seen.append(command)
                port.answer(answer_of(command))
            time.sleep(0.001)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def window(index: int) -> Window:
    return Window(
        rank=3,
        index=index,
        epoch=0,
        first_step=index * 16,
        num_steps=16,
        rows=RowCounts(input_rows=9),
        seconds=Seconds(),
        settings=SETTINGS,
        buffered_rows=1,
        waiting_batches=2,
    )


def next_line(client: socket.socket) -> bytes:
    with client.makefile("rb") as stream:
        return stream.readline()


def test_a_command_reaches_the_trainer_and_its_answer_the_client(
    port: ControlPort, path: Path
) -> None:
    command = Command(
        command_id="a",
        change=Change(
            capacity_rows=50,
            eviction_threshold=0.25,
            fetch_targets=FetchTargets(source="ids", row_budget=3, ids=(1, 2, 3)),
        ),
    )
    with trainer(port) as seen:
        answer = send_command(path, command, timeout_s=WAIT_SECONDS)
    assert seen == [command]
    assert answer == applied(command)


def test_an_empty_change_asks_for_the_settings_in_force(port: ControlPort, path: Path) -> None:
    with trainer(port):
        answer = send_command(path, Command(command_id="state"), timeout_s=WAIT_SECONDS)
    assert answer.settings == SETTINGS


def test_commands_are_taken_in_the_order_they_came(port: ControlPort, path: Path) -> None:
    with client_of(path) as client, trainer(port) as seen:
        for name in "abc":
            client.sendall(to_line(Command(command_id=name)))
        until(lambda: len(seen) == 3)
    assert [command.command_id for command in seen] == ["a", "b", "c"]


def test_a_command_may_arrive_byte_by_byte(port: ControlPort, path: Path) -> None:
    with client_of(path) as client:
        for byte in to_line(Command(command_id="slow")):
            client.sendall(bytes([byte]))
        assert until(port.take).command_id == "slow"


def test_the_largest_fetch_targets_fit_into_a_line(port: ControlPort, path: Path) -> None:
    ids = tuple(range(2**62, 2**62 + 100_000))
    command = Command(
        command_id="big",
        change=Change(fetch_targets=FetchTargets(source="ids", row_budget=1, ids=ids)),
    )
    with trainer(port) as seen:
        send_command(path, command, timeout_s=WAIT_SECONDS)
    assert seen == [command]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"garbage", "Invalid JSON"),
        (b"\xff\xfe\x00", "Invalid JSON"),
        (b"[]", "object"),
        (b"{}", "command_id: Field required"),
        (b'{"command_id": ""}', "command_id: String should have at least 1 character"),
        (b'{"command_id": "a", "change": {"capacity_rows": -1}}', "greater than or equal to 0"),
        (b'{"command_id": "a", "change": {"capacity_rows": "9"}}', "valid integer"),
        (b'{"command_id": "a", "change": {"capacity_rows": 1.5}}', "valid integer"),
        (b'{"command_id": "a", "change": {"lookahead_batches": 4096}}', "lookahead_batches"),
        (b'{"command_id": "a", "change": {"eviction_threshold": NaN}}', "finite number"),
        (b'{"command_id": "a", "change": {"colour": "red"}}', "colour: Extra inputs"),
        (b'{"command_id": "a", "change": {"replace_now": 1}}', "valid boolean"),
    ],
)
def test_a_bad_line_is_refused_with_the_reason_and_changes_nothing(
    port: ControlPort, path: Path, line: bytes, reason: str
) -> None:
    with client_of(path) as client:
        client.sendall(line + b"\n")
        answer = json.loads(next_line(client))
    assert answer["kind"] == "rejected"
    assert answer["rank"] == 3
    assert reason in answer["reason"]
    assert port.take() is None


def test_a_refusal_does_not_end_the_connection(port: ControlPort, path: Path) -> None:
    with client_of(path) as client:
        client.sendall(b"garbage\n" + to_line(Command(command_id="good")))
        assert until(port.take).command_id == "good"


def test_a_client_that_sends_only_garbage_is_cut_off(port: ControlPort, path: Path) -> None:
    with client_of(path) as client:
        client.sendall(b"garbage\n" * 1000)
        answers = 0
        with suppress(ConnectionResetError):
            while next_line(client):
                answers += 1
    assert answers <= 8
    with trainer(port):
        send_command(path, Command(command_id="next"), timeout_s=WAIT_SECONDS)


def test_a_line_without_end_is_cut_off(port: ControlPort, path: Path) -> None:
    with client_of(path) as client, suppress(BrokenPipeError, ConnectionResetError):
        client.sendall(b"x" * (MAX_LINE_BYTES + 2**20))
        assert "bytes" in json.loads(next_line(client))["reason"]
    with trainer(port):
        send_command(path, Command(command_id="next"), timeout_s=WAIT_SECONDS)


def test_half_a_message_changes_nothing(port: ControlPort, path: Path) -> None:
    with client_of(path) as client:
        client.sendall(to_line(Command(command_id="half"))[:-1])
    with trainer(port) as seen:
        send_command(path, Command(command_id="whole"), timeout_s=WAIT_SECONDS)
    assert [command.command_id for command in seen] == ["whole"]


def test_a_client_that_leaves_before_its_answer_harms_nobody(port: ControlPort, path: Path) -> None:
    with client_of(path) as client:
        client.sendall(to_line(Command(command_id="gone")))
        command = until(port.take)
    port.answer(applied(command))
    with trainer(port):
        send_command(path, Command(command_id="next"), timeout_s=WAIT_SECONDS)


def test_too_many_waiting_commands_are_refused(port: ControlPort, path: Path) -> None:
    with client_of(path) as client:
        for index in range(MAX_PENDING_COMMANDS + 1):
            client.sendall(to_line(Command(command_id=f"c{index}")))
        answer = json.loads(next_line(client))
    assert answer["command_id"] == f"c{MAX_PENDING_COMMANDS}"
    assert "try again" in answer["reason"]
    taken = [until(port.take) for _ in range(MAX_PENDING_COMMANDS)]
    assert len(taken) == MAX_PENDING_COMMANDS
    assert port.take() is None


def test_an_id_that_waits_is_refused_a_second_time(port: ControlPort, path: Path) -> None:
    with client_of(path) as client:
        client.sendall(to_line(Command(command_id="twin")) * 2)
        assert "waiting" in json.loads(next_line(client))["reason"]
    assert until(port.take).command_id == "twin"
    assert port.take() is None


def test_a_subscriber_is_sent_every_window(port: ControlPort, path: Path) -> None:
    with client_of(path) as client, client.makefile("rb") as stream:
        client.sendall(to_line(Subscribe(subscribe="windows")))
        client.sendall(to_line(Command(command_id="sync")))
        port.answer(applied(until(port.take)))
        assert json.loads(stream.readline())["command_id"] == "sync"
        for index in range(5):
            port.publish(FinishedWindow(window(index)))
        received = [Window.model_validate_json(stream.readline()) for _ in range(5)]
    assert received == [window(index) for index in range(5)]


def test_a_subscriber_that_does_not_read_loses_the_oldest_windows(
    port: ControlPort, path: Path
) -> None:
    num_windows = 3000
    with client_of(path) as client, client.makefile("rb") as stream:
        client.sendall(
            to_line(Subscribe(subscribe="windows")) + to_line(Command(command_id="sync"))
        )
        port.answer(applied(until(port.take)))
        for index in range(num_windows):
            port.publish(FinishedWindow(window(index)))
            if index % MAX_WAITING_WINDOWS == 0:
                time.sleep(0.003)
        stream.readline()
        received: list[int] = []
        while not received or received[-1] < num_windows - 1:
            received.append(Window.model_validate_json(stream.readline()).index)
    assert received == sorted(received)
    assert len(received) < num_windows


def test_publishing_to_nobody_costs_nothing_and_keeps_nothing(
    port: ControlPort, path: Path
) -> None:
    for index in range(1000):
        port.publish(FinishedWindow(window(index)))
    with client_of(path) as client:
        client.sendall(
            to_line(Subscribe(subscribe="windows")) + to_line(Command(command_id="sync"))
        )
        port.answer(applied(until(port.take)))
        assert json.loads(next_line(client))["command_id"] == "sync"


def test_fifty_idle_connections_do_not_lock_the_port(port: ControlPort, path: Path) -> None:
    clients = [unix_socket.connect(path, timeout_s=WAIT_SECONDS) for _ in range(50)]
    try:
        with trainer(port):
            send_command(path, Command(command_id="through"), timeout_s=WAIT_SECONDS)
    finally:
        for client in clients:
            client.close()


def test_more_connections_than_the_port_holds_push_out_the_idle(
    port: ControlPort, path: Path
) -> None:
    more = range(MAX_CONNECTIONS + 20)
    clients = [unix_socket.connect(path, timeout_s=WAIT_SECONDS) for _ in more]
    try:
        with trainer(port):
            send_command(path, Command(command_id="through"), timeout_s=WAIT_SECONDS)
    finally:
        for client in clients:
            client.close()


def test_asking_for_a_command_takes_less_than_50_microseconds(port: ControlPort) -> None:
    times = []
    for _ in range(2000):
        started = time.perf_counter()
        port.take()
        times.append(time.perf_counter() - started)
    assert sorted(times)[len(times) // 2] < 50e-6


def test_a_flood_takes_at_most_a_third_of_a_core(port: ControlPort, path: Path) -> None:
    thread = next(t for t in threading.enumerate() if t.name == "rudder-control")
    assert thread.ident is not None
    clock = time.pthread_getcpuclockid(thread.ident)
    done = threading.Event()

    def flood() -> None:
        while not done.is_set():
            with suppress(OSError), client_of(path) as client:
                client.sendall(b'{"command_id": 1}\n' * 500)

    floods = [threading.Thread(target=flood) for _ in range(3)]
    for thread in floods:
        thread.start()
    before, started = time.clock_gettime(clock), time.monotonic()
    time.sleep(1.0)
    share = (time.clock_gettime(clock) - before) / (time.monotonic() - started)
    done.set()
    for thread in floods:
        thread.join()
    assert share < 0.33
    with trainer(port):
        send_command(path, Command(command_id="next"), timeout_s=WAIT_SECONDS)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.binary(max_size=200), max_size=6))
def test_no_bytes_at_all_reach_the_trainer_unless_they_are_a_command(
    port: ControlPort, path: Path, pieces: list[bytes]
) -> None:
    with suppress(OSError), client_of(path) as client:
        for piece in pieces:
            client.sendall(piece)
    assert port.take() is None
    with trainer(port) as seen:
        send_command(path, Command(command_id="after"), timeout_s=WAIT_SECONDS)
    assert [command.command_id for command in seen] == ["after"]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_corrupted_command_is_refused_or_valid_but_never_fatal(
    port: ControlPort, path: Path, data: st.DataObject
) -> None:
    line = bytearray(to_line(Command(command_id="x", change=Change(capacity_rows=5))))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(line) - 1))
        line[position] = data.draw(st.integers(0, 255))
    with suppress(OSError), client_of(path) as client:
        client.sendall(line)
    with trainer(port) as seen:
        send_command(path, Command(command_id="after"), timeout_s=WAIT_SECONDS)
    assert seen[-1].command_id == "after"


def test_the_socket_is_its_owners_only(port: ControlPort, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_closing_removes_the_socket_and_ends_the_thread(path: Path) -> None:
    ControlPort(path, rank=0).close()
    assert not path.exists()
    assert "rudder-control" not in {thread.name for thread in threading.enumerate()}


def test_closing_twice_and_using_a_closed_port_is_harmless(path: Path) -> None:
    port = ControlPort(path, rank=0)
    port.close()
    port.close()
    port.publish(FinishedWindow(window(0)))
    port.answer(applied(Command(command_id="late")))
    assert port.take() is None


def test_closing_tells_the_clients_that_wait(path: Path) -> None:
    port = ControlPort(path, rank=0)
    failures: list[RunError] = []

    def ask() -> None:
        try:
            send_command(path, Command(command_id="late"), timeout_s=WAIT_SECONDS)
        except RunError as error:
            failures.append(error)

    client = threading.Thread(target=ask)
    client.start()
    until(port.take)
    port.close()
    client.join()
    assert "the trainer has finished" in failures[0].message


def test_a_socket_file_that_a_dead_process_left_is_replaced(path: Path) -> None:
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with ControlPort(path, rank=0) as port, trainer(port):
        send_command(path, Command(command_id="a"), timeout_s=WAIT_SECONDS)


def test_a_socket_in_use_is_not_taken_over(port: ControlPort, path: Path) -> None:
    with pytest.raises(RunError, match="another process listens"):
        ControlPort(path, rank=0)
    with trainer(port):
        send_command(path, Command(command_id="a"), timeout_s=WAIT_SECONDS)


def test_a_file_that_is_no_socket_is_kept(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(RunError, match="is no socket"):
        ControlPort(path, rank=0)
    assert path.read_text() == "mine"


def test_a_folder_that_cannot_hold_a_socket_is_named(tmp_path: Path) -> None:
    (tmp_path / "control").write_text("a file")
    with pytest.raises(RunError, match="cannot listen on the control socket"):
        ControlPort(tmp_path / "control" / "rank0.sock", rank=0)


def test_a_path_longer_than_the_kernels_limit_works(tmp_path: Path) -> None:
    path = tmp_path / ("d" * 120) / ("e" * 120) / "rank0.sock"
    open_files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with ControlPort(path, rank=0) as port, trainer(port):
        assert path.is_socket()
        send_command(path, Command(command_id="a"), timeout_s=WAIT_SECONDS)
    assert not path.exists()
    assert len(os.listdir("/proc/self/fd")) == open_files  # noqa: PTH208


def test_sending_where_nobody_listens_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no trainer listens at"):
        send_command(tmp_path / "none.sock", Command(command_id="a"), timeout_s=1)


def test_sending_to_a_trainer_that_never_answers_times_out(port: ControlPort, path: Path) -> None:
    with pytest.raises(RunError, match=r"no answer within 0\.2 s"):
        send_command(path, Command(command_id="a"), timeout_s=0.2)


def test_a_refusal_by_the_trainer_is_an_answer(port: ControlPort, path: Path) -> None:
    refused = Applied(
        command_id="a", outcome="refused", rank=3, step=1, settings=SETTINGS, reason="too big"
    )
    with trainer(port, answer_of=lambda command: refused):
        assert send_command(path, Command(command_id="a"), timeout_s=WAIT_SECONDS) == refused


def test_no_control_is_silent() -> None:
    control = NoControl()
    assert not control.wants_accesses
    control.publish(FinishedWindow(window(0)))
