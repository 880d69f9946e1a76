"""The benchmark of planners: same work for all, and figures that add up."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from rudder.agents.team import Team, make_team
from rudder.bench.simulated.cases import Case, all_cases
from rudder.bench.simulated.compare import CaseResult, Comparison, Standing, compare, standings
from rudder.cli.show.bench import planner_table
from rudder.training.steering_options import PlannerName, SteeringOptions
from rudder.training.workload import Workload
from tests.waiting import WAIT_SECONDS, until

POOR = Case("skewed", 0.1, "poor", 0)


def team(planner: PlannerName, workload: Workload) -> Team:
    return make_team(SteeringOptions(planner=planner), workload)


@pytest.fixture(scope="module")
def found() -> list[CaseResult]:
    teams = {
        "fixed": lambda workload: team("fixed", workload),
        "embedded": lambda workload: team("embedded", workload),
    }
    return list(compare(teams, POOR, windows=20))


def test_fixed_is_what_the_others_are_compared_with(found: list[CaseResult]) -> None:
    fixed, embedded = found
    assert fixed.to_fixed == 1
    assert fixed.fixed_seconds == embedded.fixed_seconds
    assert fixed.best_fixed_seconds == embedded.best_fixed_seconds <= fixed.fixed_seconds
    assert embedded.to_fixed < 0.8
    assert embedded.applied > 0
    assert len(embedded.rows_errors) >= embedded.reverted


def test_standings_are_means_and_worst_cases(found: list[CaseResult]) -> None:
    embedded = found[1]
    slower = embedded.model_copy(update={"seconds": 4 * embedded.seconds})
    standing = Standing.of([embedded, slower])
    assert standing.to_fixed == pytest.approx(2 * embedded.to_fixed)
    assert standing.worst_to_best == pytest.approx(4 * embedded.to_best)
    assert standing.applied == 2 * embedded.applied
    assert [each.planner for each in standings(found)] == ["fixed", "embedded"]
    assert Standing.of([found[0]]).rows_error is None


def test_the_table_has_a_line_for_each(found: list[CaseResult]) -> None:
    out = io.StringIO()
    Console(file=out, width=100).print(planner_table(standings(found)))
    lines = out.getvalue().splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["planner", "fixed", "embedded"]
    assert f"{found[1].capacity_rows:,}" in lines[3].split()
    assert "rows" in lines[1].split()


def test_cases_differ_and_policies_can_be_chosen() -> None:
    assert len(set(all_cases(seeds=2))) == 2 * len(all_cases(seeds=1))
    score = all_cases(seeds=1, policy="score")[0].trainer()
    assert score.workload.policy == "score"
    assert score.workload.refusal("replace_now") is None


def report(folder: Path) -> Comparison:
    """What the study has kept; nothing before its first workload."""
    try:
        text = (folder / "planners.json").read_text()
    except FileNotFoundError:
        return Comparison(workloads_planned=36)
    return Comparison.model_validate_json(text)


def test_a_comparison_that_is_stopped_keeps_and_shows_its_workloads(tmp_path: Path) -> None:
    rudder = Path(sys.executable).parent / "rudder"
    options = {"planners": "fixed", "windows": 4, "out": tmp_path}
    command = [str(rudder), "bench", "planners", *(f"--{k}={v}" for k, v in options.items())]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as bench:
        until(lambda: report(tmp_path).workloads_done >= 2)
        bench.send_signal(signal.SIGTERM)
        printed, _ = bench.communicate(timeout=WAIT_SECONDS)
    assert bench.returncode == 128 + signal.SIGTERM
    found = report(tmp_path)
    assert 2 <= found.workloads_done < found.workloads_planned == 36
    assert len(found.cases) == found.workloads_done
    assert printed.splitlines()[2].startswith("fixed")
