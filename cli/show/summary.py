"""The end of a run: `summary.json` in its folder, and the same as tables for people."""

from __future__ import annotations

import operator
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console, Group

from rudder.cli.show import figures
from rudder.memory.run.run_folder import SUMMARY_FILE
from rudder.training.config import RunConfig
from rudder.training.hosts.host import Network
from rudder.training.local_disk import replacing
from rudder.training.metrics import (
    CountSource,
    EpochMetrics,
    Evaluation,
    ModelUse,
    RankReport,
    RowCounts,
    RowsFetched,
    SteeringCounts,
    Summary,
)

_SOURCES: dict[CountSource, str] = {
    "controller": "as its controller counted; the record has gaps",
    "cut short": "only up to where the disk failed",
}
"""What is said of counts that are not the record's."""
_MAX_EPOCHS = 12
"""Of more epochs, the tables have the first, the slowest and the last."""
_MAX_RANKS = 5
"""Columns of ranks that fit in 80 columns beside the names of the lines."""


def summarise(
    reports: Sequence[RankReport],
    *,
    evaluations: Sequence[Evaluation],
    config: RunConfig,
    dataset: str,
    run_dir: Path,
    network: Network,
    versions: Mapping[str, str],
    steering: Sequence[SteeringCounts] = (),
) -> Summary:
    """Add up the ranks' reports; an epoch takes as long as its slowest rank.

    dataset: the name of what was trained on, which with `--data` the config does not know;
    steering: what became of each controller's decisions.

    Without a buffer, as with the stock loader, there is no hit share.
    """
    ranks = tuple(sorted(reports, key=lambda report: report.rank))
    rows = sum((epoch.rows for report in ranks for epoch in report.epochs), RowCounts())
    has_buffer = config.loader == "rudder"
    return Summary(
        run_dir=str(run_dir),
        dataset=dataset,
        loader=config.loader,
        policy=config.policy if has_buffer else None,
        test_accuracy=_test_accuracy(evaluations),
        evaluations=tuple(evaluations),
        remote_rows=rows.remote_rows,
        rows_fetched=rows.rows_fetched.total,
        hit_fraction=rows.hit_fraction if has_buffer else None,
        halo_hit_fraction=rows.halo_hit_fraction if has_buffer else None,
        epoch_seconds=tuple(epoch.seconds_total for _, epoch in _slowest(ranks)),
        ranks=ranks,
        config=config,
        versions=dict(versions),
        network=network,
        steering=tuple(steering),
    )


def _test_accuracy(evaluations: Sequence[Evaluation]) -> float | None:
    last = evaluations[-1].score("accuracy") if evaluations else None
    return last.test if last else None


