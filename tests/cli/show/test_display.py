"""Progress as a person sees it: lines for a pipe, a table for a terminal, nothing when quiet."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from rudder.agents.controller.report import write_report
from rudder.cli.show.display import LiveDisplay, PlainDisplay, RunProgress, make_display
from rudder.training.events import (
    BufferMade,
    EpochDone,
    Evaluated,
    Event,
    Failed,
    LossWentWrong,
    PhaseEntered,
    Progress,
    Reported,
)
from rudder.training.metrics import (
    EpochMetrics,
    Evaluation,
    Memory,
    RankReport,
    RowCounts,
    RowsFetched,
    Score,
    Seconds,
    Window,
)
from rudder.training.settings import BufferSettings
from tests.cli.show.test_steering_lines import episode_of, report_of


def progress(rank: int, *, step: int = 16, epoch: int = 0, capacity: int = 10) -> Progress:
    return Progress(
        rank=rank,
        epoch=epoch,
        steps_in_epoch=59,
        step_in_epoch=step,
        window=Window(
            rank=rank,
            index=step // 16,
            epoch=epoch,
            first_step=step - 16,
            num_steps=16,
            rows=RowCounts(
                input_rows=100, remote_rows=40, hits=10, rows_fetched=RowsFetched(miss=1500)
            )
            if capacity
            else RowCounts(input_rows=100, remote_rows=40, rows_fetched=RowsFetched(miss=40)),
            seconds=Seconds(compute=0.6, exposed_wait=0.2),
            settings=BufferSettings(capacity_rows=capacity),
            buffered_rows=capacity,
            waiting_batches=1,
        ),
    )


def epoch_done(
    rank: int, *, seconds: float = 2.0, loss: float | None = 1.5, hits: int = 10
) -> EpochDone:
    return EpochDone(
        rank=rank,
        metrics=EpochMetrics(
            epoch=0,
            num_steps=59,
            seconds_total=seconds,
            seconds=Seconds(exposed_wait=seconds / 4, compute=seconds / 2),
            rows=RowCounts(remote_rows=40, hits=hits, rows_fetched=RowsFetched(miss=1500)),
            loss=loss,
        ),
    )


EVALUATION = Evaluation(
    epoch=0,
    scores=(
        Score(name="accuracy", test=0.8125, val=None),
        Score(name="micro-F1", test=0.75, val=None),
    ),
    seconds=2,
)


def shown(*events: Event, terminal: bool = False, epochs: int = 3) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=80, color_system=None)
    with make_display(num_ranks=2, epochs=epochs, console=console) as display:
        for event in events:
            display.on_event(event)
    return stream.getvalue()


def row_of(*events: Event) -> list[str]:
    told = RunProgress(num_ranks=1, epochs=3)
    for event in events:
        told.note(event)
    stream = io.StringIO()
    Console(file=stream, width=120).print(told.table())
    return stream.getvalue().splitlines()[-1].split()


def test_the_display_fits_the_console() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True)
    pipe = Console(file=io.StringIO(), force_terminal=False)
    assert type(make_display(num_ranks=1, epochs=1, console=terminal)) is LiveDisplay
    assert type(make_display(num_ranks=1, epochs=1, console=pipe)) is PlainDisplay


def test_by_default_standard_output_stays_empty(capsys: pytest.CaptureFixture[str]) -> None:
    with make_display(num_ranks=1, epochs=1) as display:
        display.on_event(epoch_done(0))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "epoch 1/1" in captured.err


def test_a_rank_s_place_is_shown_between_windows() -> None:
    between = Progress(rank=0, epoch=1, steps_in_epoch=59, step_in_epoch=7)
    assert row_of(between) == ["0", "starting", "2/3", "7/59", *["-"] * 4]
    measured = ["20.0", "25.0", "%", "1,500", "12.5"]
    assert row_of(progress(0), between) == ["0", "starting", "2/3", "7/59", *measured]


def test_an_epoch_is_told_once_when_its_last_rank_is_done() -> None:
    assert shown(epoch_done(0)) == ""
    lines = shown(epoch_done(0, seconds=2.0), epoch_done(1, seconds=4.0)).splitlines()
    assert lines == [
        "epoch 1/3: 4.000 s (slowest: rank 1), exposed wait 1.000 s, hits 25.0 %,"
        " rows fetched 3,000, loss 1.5000"
    ]


def test_a_loss_that_went_wrong_is_told_with_rank_and_step() -> None:
    problem = LossWentWrong(rank=1, epoch=1, step=51, loss="nan", action="the run ends")
    assert shown(problem).splitlines() == [
        "rank 1: the loss is nan at step 52 of epoch 2; the run ends"
    ]


def test_an_evaluation_is_told_and_absent_values_are_dashes() -> None:
    assert shown(Evaluated(evaluation=EVALUATION)).splitlines() == [
        "epoch 1/3: test accuracy 81.2 %, validation -, micro-F1 0.7500 (2.000 s)"
    ]
    lines = shown(epoch_done(0, loss=None, hits=0), epoch_done(1, loss=None, hits=0))
    assert "hits -," in lines
    assert lines.endswith("loss -\n")


def test_training_is_announced_once_when_all_ranks_train() -> None:
    def entered(rank: int) -> PhaseEntered:
        return PhaseEntered(role="trainer", rank=rank, phase="training")

    assert shown(entered(0)) == ""
    assert shown(entered(0), entered(1), entered(1)) == "2 trainers are training\n"


def test_a_phase_that_goes_on_is_told_once_in_detail() -> None:
    with make_display(num_ranks=2, epochs=1, console=Console(file=io.StringIO())) as display:
        phases = ("starting", "training", "training", "evaluating", "evaluating", "training")
        events = [PhaseEntered(role="trainer", rank=0, phase=phase) for phase in phases]
        lines = [line for event in events for line in display._progress.note(event)]
    assert lines == [f"trainer 0: {phases[k]}" for k in (0, 1, 3, 5)]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (1000, "a buffer holds up to 3.9 MiB, all of the remote rows (memory budget: 8.0 MiB"),
        (250, "a buffer holds up to 1.0 MiB, 25.0 % of the remote rows (memory budget: 8.0 MiB"),
    ],
)
def test_what_buffers_may_take_is_told_at_the_start(rows: int, told: str) -> None:
    memory = Memory(
        peak_rss_bytes=1, buffer_rows=rows, buffer_bytes=rows * 2**12, budget_bytes=2**23,
        map_nodes=1000,
    )  # fmt: skip
    trains = PhaseEntered(role="trainer", rank=0, phase="training")
    made = BufferMade(rank=0, memory=memory)
    assert told in shown(made, trains, trains.model_copy(update={"rank": 1}))


def test_a_pipe_gets_lines_without_escapes_however_many_windows_pass() -> None:
    windows = [progress(0, step=16 * index) for index in range(1, 4)]
    text = shown(*windows, epoch_done(0), epoch_done(1))
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text


def test_a_terminal_shows_a_row_per_rank() -> None:
    text = shown(progress(0), progress(1, step=32), terminal=True)
    last = text[text.rindex("rank") :]
    for expected in ("1/3", "16/59", "32/59", "20.0", "25.0 %", "1,500", "12.5"):
        assert expected in last


def test_a_terminal_keeps_the_lines_of_epochs() -> None:
    assert "epoch 1/3: 2.000 s" in shown(epoch_done(0), epoch_done(1), terminal=True)


def test_rows_fetched_start_again_with_the_epoch() -> None:
    text = shown(progress(0), progress(0, step=32), progress(0, epoch=1), terminal=True)
    last = text[text.rindex("rank") :]
    assert "2/3" in last
    assert "1,500" in last


def test_without_a_buffer_there_is_no_hit_share() -> None:
    text = shown(progress(0, capacity=0), progress(1, capacity=0), terminal=True)
    assert "%" not in text[text.rindex("rank") :]


def test_of_many_epochs_the_first_and_the_last_are_told() -> None:
    def epoch(number: int) -> list[Event]:
        done = [epoch_done(rank) for rank in range(2)]
        metrics = done[0].metrics.model_copy(update={"epoch": number})
        evaluation = EVALUATION.model_copy(update={"epoch": number})
        return [
            *[each.model_copy(update={"metrics": metrics}) for each in done],
            Evaluated(evaluation=evaluation),
        ]

    events = [event for number in range(120) for event in epoch(number)]
    lines = shown(*events, epochs=120).splitlines()
    told = [line.split(":")[0] for line in lines]
    assert told == [f"epoch {n}/120" for n in (*range(1, 11), 120) for _ in range(2)]


def test_of_slow_epochs_each_is_told() -> None:
    now = iter(range(0, 10_000, 11))
    progress = RunProgress(num_ranks=1, epochs=120, clock=lambda: float(next(now)))
    metrics = epoch_done(0).metrics
    told = [
        progress.note(EpochDone(rank=0, metrics=metrics.model_copy(update={"epoch": number})))
        for number in range(120)
    ]
    assert all(told)


def test_epochs_of_a_script_whose_number_nobody_knows_are_counted() -> None:
    watched = RunProgress(num_ranks=1, epochs=0)
    watched.note(progress(0))
    (cell,) = watched.table().columns[2].cells
    assert cell == "1"


def test_evaluations_are_kept() -> None:
    with make_display(num_ranks=1, epochs=1, console=Console(file=io.StringIO())) as display:
        display.on_event(Evaluated(evaluation=EVALUATION))
    assert list(display.evaluations) == [EVALUATION]


def test_every_kind_of_event_is_taken() -> None:
    report = RankReport(rank=0, host="host0", epochs=(), memory=Memory(peak_rss_bytes=1))
    failed = Failed(role="server", rank=0, message="gone", remedy="start it again", exit_code=5)
    server = PhaseEntered(role="server", rank=7, phase="connected")
    assert shown(Reported(report=report), failed, server) == ""


def test_the_terminal_is_left_as_it_was_after_an_error() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)

    def fail() -> None:
        with make_display(num_ranks=1, epochs=1, console=console) as display:
            display.on_event(progress(0))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")


def test_what_controllers_decided_last_is_told_at_the_end(tmp_path: Path) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=80)
    with make_display(num_ranks=2, epochs=1, console=console, steered=tmp_path) as display:
        display.on_event(progress(0))
        write_report(report_of(1).model_copy(update={"changes": (episode_of(),)}), tmp_path)
        assert stream.getvalue() == ""
    assert stream.getvalue().startswith("rank 1, step ")
