"""A launcher's link to the agent of a host, which runs here as it would behind ssh."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
import xxhash

from rudder.training.control.steering import BUDGET_FILE, OFF_FILE
from rudder.training.control.unix_socket import listen
from rudder.training.errors import MachineError
from rudder.training.hosts.control import copied_switches
from rudder.training.hosts.link import HostLink, RemoteProcess, remedy_for
from rudder.training.hosts.machines import RemoteHost
from rudder.training.hosts.messages import (
    FileSize,
    FindFiles,
    Found,
    HostReport,
    Listen,
    Ports,
    PutFile,
    ReservePorts,
    Stored,
)
from rudder.training.hosts.names import Machine
from rudder.training.hosts.starters import over_ssh
from tests.waiting import WAIT_SECONDS, lives, until

HERE = Path(__file__).parent / "ssh_here.sh"


class Hosted:
    """A link, what its agent has reported, and the folder that the run's files come to."""

    def __init__(self, run_dir: Path, stack: ExitStack, *, command: str = f"sh {HERE}") -> None:
        streams = over_ssh([Machine("node1")], command=command, python=None)
        (stream,) = stack.enter_context(streams)
        self.run_dir = run_dir
        self.link = HostLink(stream, name="node1", run_dir=run_dir, control=run_dir / "control")
        stack.callback(self.link.close)

    def report(self) -> HostReport:
        return self.link.report(timeout_s=WAIT_SECONDS)

    def run(self, code: str, *, log: str = "rank0.log") -> RemoteProcess:
        return self.link.start(["-c", code], variables={"A": "two words"}, log=Path(log))


@pytest.fixture(autouse=True)
def _own_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Agents of other tests do not remove what is left here. Its path is short, for sockets."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield


@pytest.fixture
def hosted(tmp_path: Path) -> Iterator[Hosted]:
    with ExitStack() as stack:
        yield Hosted(tmp_path, stack)


