"""Ratios and spreads, of made-up turns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from rudder.bench.plan import BenchPlan, Turn
from rudder.bench.results import Skipped, TurnDone, results_in, results_of
from rudder.bench.variants import parse_variants
from rudder.training.errors import ConfigError, MachineError
from rudder.training.metrics import EpochMetrics, RowCounts, RowsFetched, Seconds

ROUNDS = {"stock": [9.0, 4.0, 6.0, 5.0], "lookahead": [10.0, 2.0, 2.0, 1.0]}
"""Seconds of an epoch in the warm-up round and in three that count."""


def turns_of(
    plan: BenchPlan, *, lags: Sequence[float] = (0.0,), first: float = 0.0
) -> list[TurnDone]:
    """All turns; the second epoch of each takes 0.2 s longer.

    lags: seconds that each rank takes longer; first: seconds that a first epoch takes longer.
    """
    return [
        TurnDone(
            rate="none",
            turn=turn,
            epochs=tuple(
                tuple(metrics(turn, number, lag=lag, first=first) for lag in lags)
                for number in turn.epochs
            ),
        )
        for turn in plan.turns
    ]


def metrics(turn: Turn, epoch: int, *, lag: float, first: float) -> EpochMetrics:
    place = epoch - turn.first_epoch
    seconds = ROUNDS[turn.variant.text][turn.round] + 0.2 * place - 0.1 + lag
    is_first = turn.round == 0 and place == 0
    fetched = 100 if turn.variant.text == "stock" else 36
    return EpochMetrics(
        epoch=epoch,
        num_steps=10,
        seconds_total=seconds + first * is_first,
        seconds=Seconds(compute=1.0, exposed_wait=seconds - 1.0),
        rows=RowCounts(
            remote_rows=100, rows_fetched=RowsFetched(miss=1000 if turn.round == 0 else fetched)
        ),
        loss=1.0,
    )


@pytest.fixture
def plan() -> BenchPlan:
    return BenchPlan(variants=parse_variants("stock,lookahead"), repeats=3, epochs_per_turn=2)


def test_seconds_are_the_slowest_rank_s_without_the_warm_up(plan: BenchPlan) -> None:
    stock, ours = results_of(turns_of(plan, lags=(0.0, -0.05)))
    assert stock.turn_seconds == pytest.approx((4.0, 6.0, 5.0))
    assert stock.epoch_seconds.model_dump() == pytest.approx({"min": 4, "median": 5, "max": 6})
    assert ours.epoch_seconds.median == pytest.approx(2.0)
    assert {stock.rate, ours.rate} == {"none"}


def test_ratios_are_of_medians_and_within_rounds(plan: BenchPlan) -> None:
    stock, ours = results_of(turns_of(plan))
    assert ours.speedup_vs_stock == pytest.approx(2.5)
    assert ours.paired_speedup_vs_stock is not None
    paired = ours.paired_speedup_vs_stock.model_dump()
    assert paired == pytest.approx({"min": 2.0, "median": 3.0, "max": 5.0})
    assert stock.speedup_vs_stock == pytest.approx(1.0)


def test_first_epoch_stands_by_itself(plan: BenchPlan) -> None:
    stock, ours = results_of(turns_of(plan, first=1.0))
    assert stock.first_epoch_seconds == pytest.approx(9.9)
    assert ours.first_epoch_speedup_vs_stock == pytest.approx(9.9 / 10.9)


def test_rows_and_seconds_are_of_a_steady_epoch(plan: BenchPlan) -> None:
    _, ours = results_of(turns_of(plan, lags=(0.0, 0.0)))
    assert (ours.remote_rows, ours.rows_fetched) == (200, 72)
    assert ours.breakdown.compute == pytest.approx(1.0)
    assert ours.breakdown.exposed_wait == pytest.approx(2 / 3)


def test_without_stock_there_is_no_ratio(plan: BenchPlan) -> None:
    alone = plan.model_copy(update={"variants": parse_variants("lookahead")})
    (ours,) = results_of(turns_of(alone))
    assert ours.speedup_vs_stock is None
    assert ours.paired_speedup_vs_stock is None


def test_every_epoch_of_every_turn_is_kept_in_order(plan: BenchPlan) -> None:
    stock, _ = results_of(turns_of(plan, lags=(0.0, -0.05)))
    turns = [(8.9, 9.1), (3.9, 4.1), (5.9, 6.1), (4.9, 5.1)]
    assert [pytest.approx(turn) for turn in turns] == list(stock.epochs_of_turns)


def test_turns_up_to_a_stop_give_results_of_the_variants_that_have_some(plan: BenchPlan) -> None:
    turns = turns_of(plan)
    assert results_of(turns[:2]) == ()  # the warm-up round
    (ours,) = results_of(turns[:3])  # round 1 begins with the second variant
    assert ours.variant == "lookahead"
    assert ours.turn_seconds == pytest.approx((2.0,))
    assert ours.speedup_vs_stock is None
    stock, ours = results_of(turns[:5])
    assert len(stock.turn_seconds) == 2
    assert ours.paired_speedup_vs_stock is not None
    assert ours.paired_speedup_vs_stock.max == pytest.approx(2.0)


def measured(file: Path, shown: list[Skipped]) -> None:
    """Measures two rates, and fails."""
    with results_in(file, say=lambda line: None, show=shown.append) as keep:
        for rate in ("1gbit", "200mbit"):
            keep(Skipped(rate=rate, reason="", remedy=""))
        raise OSError("the link is gone")


def test_the_last_report_is_kept_and_shown_though_the_benchmark_fails(tmp_path: Path) -> None:
    shown: list[Skipped] = []
    file = tmp_path / "out" / "bench.json"
    with pytest.raises(OSError, match="link"):
        measured(file, shown)
    assert [each.rate for each in shown] == ["200mbit"]
    assert Skipped.model_validate_json(file.read_text()) == shown[0]


def test_a_benchmark_goes_on_while_the_disk_is_full(tmp_path: Path) -> None:
    file, told = tmp_path / "out" / "bench.json", list[str]()
    full = tmp_path / "out" / ".bench.json.partial"
    reports = [Skipped(rate=rate, reason="", remedy="") for rate in ("1", "2", "3")]
    with results_in(file, say=told.append, show=lambda _: None) as keep:
        full.symlink_to("/dev/full")
        keep(reports[0])
        keep(reports[1])
        full.unlink()
        keep(reports[2])
    assert Skipped.model_validate_json(file.read_text()) == reports[2]
    assert told == [
        f"{file} cannot be written now: No space left on device; the benchmark goes on",
        f"results: {file}",
    ]


def test_results_that_a_full_disk_did_not_take_are_shown_and_told(tmp_path: Path) -> None:
    file, shown = tmp_path / "bench.json", list[Skipped]()
    (tmp_path / ".bench.json.partial").symlink_to("/dev/full")
    report = Skipped(rate="1", reason="", remedy="")
    with (
        pytest.raises(MachineError, match=r"bench.json lacks the last results: No space left"),
        results_in(file, say=lambda line: None, show=shown.append) as keep,
    ):
        keep(report)
    assert shown == [report]
    with (
        pytest.raises(ConfigError, match=r"out = .*a folder that can be written"),
        results_in(Path("/proc/no/bench.json"), say=lambda line: None, show=lambda _: None),
    ):
        raise AssertionError("it must not begin")


def test_results_of_an_earlier_benchmark_are_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    file.write_text("{}")
    with pytest.raises(ConfigError, match="earlier benchmark"):
        measured(file, [])
    assert file.read_text() == "{}"