def write_summary(summary: Summary, run_dir: Path) -> Path:
    """Write `summary.json`, whole or not at all; returns its path."""
    path = run_dir / SUMMARY_FILE
    with replacing(path) as unfinished, unfinished.open("w") as file:
        file.write(summary.model_dump_json(indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return path


def print_summary(summary: Summary, console: Console | None = None) -> None:
    """Print times, rows and results of a run; console: default standard output."""
    console = Console() if console is None else console
    for table in (_time_table(summary), _row_table(summary), *_steering_tables(summary)):
        console.print(table, highlight=False)
        console.print()
    for name, value in _results(summary):
        console.print(f"{name:22}{value}", highlight=False, markup=False, soft_wrap=True)
    console.print()


def _time_table(summary: Summary) -> Group:
    parts = ("sample", "pull", "assemble", "exposed_wait", "compute")
    return _epoch_table(
        "Seconds of each epoch's slowest rank",
        ("total", *[part.replace("_", " ") for part in parts], "loss"),
        summary,
        lambda epoch: [
            figures.seconds(epoch.seconds_total),
            *[figures.seconds(getattr(epoch.seconds, part)) for part in parts],
            figures.decimal(epoch.loss),
        ],
    )


def _row_table(summary: Summary) -> Group:
    causes = _causes([epoch.rows.rows_fetched for _, epoch in _slowest(summary.ranks)])
    has_buffer = summary.hit_fraction is not None
    names = ("input", "remote", "hits", *[f"{cause} fetched" for cause in causes], "fetched MiB")
    return _epoch_table(
        "Rows of each epoch's slowest rank", names, summary,
        lambda epoch: [
            figures.count(epoch.rows.input_rows),
            figures.count(epoch.rows.remote_rows),
            figures.percent(epoch.rows.hit_fraction if has_buffer else None),
            *[figures.count(getattr(epoch.rows.rows_fetched, cause)) for cause in causes],
            figures.mebibytes(epoch.rows.bytes_fetched).removesuffix(" MiB"),
        ],
    )  # fmt: skip


def _epoch_table(
    title: str, names: Sequence[str], summary: Summary, cells: Callable[[EpochMetrics], list[str]]
) -> Group:
    """A line an epoch; of many epochs only the first, the slowest and the last."""
    epochs = told = _slowest(summary.ranks)
    below = None
    if len(epochs) > _MAX_EPOCHS:
        slowest = max(epochs, key=lambda each: each[1].seconds_total)
        told = [each for each in epochs if each in (epochs[0], slowest, epochs[-1])]
        below = f"first, slowest and last of {len(epochs)} epochs; {SUMMARY_FILE} has all"
    rows = [[str(epoch.epoch + 1), str(rank), *cells(epoch)] for rank, epoch in told]
    return figures.titled(title, figures.table(("epoch", "rank", *names), rows), below=below)


def _causes(fetched: Sequence[RowsFetched]) -> list[str]:
    """Misses and targets always; a cause that never occurred needs no column."""
    rare = [name for name in RowsFetched.model_fields if name not in ("miss", "target")]
    return ["miss", "target", *[name for name in rare if any(getattr(f, name) for f in fetched)]]


def _steering_tables(summary: Summary) -> Iterator[Group]:
    """What became of the agents' decisions, their last changes, and what a model brought."""
    told = summary.steering
    if not told:
        return
    yield _rank_table("Steering", _DECISIONS, told, below=_not_of_the_record(summary))
    changes = {each.rank: each.last_change for each in told if each.last_change is not None}
    if changes:
        rows = [
            (str(rank), figures.count(last.step), last.change, last.judgement)
            for rank, last in changes.items()
        ]
        table = figures.table(_CHANGE, rows, text=_CHANGE[2:])
        yield figures.titled("Last change", table)
    asked = [each for each in told if each.model is not None]
    if asked:
        below = _why_not_the_model([each.model for each in asked if each.model is not None])
        yield _rank_table("Language model", _QUESTIONS, asked, below=below)


_CHANGE = ("rank", "step", "change", "result")
_Value = Callable[[SteeringCounts], float | None]


@dataclass(frozen=True)
class _Line:
    """A line of a table with a column for each rank; total: of ranks too many for columns."""

    name: str
    of: _Value
    text: Callable[[float], str] = "{:,.0f}".format
    total: Callable[[Sequence[float]], float] = sum


def _median_of(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _of_model(
    value: Callable[[ModelUse], float | None],
) -> Callable[[SteeringCounts], float | None]:
    return lambda counts: None if counts.model is None else value(counts.model)


def _counted(*names: str) -> tuple[_Line, ...]:
    return tuple(_Line(name, operator.attrgetter(name)) for name in names)


_DECISIONS = (
    *_counted("decisions", "proposed"),
    _Line("made with another rank", lambda counts: counts.joined),
    _Line("approved", lambda counts: counts.approved + counts.trimmed),
    *_counted("refused", "late", "applied", "confirmed", "reverted", "abandoned"),
    _Line(
        "error of expected rows (median)",
        lambda counts: _median_of([abs(error) for error in counts.rows_errors]),
        figures.percent,
        median,
    ),
    _Line(
        "steps until in force (median)", lambda counts: _median_of(counts.ages_steps), total=median
    ),
)
_QUESTIONS = (
    _Line("questions", _of_model(lambda use: use.questions)),
    _Line("Pass@1", _of_model(lambda use: use.pass_at_1), figures.percent, median),
    _Line("valid at once", _of_model(lambda use: use.valid_first)),
    _Line("valid when asked again", _of_model(lambda use: use.valid_second)),
    _Line("left to embedded agents", _of_model(lambda use: sum(use.fallbacks.values()))),
    _Line("stale", _of_model(lambda use: use.stale)),
    _Line("overruled", lambda counts: counts.reconsidered),
    _Line("calls", _of_model(lambda use: use.calls)),
    _Line("tokens in", _of_model(lambda use: use.input_tokens)),
    _Line("tokens out", _of_model(lambda use: use.output_tokens)),
    _Line("ms of a call (median)", _of_model(lambda use: use.latency_ms_p50), total=median),
)


def _rank_table(
    title: str, lines: Sequence[_Line], counts: Sequence[SteeringCounts], *, below: str | None
) -> Group:
    """A column for each rank; of more ranks than fit, their total and the range of their values."""
    are_many = len(counts) > _MAX_RANKS
    names = ["all ranks", "least", "most"] if are_many else [f"rank {one.rank}" for one in counts]
    rows = []
    for line in lines:
        values = [line.of(each) for each in counts]
        if are_many:
            known = [value for value in values if value is not None]
            values = [line.total(known), min(known), max(known)] if known else [None] * 3
        shown = [figures.ABSENT if value is None else line.text(value) for value in values]
        rows.append([line.name, *shown])
    return figures.titled(title, figures.table(("", *names), rows, text=("",)), below=below)


def _not_of_the_record(summary: Summary) -> str | None:
    """Where the counts are from that the run's record cannot confirm."""
    said = [
        f"rank {', '.join(ranks)}: {what}"
        for source, what in _SOURCES.items()
        if (ranks := [str(each.rank) for each in summary.steering if each.source == source])
    ]
    return "\n".join(said) or None


def _why_not_the_model(uses: Sequence[ModelUse]) -> str | None:
    """Why nothing was asked, or left to the embedded agents, by the name of the error."""
    if not any(use.questions for use in uses):
        return "not asked: the run ended before its first estimates, or there was no time"
    why = sum((Counter(use.fallbacks) for use in uses), Counter[str]())
    if not why:
        return None
    named = ", ".join(f"{count:,} {name}" for name, count in why.most_common())
    return f"left to embedded: {named}; `rudder doctor --llm` tries the endpoint"


def _results(summary: Summary) -> Iterator[tuple[str, str]]:
    last = summary.evaluations[-1] if summary.evaluations else None
    memories = [report.memory for report in summary.ranks]
    for index, score in enumerate(last.scores if last else ()):
        name = score.name
        yield f"test {name}" if index == 0 else name, figures.score(score.test, name=name)
        if index == 0:
            yield f"validation {name}", figures.score(score.val, name=name)
    yield "hits of remote rows", figures.percent(summary.hit_fraction)
    yield "hits of halo rows", figures.percent(summary.halo_hit_fraction)
    yield "buffer rows a rank", _span([each.buffer_rows for each in memories], figures.count)
    yield "buffer a rank", _span([each.buffer_bytes for each in memories], figures.mebibytes)
    yield "peak memory a rank", _span([each.peak_rss_bytes for each in memories], figures.mebibytes)
    yield "run folder", summary.run_dir


def _slowest(ranks: Sequence[RankReport]) -> list[tuple[int, EpochMetrics]]:
    """Per epoch, the rank that took longest, and its metrics."""
    by_epoch: dict[int, tuple[int, EpochMetrics]] = {}
    for report in ranks:
        for epoch in report.epochs:
            known = by_epoch.get(epoch.epoch)
            if known is None or epoch.seconds_total > known[1].seconds_total:
                by_epoch[epoch.epoch] = (report.rank, epoch)
    return [by_epoch[number] for number in sorted(by_epoch)]


def _span(values: Sequence[int | None], text: Callable[[int], str]) -> str:
    known = [value for value in values if value]
    if not known:
        return figures.ABSENT
    low, high = text(min(known)), text(max(known))
    return low if low == high else f"{low} to {high}"