def agents_of(folder: Path) -> list[psutil.Process]:
    """Processes whose working folder is the run's folder on the host."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == folder:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def test_host_reports_this_machine(hosted: Hosted) -> None:
    report = hosted.report()
    assert report.name == socket.gethostname()
    assert report.num_cores == len(os.sched_getaffinity(0))
    assert "127.0.0.1" in report.addresses["lo"]
    assert report.folder.is_dir()
    assert report.shm_prefix.startswith("rudder.")


def test_process_runs_with_its_variables_and_input(hosted: Hosted) -> None:
    hosted.report()
    process = hosted.run("import os; print(os.environ['A'], input())")
    process.write(b"go\n")
    assert process.wait(time.monotonic() + WAIT_SECONDS)
    assert process.exit_code == 0
    assert process.read() == b"two words go\n"


def test_signal_ends_a_process_and_is_known_by_its_name(hosted: Hosted) -> None:
    hosted.report()
    process = hosted.run("import time; time.sleep(60)")
    process.signal(signal.SIGTERM)
    assert process.wait(time.monotonic() + WAIT_SECONDS)
    assert process.exit_code == -signal.SIGTERM


def test_stopped_process_is_known(hosted: Hosted) -> None:
    hosted.report()
    process = hosted.run("import time; time.sleep(60)")
    process.signal(signal.SIGSTOP)
    until(lambda: process.is_stopped)


def test_standard_error_comes_to_the_log_before_the_end_is_known(hosted: Hosted) -> None:
    hosted.report()
    process = hosted.run("import sys; sys.stderr.write('x' * 700_000); sys.exit(3)")
    assert process.wait(time.monotonic() + WAIT_SECONDS)
    assert process.exit_code == 3
    assert (hosted.run_dir / "logs" / "rank0.log").read_text() == "x" * 700_000


def test_files_of_the_run_come_at_the_end_and_nothing_stays(tmp_path: Path) -> None:
    with ExitStack() as stack:
        hosted = Hosted(tmp_path, stack)
        report = hosted.report()
        write = (
            "import pathlib, sqlite3; p = pathlib.Path('steering'); p.mkdir();"
            "(p / 'rank0.json').write_text('{}'); (p / '.lock').touch();"
            "db = sqlite3.connect(p / 'rank0.db'); db.execute('PRAGMA journal_mode=WAL');"
            "db.execute('CREATE TABLE t AS SELECT 7 AS seven'); db.commit(); import os; os._exit(0)"
        )
        assert hosted.run(write).wait(time.monotonic() + WAIT_SECONDS)
        hosted.link.close()
        names = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
        assert names == {"logs/rank0.log", "steering/rank0.json", "steering/rank0.db"}
        with sqlite3.connect(tmp_path / "steering" / "rank0.db") as database:
            assert database.execute("SELECT seven FROM t").fetchall() == [(7,)]
        until(lambda: not report.folder.exists())
        assert not list(Path("/dev/shm").glob(f"{report.shm_prefix}*"))


def test_file_is_sent_in_pieces_and_a_damaged_one_is_refused(
    hosted: Hosted, tmp_path: Path
) -> None:
    hosted.report()
    target = tmp_path / "elsewhere" / "part"
    hosted.link.send(PutFile(path=target, offset=0), b"abc")
    digest = xxhash.xxh3_128_hexdigest(b"abcxyz")
    with pytest.raises(MachineError, match="arrived damaged"):
        hosted.link.ask(PutFile(path=target, offset=3, digest=digest), Stored, b"def")
    assert not target.exists()
    digest = xxhash.xxh3_128_hexdigest(b"abcdef")
    hosted.link.send(PutFile(path=target, offset=0), b"abc")
    hosted.link.ask(PutFile(path=target, offset=3, digest=digest), Stored, b"def")
    assert target.read_bytes() == b"abcdef"
    found = hosted.link.ask(FindFiles(folder=target.parent, names=("part", "none")), Found)
    assert found.files == (FileSize(path="part", size=6),)


def test_port_that_is_taken_is_refused_with_the_hosts_name(hosted: Hosted) -> None:
    hosted.report()
    free = ReservePorts(address="127.0.0.1", count=2, first=None)
    assert hosted.link.ask(free, Ports).first > 1024
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        wish = ReservePorts(address="127.0.0.1", count=1, first=port)
        with pytest.raises(MachineError, match=f"host node1: port {port} is in use"):
            hosted.link.ask(wish, Ports)


def test_client_talks_to_a_socket_of_the_run(hosted: Hosted) -> None:
    folder = hosted.report().folder
    with listen(folder / "control" / "rank0.sock") as listener:
        ours, theirs = socket.socketpair()
        hosted.link.connect(theirs, path="control/rank0.sock")
        server, _ = listener.accept()
        with ours:
            with server:
                ours.sendall(b"capacity?\n")
                assert server.recv(100) == b"capacity?\n"
                server.sendall(b"500\n")
                ours.settimeout(WAIT_SECONDS)
                assert ours.recv(100) == b"500\n"
            assert ours.recv(100) == b""


def test_socket_that_is_not_there_closes_the_client(hosted: Hosted) -> None:
    hosted.report()
    ours, theirs = socket.socketpair()
    hosted.link.connect(theirs, path="control/none.sock")
    with ours:
        ours.settimeout(WAIT_SECONDS)
        assert ours.recv(100) == b""


def test_process_there_talks_to_a_socket_of_the_launcher(hosted: Hosted) -> None:
    hosted.report()
    hosted.link.send(Listen(path="control/llm.sock"))
    with listen(hosted.run_dir / "control" / "llm.sock") as listener:
        process = hosted.run(
            "import socket; s = socket.socket(socket.AF_UNIX); s.connect('control/llm.sock');"
            "s.sendall(b'ask'); print(s.recv(100), s.recv(100), flush=True)"
        )
        listener.settimeout(WAIT_SECONDS)
        with listener.accept()[0] as server:
            assert server.recv(100) == b"ask"
            server.sendall(b"answer")
            until(lambda: process.read() == b"" and process.exit_code is None)
        assert process.wait(time.monotonic() + WAIT_SECONDS)
        assert process.read() == b"b'answer' b''\n"


def test_socket_that_the_launcher_lacks_closes_the_connection(hosted: Hosted) -> None:
    hosted.report()
    hosted.link.send(Listen(path="control/llm.sock"))
    process = hosted.run(
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect('control/llm.sock');"
        "print(s.recv(100))"
    )
    assert process.wait(time.monotonic() + WAIT_SECONDS)
    assert process.read() == b"b''\n"


def test_switches_are_copied_to_the_machines_and_removed_there(
    hosted: Hosted, tmp_path: Path
) -> None:
    report = hosted.report()
    host = RemoteHost(
        name="node1", address="127.0.0.1", interface="lo", num_cores=1, link=hosted.link,
        report=report,
    )  # fmt: skip
    control = tmp_path / "control"
    control.mkdir(exist_ok=True)
    (control / OFF_FILE).touch()
    there = report.folder / "control"
    with copied_switches(control, [host]):
        assert (there / OFF_FILE).exists()  # before any trainer starts
        (control / BUDGET_FILE).write_text("512")
        until((there / BUDGET_FILE).exists)
        assert (there / BUDGET_FILE).read_text() == "512"
        (control / OFF_FILE).unlink()
        until(lambda: not (there / OFF_FILE).exists())


def test_launchers_end_ends_the_agent_and_its_processes(tmp_path: Path) -> None:
    with ExitStack() as stack:
        hosted = Hosted(tmp_path, stack)
        folder = hosted.report().folder
        hosted.run("import time; time.sleep(60)")
        assert agents_of(folder)
        hosted.link._stream.writer.close()  # as the kernel does when the launcher is killed
        until(lambda: not agents_of(folder) and not folder.exists())


def test_scheduler_that_signals_all_processes_twice_leaves_nothing(hosted: Hosted) -> None:
    """As scancel does: srun hands the signal on, too. Neither a process ends by it nor its child,
    which goes on writing."""
    folder = hosted.report().folder
    ignores = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    writes = f"""{ignores}
