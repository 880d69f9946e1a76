"""The summary adds up, is written whole, and prints what was not measured as a dash."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from rudder.cli.show.summary import print_summary, summarise, write_summary
from rudder.training.config import run_config
from rudder.training.metrics import (
    EpochMetrics,
    Evaluation,
    LastChange,
    Memory,
    ModelUse,
    RankReport,
    RowCounts,
    RowsFetched,
    Score,
    Seconds,
    SteeringCounts,
    Summary,
)
from rudder.training.settings import BufferSettings

EVALUATIONS = (
    Evaluation(epoch=0, scores=(Score(name="accuracy", test=0.5, val=0.4),), seconds=1),
    Evaluation(
        epoch=1,
        scores=(
            Score(name="accuracy", test=0.75, val=0.7),
            Score(name="micro-F1", test=0.74, val=None),
        ),
        seconds=1,
    ),
)


def epoch(number: int, *, seconds: float = 1.0, rows: RowCounts | None = None) -> EpochMetrics:
    return EpochMetrics(
        epoch=number,
        num_steps=3,
        seconds_total=seconds,
        seconds=Seconds(sample=0.25, pull=0.125, exposed_wait=0.5, compute=seconds / 2),
        rows=rows or RowCounts(),
        loss=0.625,
    )


def report(rank: int, *epochs: EpochMetrics, **changes: Any) -> RankReport:
    values: dict[str, Any] = {
        "memory": Memory(peak_rss_bytes=2**30, buffer_rows=1234, buffer_bytes=2**20),
        "settings": BufferSettings(capacity_rows=1234),
    }
    return RankReport(rank=rank, host=f"host{rank}", epochs=epochs, **values | changes)


def summary_of(
    *reports: RankReport, evaluations: tuple[Evaluation, ...] = EVALUATIONS, **options: Any
) -> Summary:
    return summarise(
        reports,
        evaluations=evaluations,
        config=run_config(**options),
        dataset="synthetic:tiny",
        run_dir=Path("runs/a"),
        network="namespace",
        versions={"dgl": "2.1.0"},
    )


def printed(summary: Summary, *, width: int = 100) -> str:
    stream = io.StringIO()
    print_summary(summary, Console(file=stream, width=width))
    return stream.getvalue()


def test_an_epoch_takes_as_long_as_its_slowest_rank() -> None:
    summary = summary_of(
        report(1, epoch(0, seconds=3.0), epoch(1, seconds=1.0)),
        report(0, epoch(0, seconds=2.0), epoch(1, seconds=4.0)),
    )
    assert summary.epoch_seconds == (3.0, 4.0)
    assert [each.rank for each in summary.ranks] == [0, 1]


counts = st.integers(0, 10**9)


@given(st.lists(st.tuples(counts, counts, counts, counts), min_size=1, max_size=6))
def test_sums_are_over_ranks_and_epochs(numbers: list[tuple[int, int, int, int]]) -> None:
    rows = [
        RowCounts(
            remote_rows=hits + miss,
            halo_rows=hits + miss,
            hits=hits,
            halo_hits=hits // 2,
            rows_fetched=RowsFetched(miss=miss, target=target, seed=seed),
        )
        for hits, miss, target, seed in numbers
    ]
    half = len(rows) // 2
    summary = summary_of(
        report(0, *[epoch(i, rows=each) for i, each in enumerate(rows[:half])]),
        report(1, *[epoch(i, rows=each) for i, each in enumerate(rows[half:])]),
    )
    hits = sum(each.hits for each in rows)
    remote = sum(each.remote_rows for each in rows)
    assert summary.remote_rows == remote
    assert summary.rows_fetched == sum(miss + target + seed for _, miss, target, seed in numbers)
    assert summary.hit_fraction == (pytest.approx(hits / remote) if remote else None)
    halo_hits = sum(each.halo_hits for each in rows)
    assert summary.halo_hit_fraction == (pytest.approx(halo_hits / remote) if remote else None)


def test_the_last_evaluation_counts() -> None:
    assert summary_of(report(0, epoch(0))).test_accuracy == 0.75
    assert summary_of(report(0, epoch(0)), evaluations=()).test_accuracy is None


def test_the_stock_loader_has_neither_policy_nor_hits() -> None:
    rows = RowCounts(remote_rows=10, halo_rows=10, rows_fetched=RowsFetched(miss=10))
    summary = summary_of(report(0, epoch(0, rows=rows)), loader="stock")
    assert summary.policy is None
    assert summary.hit_fraction is None
    assert summary.halo_hit_fraction is None
    assert summary.rows_fetched == 10


def test_a_run_without_any_epoch_is_summarised() -> None:
    summary = summary_of(report(0), evaluations=())
    assert summary.epoch_seconds == ()
    assert "-" in printed(summary)


def test_the_file_holds_the_summary_and_the_named_keys(tmp_path: Path) -> None:
    summary = summary_of(report(0, epoch(0)))
    path = write_summary(summary, tmp_path)
    assert path == tmp_path / "summary.json"
    assert Summary.model_validate_json(path.read_text()) == summary
    assert set(json.loads(path.read_text())) >= {
        "run_dir",
        "dataset",
        "loader",
        "policy",
        "test_accuracy",
        "remote_rows",
        "rows_fetched",
        "hit_fraction",
        "halo_hit_fraction",
        "epoch_seconds",
        "ranks",
    }


def test_writing_replaces_whole_files_only(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text("old")
    write_summary(summary_of(report(0)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
    assert json.loads((tmp_path / "summary.json").read_text())["dataset"] == "synthetic:tiny"


def test_the_tables_name_the_slowest_rank_and_its_numbers() -> None:
    rows = RowCounts(
        input_rows=12_345,
        remote_rows=4_000,
        hits=1_000,
        rows_fetched=RowsFetched(miss=3_000, target=17, seed=2),
        bytes_fetched=3 * 2**20,
    )
    text = printed(summary_of(report(0, epoch(0)), report(1, epoch(0, seconds=2.5, rows=rows))))
    line_of_time, line_of_rows = [line.split() for line in text.splitlines() if " 1 " in line][:2]
    assert line_of_time == ["1", "1", "2.500", "0.250", "0.125", "-", "0.500", "1.250", "0.6250"]
    assert line_of_rows == ["1", "1", "12,345", "4,000", "25.0", "%", "3,000", "17", "2", "3.0"]


def test_the_run_is_told_with_its_quality_and_memory() -> None:
    text = printed(
        summary_of(
            report(0, epoch(0)),
            report(
                1,
                epoch(0),
                memory=Memory(peak_rss_bytes=2**31, buffer_rows=1234, buffer_bytes=2**20),
            ),
        )
    )
    facts = {
        line[: line.index("  ")]: line[line.index("  ") :].strip()
        for line in text.splitlines()[-11:]
        if "  " in line.strip()
    }
    assert facts["test accuracy"] == "75.0 %"
    assert facts["buffer rows a rank"] == "1,234"
    assert facts["buffer a rank"] == "1.0 MiB"
    assert facts["peak memory a rank"] == "1,024.0 MiB to 2,048.0 MiB"
    assert facts["run folder"] == "runs/a"


def test_what_was_not_measured_is_a_dash() -> None:
    text = printed(
        summary_of(
            report(0, epoch(0), settings=None, memory=Memory(peak_rss_bytes=1)),
            evaluations=(),
            loader="stock",
        )
    )
    for name in ("hits of remote rows", "buffer rows a rank"):
        line = next(line for line in text.splitlines() if line.startswith(name))
        assert line.split()[-1] == "-"


def test_the_tables_fit_into_80_columns() -> None:
    rows = RowCounts(
        input_rows=10**8,
        remote_rows=10**7,
        rows_fetched=RowsFetched(miss=10**7, target=10**5),
    )
    text = printed(summary_of(report(0, epoch(0, rows=rows))), width=80)
    assert "100,000,000" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_last_change_is_printed_with_what_became_of_it() -> None:
    last = LastChange(step=1234, change="capacity 60 -> 500", judgement="unjudged")
    told = SteeringCounts(rank=1, applied=1, last_change=last)
    steered = summary_of(report(0, epoch(0))).model_copy(
        update={"steering": (SteeringCounts(rank=0), told)}
    )
    lines = printed(steered).splitlines()
    (line,) = [line for line in lines if "unjudged" in line]
    assert line.split() == ["1", "1,234", "capacity", "60", "->", "500", "unjudged"]
    calm = steered.model_copy(update={"steering": (SteeringCounts(rank=0),)})
    assert "Last change" not in printed(calm)


def decided(rank: int) -> SteeringCounts:
    use = ModelUse(
        name="m", questions=1234, fallbacks={"RefusedError": 1200}, calls=1234,
        input_tokens=700_000, output_tokens=70_000, latency_ms_p50=1234.0,
    )  # fmt: skip
    return SteeringCounts(
        rank=rank, decisions=1234, reconsidered=7, proposed=123, approved=113, refused=12,
        applied=101, confirmed=90, reverted=11, abandoned=1, rows_errors=(0.123 + rank,),
        ages_steps=(123,), model=use,
    )  # fmt: skip


def line_of(name: str, summary: Summary) -> list[str]:
    lines = printed(summary, width=80).splitlines()
    (line,) = [line for line in lines if line.startswith(name)]
    return line.removeprefix(name).split()


def steered_by(*counts: SteeringCounts) -> Summary:
    return summary_of(report(0, epoch(0))).model_copy(update={"steering": counts})


def test_decisions_are_told_in_a_column_for_each_rank() -> None:
    told = steered_by(decided(0), SteeringCounts(rank=1))
    assert line_of("decisions", told) == ["1,234", "0"]
    assert line_of("error of expected rows (median)", told) == ["12.3", "%", "-"]
    assert line_of("steps until in force (median)", told) == ["123", "-"]
    assert line_of("tokens in", told) == ["700,000"]
    assert line_of("left to embedded agents", told) == ["1,200"]
    assert "left to embedded: 1,200 RefusedError" in printed(told, width=80)


def test_decisions_of_many_ranks_are_told_as_their_sum_and_range() -> None:
    told = steered_by(*[decided(rank) for rank in range(64)])
    assert line_of("decisions", told) == ["78,976", "1,234", "1,234"]
    assert line_of("error of expected rows (median)", told)[::2] == ["3162.3", "12.3", "6312.3"]


def test_of_many_epochs_the_first_the_slowest_and_the_last_are_printed() -> None:
    seconds = [9.0 if number == 57 else 1.0 for number in range(120)]
    epochs = [epoch(number, seconds=each) for number, each in enumerate(seconds)]
    lines = printed(summary_of(report(0, *epochs)), width=80).splitlines()
    numbers = [line.split()[0] for line in lines if line.lstrip()[:1].isdecimal()]
    assert numbers == ["1", "58", "120"] * 2
    assert lines.count("first, slowest and last of 120 epochs; summary.json has all") == 2
    assert len(lines) < 30


def test_counts_that_the_record_cannot_confirm_are_marked() -> None:
    told = (
        SteeringCounts(rank=0, source="controller"),
        SteeringCounts(rank=1),
        SteeringCounts(rank=2, source="cut short"),
    )
    steered = summary_of(report(0, epoch(0))).model_copy(update={"steering": told})
    text = printed(steered, width=80)
    assert "rank 0: as its controller counted; the record has gaps" in text
    assert "rank 2: only up to where the disk failed" in text
    assert "rank 1:" not in text


def test_a_model_that_was_not_asked_had_no_estimates_to_show() -> None:
    counts = SteeringCounts(model=ModelUse(name="m"))
    steered = summary_of(report(0, epoch(0))).model_copy(update={"steering": (counts,)})
    assert "not asked: the run ended before its first estimates" in printed(steered, width=80)
