"""A run that was ended in any way goes on as if nothing had been: batches, losses, accuracy."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from rudder.training.checkpoint.format import checkpoints_of
from tests.end_to_end.runs import Outcome, Run
from tests.waiting import RUN_SECONDS

pytestmark = pytest.mark.distributed
SCRIPTS = Path(__file__).parent / "scripts"
OPTIONS = {
    "epochs": 4,
    "batch_size": 8,
    "eval_every": 2,
    "program": "noted_steps",
    "memory": "none",
}
WRITING = {"checkpoint_every": "0.5s", "controller": "on"}
STEPS_BETWEEN = 30
Start = Callable[..., Run]


@pytest.fixture
def start(tiny_parts: Path, tmp_path: Path) -> Iterator[Start]:
    runs: list[Run] = []

    def start(name: str, **options: Any) -> Run:
        chosen = OPTIONS | options
        variables = {"PYTHONPATH": str(SCRIPTS)}
        runs.append(Run(tiny_parts, tmp_path / name, variables=variables, **chosen))
        return runs[-1]

    yield start
    for run in runs:
        run.close()


def kill_trainer(run: Run) -> None:
    run.kill("trainer", 1)


def kill_server(run: Run) -> None:
    run.kill("server", 0)


def kill_launcher(run: Run) -> None:
    run.signal(signal.SIGKILL)


def kinds(outcome: Outcome, kind: str) -> list[dict[str, Any]]:
    return [event for event in outcome.events if event["kind"] == kind]


def quality(outcome: Outcome) -> list[Any]:
    found = [event["evaluation"] for event in kinds(outcome, "evaluated")]
    return [(each["epoch"], each["scores"]) for each in found]


def losses(outcome: Outcome) -> list[Any]:
    ranks = sorted((event["report"] for event in kinds(outcome, "report")), key=by_rank)
    return [
        (epoch["epoch"], epoch["num_steps"], epoch["loss"], epoch["rows"]["input_rows"])
        for rank in ranks
        for epoch in rank["epochs"]
    ]


def by_rank(report: dict[str, Any]) -> int:
    return int(report["rank"])


def steps(run: Run, rank: int) -> set[str]:
    """Each step as it was noted; one that was done twice is there once if it came out the same."""
    return set((run.run_dir / f"steps{rank}.txt").read_text().splitlines())


HARMS = (kill_trainer, kill_launcher, kill_server)
EDGES = {"task": "link-prediction", "max_seeds": 1500, "epochs": 2, "controller": "none"}


@pytest.mark.parametrize(
    ("harms", "more"),
    [
        (HARMS, {}),
        ((kill_trainer,), EDGES),
        pytest.param(HARMS, {"trainers_per_host": 2, "model": "gat"}, marks=pytest.mark.slow),
        pytest.param(HARMS, {"policy": "score", "buffer": "0.25"}, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_killed_again_and_again_equals_one_that_was_not(
    harms: Sequence[Callable[[Run], None]], more: dict[str, Any], start: Start
) -> None:
    whole = start("whole", checkpoint_every="none", **more)
    reference = whole.outcome(within_s=RUN_SECONDS)
    assert reference.exit_code == 0, reference.error
    assert not checkpoints_of(whole.run_dir)
    writing = WRITING | more
    run, step = start("killed", **writing), 0
    for harm in harms:
        step = run.wait_for_checkpoint(after=step + STEPS_BETWEEN)
        harm(run)
        assert run.outcome(within_s=RUN_SECONDS).exit_code in (5, -signal.SIGKILL)
        run = start("killed", resume=True, **writing)
    run.wait_for_checkpoint(after=step + STEPS_BETWEEN)
    run.signal(signal.SIGTERM)
    stopped = run.outcome(within_s=RUN_SECONDS)
    assert stopped.exit_code == 75, stopped
    assert "by SIGTERM" in stopped.message
    assert f"rudder train --resume {run.run_dir}" in stopped.error["remedy"]
    done = start("killed", resume=True, **writing).outcome(within_s=RUN_SECONDS)
    assert done.exit_code == 0, done.error
    assert quality(done) == quality(reference)
    assert losses(done) == losses(reference)
    ranks = range(2 * more.get("trainers_per_host", 1))
    assert [steps(run, rank) for rank in ranks] == [steps(whole, rank) for rank in ranks]
    assert len(checkpoints_of(run.run_dir)) == 2