from pathlib import Path
while True:
    Path({str(folder)!r}, "late").mkdir(parents=True, exist_ok=True)
    time.sleep(0.01)"""
    process = hosted.run(
        f"{ignores} import subprocess;"
        f"subprocess.Popen([sys.executable, '-c', {writes!r}], start_new_session=True);"
        "time.sleep(60)"
    )
    until((folder / "late").exists)
    agent = psutil.Process(process.pid).parent()
    assert agent is not None
    all_of_them = [*agent.children(recursive=True), agent]
    for pause_s in (0.2, 0.0):
        for each in all_of_them:
            with suppress(psutil.Error):
                each.terminate()
        time.sleep(pause_s)
    until(lambda: not any(map(lives, all_of_them)))
    assert not folder.exists()


def test_killed_agent_takes_its_processes_with_it_and_the_host_is_lost(hosted: Hosted) -> None:
    folder = hosted.report().folder
    code = (
        "import os, time; from rudder.training.machine import die_with;"
        "die_with(os.environ['RUDDER_LAUNCHER']); print('ready', flush=True); time.sleep(60)"
    )
    process = hosted.run(code)
    until(lambda: b"ready" in process.read())
    psutil.Process(process.pid).parent().kill()  # type: ignore[union-attr]  # it has one
    assert process.wait(time.monotonic() + WAIT_SECONDS)
    assert process.exit_code == -signal.SIGKILL
    assert "ended with exit code" in process.lost
    until(lambda: not lives(process.pid))
    with pytest.raises(MachineError, match="host node1: "):
        hosted.run("pass")
    until(lambda: not folder.exists())


def test_next_agent_removes_what_a_killed_machine_left(tmp_path: Path) -> None:
    with ExitStack() as stack:
        kept = Hosted(tmp_path / "a", stack).report().folder
        left = kept.with_name("run-left")  # as after a power cut: nobody has locked it
        left.mkdir()
        Hosted(tmp_path / "b", stack).report()
        assert not left.exists()
        assert kept.exists()


def test_banner_of_a_login_shell_is_skipped(tmp_path: Path) -> None:
    with ExitStack() as stack:
        script = tmp_path / "ssh"
        script.write_text(f"echo 'Welcome to node1!'; printf 'no line end '; exec sh {HERE} \"$@\"")
        assert Hosted(tmp_path, stack, command=f"sh {script}").report().num_cores > 0


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("sh -c 'echo node1: Permission denied >&2; exit 255' ssh", "node1: Permission denied"),
        ("sh -c 'exit 3' ssh", "sh ended with exit code 3"),
    ],
)
def test_machine_that_is_not_reached_says_why(tmp_path: Path, command: str, why: str) -> None:
    with ExitStack() as stack:
        hosted = Hosted(tmp_path, stack, command=command)
        with pytest.raises(MachineError, match=f"host node1: {why}") as caught:
            hosted.report()
        assert caught.value.lost_hosts == ("node1",)


@pytest.mark.parametrize(
    ("why", "remedy"),
    [
        ("Host key verification failed.", "`ssh node1`, and accept it"),
        ("me@node1: Permission denied (publickey).", "ssh-copy-id node1"),
        ("bash: /opt/venv/bin/python: No such file or directory", "--remote-python"),
        ("Connection timed out", "whether the machine is up"),
    ],
)
def test_words_of_ssh_come_with_what_to_do(why: str, remedy: str) -> None:
    assert remedy in remedy_for(why, name="node1")


def test_command_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with ExitStack() as stack, pytest.raises(MachineError, match="no command none-such"):
        Hosted(tmp_path, stack, command="none-such")


def test_python_of_the_agent_is_this_one(hosted: Hosted) -> None:
    hosted.report()
    process = hosted.run("import sys; print(sys.executable)")
    assert process.wait(time.monotonic() + WAIT_SECONDS)
    assert process.read().decode().strip() == sys.executable
