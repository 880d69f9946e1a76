"""When steering is said to do harm, how sure that is, and how a study goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rudder.bench import harm
from rudder.bench.harm import (
    RATES,
    ConfidenceInterval,
    Harm,
    HarmReport,
    Round,
    TurnCost,
    measure_harm,
)
from rudder.bench.plan import BenchPlan
from rudder.bench.results import TurnDone
from rudder.bench.run import Watch
from rudder.training.config import run_config
from rudder.training.errors import ConfigError, MachineError
from rudder.training.metrics import EpochMetrics, RowCounts, Seconds


def case(*speeds: float, rate: str = "none", core: float | None = None) -> Harm:
    rounds = tuple(
        Round(
            unsteered=TurnCost(seconds=speed, cpu_seconds=10.0),
            steered=TurnCost(seconds=1.0, cpu_seconds=10.5),
        )
        for speed in speeds
    )
    return Harm(dataset="tiny", rate=rate, rounds=rounds, applied=1, core=core)


def test_the_interval_of_a_median_is_the_sign_test_s() -> None:
    six = ConfidenceInterval.of([6, 1, 2, 5, 4, 3])
    assert (six.low, six.high) == (1, 6)
    assert six.confidence == pytest.approx(1 - 2 / 2**6)
    nine = ConfidenceInterval.of(list(range(1, 10)))
    assert (nine.low, nine.high) == (2, 8)
    assert nine.confidence == pytest.approx(1 - 2 * (1 + 9) / 2**9)


def test_few_rounds_are_not_called_certain() -> None:
    assert ConfidenceInterval.of([1.0]).confidence == 0
    assert ConfidenceInterval.of([1.0, 2.0, 3.0]).confidence == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("speeds", "verdict"),
    [
        ((0.99, 1.0, 1.1, 0.98, 1.0, 1.02), "no harm"),
        ((0.9, 0.98, 0.95, 0.96, 0.97, 0.96), "harm"),
        ((0.9, 0.98, 1.1, 1.0, 1.0, 1.2), "unclear"),
        ((0.97, 0.975, 0.98, 0.98, 0.98, 1.0), "unclear"),
    ],
)
def test_a_verdict_needs_an_interval_that_tells(speeds: tuple[float, ...], verdict: str) -> None:
    assert case(*speeds).verdict == verdict


def test_rounds_of_a_later_job_join_those_that_are_done() -> None:
    report = HarmReport(setup="2 hosts").with_case(case(1.0, rate="1gbit"))
    report = report.with_case(case(0.9, 1.0, core=0.02))
    known = report.case("tiny", "none")
    assert known is not None
    joined = report.with_case(known.joined(case(1.1, core=0.01)))
    assert joined.num_rounds("tiny", "none") == 3
    assert [each.rate for each in joined.cases] == ["1gbit", "none"]
    after = joined.case("tiny", "none")
    assert after is not None
    assert (after.speed, after.applied, after.core) == (1.0, 2, 0.02)
    assert after.cpu == pytest.approx(1.05)
    assert joined.num_rounds("tiny", "200mbit") == 0


def measure(
    out: Path,
    *,
    start: str = "",
    repeats: int = 2,
    network: str = "auto",
    rates: Sequence[str] = ("none",),
) -> HarmReport:
    config = run_config(dataset="synthetic:tiny", controller="none", network=network)
    return measure_harm(
        [config], rates=rates, start=start, repeats=repeats, epochs=3, out=out,
        say=lambda line: None, watch=lambda turn, report: None, show=lambda report: None,
    )  # fmt: skip


def test_a_case_whose_rounds_are_done_is_not_run_again(tmp_path: Path) -> None:
    setup = (
        "2 hosts, batch size 512, fan-out 5,10, 3 epochs or 180 steps a turn, start as by default"
    )
    done = case(1.0, 1.02).model_copy(update={"dataset": "synthetic:tiny"})
    (tmp_path / "harm.json").write_text(HarmReport(setup=setup).with_case(done).model_dump_json())
    assert measure(tmp_path) == HarmReport(setup=setup, cases=(done,), is_complete=True)
    assert [file.name for file in tmp_path.iterdir()] == ["harm.json"]
    with pytest.raises(ConfigError, match="another setup"):
        measure(tmp_path, start="buffer=0.25")
    (tmp_path / "harm.json").write_text("{}")
    with pytest.raises(ConfigError, match="of this version"):
        measure(tmp_path)


def take_all_turns(plan: BenchPlan, watch: Watch) -> None:
    """A job in which an unsteered epoch takes two seconds, and a steered one takes one."""
    for turn in plan.turns:
        seconds = 1.0 if "controller=on" in turn.variant.text else 2.0
        epoch = EpochMetrics(
            epoch=turn.first_epoch,
            num_steps=10,
            seconds_total=seconds,
            seconds=Seconds(compute=seconds),
            rows=RowCounts(),
            loss=1.0,
        )
        watch(TurnDone(rate="none", turn=turn, epochs=((epoch,),)), None)  # type: ignore[arg-type]


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[BenchPlan]:
    """Those of the jobs that were run; all of a job's turns are taken at once."""
    run_plans: list[BenchPlan] = []

    def run(plan: BenchPlan, config: Any, *, out: Path, watch: Watch, **_: Any) -> None:
        run_plans.append(plan)
        out.mkdir()
        take_all_turns(plan, watch)

    monkeypatch.setattr(harm, "run", run)
    return run_plans


def test_rates_that_this_machine_cannot_limit_are_left_out_and_told(
    tmp_path: Path, plans: list[BenchPlan]
) -> None:
    report = measure(tmp_path, network="loopback", rates=RATES)
    assert [case.rate for case in report.cases] == ["none"]
    assert [skipped.rate for skipped in report.skipped] == ["200mbit", "1gbit"]
    assert report.is_complete
    assert len(plans) == 1
    with pytest.raises(MachineError, match="rates need namespaces"):
        measure(tmp_path / "limited", network="loopback", rates=["200mbit"])
    assert not (tmp_path / "limited").exists()


def test_each_of_the_two_is_made_first_in_every_second_job(
    tmp_path: Path, plans: list[BenchPlan]
) -> None:
    report = measure(tmp_path, start="buffer=0.1", repeats=10)
    orders = [["steered" if "controller=on" in v.text else "un" for v in p.variants] for p in plans]
    assert orders == [["un", "steered"], ["steered", "un"], ["un", "steered"]]
    assert [plan.repeats for plan in plans] == [4, 4, 2]
    (case,) = report.cases
    assert case.speeds == (2.0,) * 10
