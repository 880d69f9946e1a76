"""What people are told of the controllers while a run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from rudder.agents.controller.report import SteeringReport, write_report
from rudder.cli.show.steering_lines import SteeringWatch, episode_line
from rudder.memory.records import Episode, Outcome, Plan, Verdict
from rudder.training.metrics import ModelUse, SteeringCounts
from rudder.training.settings import Change
from tests.agents.steered import applied_of, effect_of, observation_of

LARGER = Change(capacity_rows=4000)


def report_of(rank: int, **fallbacks: int) -> SteeringReport:
    words = {"RefusedError": "no such model [m]"}
    use = ModelUse(name="m", fallbacks=fallbacks, words=words)
    counts = SteeringCounts(rank=rank, model=use)
    return SteeringReport(rank=rank, planner="llm:m", counts=counts)


def episode_of(**seen: object) -> Episode:
    effect = effect_of(100.0, 1.0)
    return Episode(
        episode_id="e",
        run_key="r",
        rank=0,
        number=0,
        observation=observation_of(**seen),
        plan=Plan(planner="p", change=LARGER, expected=effect, reason="it helps"),
        verdict=Verdict(
            decision="approve", critic="c", change=LARGER, expected=effect, reason="so it seems"
        ),
        applied=applied_of(LARGER),
    )


def test_a_fault_of_the_endpoint_is_told_once_with_what_to_do(tmp_path: Path) -> None:
    watch = SteeringWatch(tmp_path)
    write_report(report_of(0, RefusedError=1), tmp_path)
    (line,) = watch.last_news(0)
    assert "refuses the key" in line
    assert 'the server says: "no such model [m]"' in line
    assert "RUDDER_LLM_KEY" in line
    write_report(report_of(0, RefusedError=5), tmp_path)
    write_report(report_of(1, RefusedError=2), tmp_path)
    assert watch.last_news(0) + watch.last_news(1) == []
    write_report(report_of(1, RefusedError=2, TooSlowError=1), tmp_path)
    (line,) = watch.last_news(1)
    assert "too late" in line


def test_work_grows_with_the_ranks_and_not_with_their_events(tmp_path: Path) -> None:
    """64 ranks make progress ten times a second, for ten seconds, and decide once a second."""
    now = [0.0]
    watch = SteeringWatch(tmp_path, clock=lambda: now[0])
    told = 0
    for tenth in range(100):
        now[0] = tenth / 10
        for rank in range(64):
            if tenth % 10 == 0:
                step = 320 + tenth
                changed = episode_of().model_copy(update={"applied": applied_of(LARGER, step=step)})
                report = report_of(rank).model_copy(update={"changes": (changed,)})
                write_report(report, tmp_path)
            told += len(watch.news(rank))
    assert told == 64 * 10
    assert watch.num_reads == 64 * 10


@pytest.mark.parametrize("error", ["NotAskedError", "InvalidAnswerError"])
def test_what_is_not_the_endpoints_fault_is_left_to_the_summary(error: str, tmp_path: Path) -> None:
    watch = SteeringWatch(tmp_path)
    write_report(report_of(0, **{error: 3}), tmp_path)
    assert watch.last_news(0) == []


def test_what_became_of_a_change_is_told_though_the_next_one_follows_at_once(
    tmp_path: Path,
) -> None:
    watch = SteeringWatch(tmp_path)
    first, kept = episode_of(), episode_of().model_copy(update={"applied": None})
    write_report(report_of(0).model_copy(update={"changes": (first,), "last": first}), tmp_path)
    (line,) = watch.last_news(0)
    assert line.endswith("rows fetched a step 200 -> 100 expected, wait 5.0 -> 1.0 ms")
    outcome = Outcome(result="confirmed", rows_after=101.0, wait_ms_after=1.5)
    ended = first.model_copy(update={"outcome": outcome})
    second = episode_of().model_copy(
        update={"episode_id": "f", "applied": applied_of(LARGER, step=320)}
    )
    changes = report_of(0).model_copy(update={"changes": (first,)}).changes_with(ended)
    report = report_of(0).model_copy(update={"changes": (*changes, second), "last": kept})
    write_report(report, tmp_path)
    one, other = watch.last_news(0)
    assert "confirmed, 101 rows a step" in one
    assert "step 320" in other
    assert watch.last_news(0) == []


def test_a_change_is_told_with_what_is_expected_of_it() -> None:
    line = episode_line(episode_of())
    assert line is not None
    assert "capacity 2,500 -> 4,000" in line
    assert "rows fetched a step 200 -> 100 expected" in line


def test_before_the_first_window_there_is_nothing_to_compare_with() -> None:
    line = episode_line(episode_of(step=0, rows_fetched=0.0, step_ms=0.0))
    assert line is not None
    assert "rows fetched a step 100 expected" in line
