"""The supervisor with real processes that say what a server or a trainer would say."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from rudder.training.checkpoint.format import Written
from rudder.training.errors import RunError, StoppedError
from rudder.training.events import Event, Failed, PhaseEntered, Reported, Stopped
from rudder.training.hosts.host import Host
from rudder.training.launch.supervise import Interruption, Supervisor
from rudder.training.launch.worker import Role, RoleName, Worker
from rudder.training.metrics import Memory, RankReport
from tests.waiting import WAIT_SECONDS, lives, until


def when(mark: str, then: str = "exit 0") -> str:
    """A shell script that goes on once another one has made the mark."""
    return f'until [ -e "$MARKS/{mark}" ]; do sleep 0.02; done; {then}'


SERVE = when("over")
"""Until all trainers have said all that they had to say."""


def phase(role: RoleName, rank: int, name: str) -> str:
    return PhaseEntered.model_validate(
        {"role": role, "rank": rank, "phase": name}
    ).model_dump_json()


def report(rank: int) -> str:
    memory = Memory(peak_rss_bytes=1)
    return Reported(
        report=RankReport(rank=rank, host=f"host{rank}", epochs=(), memory=memory)
    ).model_dump_json()


def say(*lines: str) -> str:
    return "; ".join(f"echo '{line}'" for line in lines)


def server(rank: int, then: str = SERVE) -> str:
    return f"{say(phase('server', rank, 'connected'))}; {then}"


def trainer(rank: int, then: str) -> str:
    """A shell script that waits for the launcher, trains, and goes on with `then`."""
    return f"read go && {say(phase('trainer', rank, 'training'))}; {then}"


class Stage:
    """Starts scripts as servers and trainers, and ends them."""

    def __init__(self, logs: Path, stack: ExitStack) -> None:
        self._logs, self._stack = logs, stack
        self.events: list[Event] = []

    def _note(self, event: Event, *, trainers: int, signals: Sequence[signal.Signals]) -> None:
        self.events.append(event)
        if sum(each.kind in ("report", "stopped") for each in self.events) == trainers:
            (self._logs / "over").touch()
        begun = [e for e in self.events if isinstance(e, PhaseEntered) and e.phase == "training"]
        if len(begun) == trainers and event is begun[-1]:
            for after_s, number in enumerate(signals):
                threading.Timer(after_s / 2, os.kill, (os.getpid(), number)).start()

    def worker(self, role: RoleName, rank: int, script: str) -> Worker:
        host = Host(name=f"host{rank}", address="127.0.0.1", interface="lo", num_cores=1)
        log = self._logs / f"{role}{rank}.log"
        worker = Worker(
            Role(role, rank, host),
            ["sh", "-c", script],
            variables={"MARKS": str(self._logs)},
            log=log,
        )
        self._stack.callback(worker.close)
        return worker

    def supervisor(
        self,
        servers: list[str],
        trainers: list[str],
        *,
        start: float = WAIT_SECONDS,
        stall: float = WAIT_SECONDS,
        writes_checkpoints: bool = False,
        signals: Sequence[signal.Signals] = (),
    ) -> Supervisor:
        """signals: what this process is sent once all trainers train, half a second apart."""
        return Supervisor(
            servers=[self.worker("server", rank, text) for rank, text in enumerate(servers)],
            trainers=[self.worker("trainer", rank, text) for rank, text in enumerate(trainers)],
            on_event=partial(self._note, trainers=len(trainers), signals=signals),
            interruption=self._stack.enter_context(Interruption()),
            start_timeout=start,
            stall_timeout=stall,
            writes_checkpoints=writes_checkpoints,
        )


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(tmp_path, stack)


def test_reports_come_back_in_the_order_of_ranks(stage: Stage) -> None:
    supervisor = stage.supervisor(
        [server(0)],
        [trainer(0, f"sleep 0.2; {say(report(0))}"), trainer(1, say(report(1)))],
    )
    assert [found.rank for found in supervisor.run()] == [0, 1]
    assert {event.kind for event in stage.events} == {"phase", "report"}


def test_text_that_is_no_event_is_passed_over(stage: Stage) -> None:
    script = trainer(0, f"echo chatter; echo '{{\"kind\": 1}}'; {say(report(0))}")
    assert len(stage.supervisor([server(0)], [script]).run()) == 1


def test_trainers_wait_until_every_server_listens(stage: Stage) -> None:
    late = f"sleep 0.5; {server(0)}"
    supervisor = stage.supervisor([late], [trainer(0, say(report(0)))])
    supervisor.run()
    kinds = [(event.role, event.phase) for event in stage.events if isinstance(event, PhaseEntered)]
    assert kinds == [("server", "connected"), ("trainer", "training")]


def test_killed_server_is_blamed_and_not_the_trainers_that_lost_it(stage: Stage) -> None:
    lost = Failed(
        role="trainer", rank=0, message="Connection closed by peer", remedy="", exit_code=5
    ).model_dump_json()
    supervisor = stage.supervisor(
        [server(0), server(1, then=when("lost", "kill -9 $$"))],
        [trainer(0, f"{say(lost)}; touch $MARKS/lost; exit 5"), trainer(1, SERVE)],
    )
    with pytest.raises(RunError, match="server 1 on host1 was killed by SIGKILL while it served"):
        supervisor.run()


def test_failure_of_its_own_is_blamed_and_not_its_echo(stage: Stage) -> None:
    own, echo = (
        Failed(role="trainer", rank=rank, message=text, remedy="less", exit_code=4)
        for rank, text in ((1, "MemoryError"), (0, "Connection reset by peer"))
    )
    supervisor = stage.supervisor(
        [server(0)],
        [
            trainer(0, f"{say(echo.model_dump_json())}; touch $MARKS/lost; exit 4"),
            trainer(1, when("lost", f"{say(own.model_dump_json())}; exit 4")),
        ],
    )
    with pytest.raises(
        RunError, match="rank 1 on host1 failed while it trained: MemoryE"
    ) as caught:
        supervisor.run()
    assert (caught.value.exit_code, caught.value.rank, caught.value.remedy) == (4, 1, "less")


def test_last_words_of_the_log_are_quoted(stage: Stage) -> None:
    script = trainer(0, "echo; echo Client[0] is exiting >&2; echo the disk is on fire >&2; exit 3")
    with pytest.raises(RunError, match=r"ended with exit code 3 while it trained\n.*on fire") as e:
        stage.supervisor([server(0)], [script]).run()
    assert "Client" not in e.value.message
    assert "trainer0.log" in e.value.message


def test_trainer_that_ends_without_a_report_fails_the_run(stage: Stage) -> None:
    with pytest.raises(RunError, match="rank 0 on host0 ended before the run was over"):
        stage.supervisor([server(0)], [trainer(0, "exit 0")]).run()


def test_server_that_ends_early_fails_the_run(stage: Stage) -> None:
    with pytest.raises(RunError, match="server 0 on host0 ended before the run was over"):
        stage.supervisor([server(0, then="sleep 0.2")], [trainer(0, SERVE)]).run()


def test_slow_server_is_named_when_the_start_takes_too_long(stage: Stage) -> None:
    with pytest.raises(RunError, match=r"server 1 on host1 has not begun .* within 2 s"):
        stage.supervisor([server(0), SERVE], [trainer(0, SERVE)], start=2).run()


def test_silence_ends_a_run(stage: Stage) -> None:
    with pytest.raises(RunError, match=r"no progress for 0\.5 s"):
        stage.supervisor([server(0)], [trainer(0, SERVE)], stall=0.5).run()


def test_stopped_process_is_named_when_a_run_stalls(stage: Stage) -> None:
    scripts = [trainer(0, SERVE), trainer(1, "kill -STOP $$")]
    with pytest.raises(RunError, match=r"rank 1 on host1 .*it is stopped") as caught:
        stage.supervisor([server(0)], scripts, stall=2).run()
    assert "kill -CONT" in caught.value.remedy


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")]
)
def test_signal_ends_a_run(stage: Stage, number: signal.Signals, name: str) -> None:
    supervisor = stage.supervisor([server(0)], [trainer(0, SERVE)], signals=[number])
    with pytest.raises(RunError, match=f"ended by {name}"):
        supervisor.run()


IDLE = "while true; do sleep 0.05; done"


def stopping_trainer(rank: int, *, error: str | None = None) -> str:
    """A trainer that writes a last checkpoint when it is told to; rank 0 says what became of it."""
    written = Written(name="step-00000120", epoch=2, batch=20, step=120, error=error)
    stopped = Stopped(rank=rank, written=written if rank == 0 else None).model_dump_json()
    on_signal = f'trap "{say(stopped).replace(chr(34), chr(92) + chr(34))}; exit 0" TERM'
    return f"{on_signal}; {trainer(rank, IDLE)}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_first_signal_has_the_trainers_write_a_checkpoint_and_stop(
    stage: Stage, number: signal.Signals
) -> None:
    supervisor = stage.supervisor(
        [server(0)],
        [stopping_trainer(rank) for rank in (0, 1)],
        writes_checkpoints=True,
        signals=[number],
    )
    with pytest.raises(StoppedError, match=rf"by {number.name} in epoch 3 after 120 steps") as done:
        supervisor.run()
    assert done.value.exit_code == 75
    assert "step-00000120" in done.value.message
    assert "rudder train --resume" in done.value.remedy


def test_a_last_checkpoint_that_cannot_be_written_is_told(stage: Stage) -> None:
    supervisor = stage.supervisor(
        [server(0)],
        [stopping_trainer(0, error="the disk is full")],
        writes_checkpoints=True,
        signals=[signal.SIGTERM],
    )
    with pytest.raises(RunError, match="could not be written: the disk is full") as done:
        supervisor.run()
    assert done.value.exit_code == 5


def test_a_second_signal_ends_a_run_that_is_writing_its_last_checkpoint(stage: Stage) -> None:
    deaf = f'trap "" TERM; {trainer(0, IDLE)}'
    supervisor = stage.supervisor(
        [server(0)], [deaf], writes_checkpoints=True, signals=[signal.SIGTERM, signal.SIGINT]
    )
    with pytest.raises(RunError, match="ended by Ctrl-C"):
        supervisor.run()


def test_member_ends_with_all_that_it_has_started(stage: Stage) -> None:
    worker = stage.worker("trainer", 0, "sleep 61 & echo $! >&2; wait")
    child = int(until(worker.log.read_text))
    worker.close()
    until(lambda: not lives(child))
