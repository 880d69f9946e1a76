"""What a benchmark leaves behind: a file, tables, a picture, lines while it runs."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from rudder.bench.measure import Turns
from rudder.bench.plan import BenchPlan
from rudder.bench.results import BenchReport, MachineFacts, Skipped, Spread, VariantResult
from rudder.bench.variants import parse_variants
from rudder.cli.show.bench import TurnLines, as_markdown, draw, report_text
from rudder.training.config import RunConfig
from rudder.training.events import EpochDone
from rudder.training.metrics import EpochMetrics, RowCounts, Seconds


def result(variant: str, rate: str, seconds: float) -> VariantResult:
    spread = Spread(min=seconds - 0.5, median=seconds, max=seconds + 0.25)
    return VariantResult(
        rate=rate,
        variant=variant,
        epoch_seconds=spread,
        turn_seconds=(seconds,),
        first_epoch_seconds=seconds + 1,
        speedup_vs_stock=8 / seconds,
        paired_speedup_vs_stock=Spread(min=1.5, median=2.0, max=2.25),
        first_epoch_speedup_vs_stock=None,
        rows_fetched=36,
        remote_rows=100,
        bytes_fetched=1,
        breakdown=Seconds(sample=0.125, compute=1.0),
    )


@pytest.fixture
def report() -> BenchReport:
    return BenchReport(
        dataset="synthetic:tiny",
        command="rudder bench epochs",
        started="2025-01-02T03:04:05",
        results=tuple(
            result(name, rate, seconds)
            for rate in ("none", "200mbit")
            for name, seconds in (("stock", 8.0), ("lookahead", 4.0), ("floor", 2.0))
        ),
        skipped=(Skipped(rate="1gbit", reason="no namespaces", remedy="have some"),),
        turns_done=24,
        turns_planned=24,
        repeats=3,
        epochs_per_turn=2,
        network="namespace",
        config=RunConfig(),
        machine=MachineFacts(cpu="Some CPU", cores=2, memory_bytes=2**33, kernel="6"),
        versions={"dgl": "2.1.0", "torch": "2.2.1"},
    )


def test_tables_have_a_row_per_rate_and_variant_and_say_what_is_missing(
    report: BenchReport,
) -> None:
    text = StringIO()
    Console(file=text, width=120).print(report_text(report), highlight=False)
    lines = text.getvalue().splitlines()
    times = next(line for line in lines if line.split()[:2] == ["200mbit", "lookahead"])
    assert times.split() == [
        "200mbit", "lookahead", "4.000", "3.50", "-", "4.25", "2.00x", "1.50", "-", "2.25", "5.000",
    ]  # fmt: skip
    assert sum(line.startswith(("none ", "200mbit ")) for line in lines) == 12
    assert "rate 1gbit was left out: no namespaces" in text.getvalue()


def test_markdown_says_how_and_on_what_it_was_measured(report: BenchReport) -> None:
    text = as_markdown(report)
    assert "| none | lookahead | 4.000 | 3.50 - 4.25 | 2.00x | 1.50 - 2.25 | 5.000 |" in text
    assert "Some CPU, 2 cores, 8 GiB" in text
    assert "`rudder bench epochs`" in text


def test_picture_is_a_picture(report: BenchReport, tmp_path: Path) -> None:
    assert draw(report, tmp_path).read_bytes().startswith(b"\x89PNG")


def test_a_turn_is_told_once_all_ranks_have_done_it(
    report: BenchReport, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = BenchPlan(variants=parse_variants("stock,none"), repeats=1, epochs_per_turn=2)
    tell = TurnLines()
    turns = Turns(plan, rate="1gbit", num_ranks=2, on_turn=lambda done: tell(done, report))
    for epoch, seconds in enumerate((1.0, 2.0, 3.0, 4.0)):
        for rank in (0, 1):
            metrics = EpochMetrics(
                epoch=epoch, num_steps=1, seconds_total=seconds - 0.5 * rank,
                seconds=Seconds(), rows=RowCounts(), loss=None,
            )  # fmt: skip
            turns(EpochDone(rank=rank, metrics=metrics))
    told = [line.split("; ") for line in capsys.readouterr().err.splitlines()]
    assert [line for line, _ in told] == [
        "rate 1gbit, warm-up, stock: 1.500 s an epoch",
        "rate 1gbit, warm-up, none: 3.500 s an epoch",
    ]
    assert all(pace.startswith("24 of 24 turns, ") for _, pace in told)


def test_a_stopped_benchmark_says_how_far_it_got(report: BenchReport) -> None:
    stopped = report.model_copy(update={"turns_done": 17})
    assert "stopped after 17 of 24 turns" in as_markdown(stopped)
    assert "stopped" not in as_markdown(report)
