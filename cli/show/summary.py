"""The end of a run: `summary.json` in its folder, and the same as tables for people."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Literal

from rich.console import Console
from rich.table import Table

from rudder.cli.show import figures
from rudder.training.config import RunConfig
from rudder.training.metrics import (
    CountSource,
    EpochMetrics,
    Evaluation,
    RankReport,
    RowCounts,
    RowsFetched,
    SteeringCounts,
    Summary,
)

FILE_NAME = "summary.json"
_SOURCES: dict[CountSource, str] = {
    "controller": "as its controller counted; the record has gaps",
    "cut short": "only up to where the disk failed",
}
"""What is said of counts that are not the record's."""


def summarise(
    reports: Sequence[RankReport],
    *,
    evaluations: Sequence[Evaluation],
    config: RunConfig,
    dataset: str,
    run_dir: Path,
    network: Literal["namespace", "loopback"],
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
        test_accuracy=evaluations[-1].test_accuracy if evaluations else None,
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


def write_summary(summary: Summary, run_dir: Path) -> Path:
    """Write `summary.json`, whole or not at all; returns its path."""
    path = run_dir / FILE_NAME
    unfinished = path.with_suffix(".json.part")
    with unfinished.open("w") as file:
        file.write(summary.model_dump_json(indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    return path


def print_summary(summary: Summary, console: Console | None = None) -> None:
    """Print where the time went, which rows moved, and what came of the run.

    console: default standard output.
    """
    console = Console() if console is None else console
    steering = [_steering_table(summary)] if summary.steering else []
    if any(counts.last_change is not None for counts in summary.steering):
        steering.append(_last_change_table(summary))
    if any(counts.model is not None for counts in summary.steering):
        steering.append(_model_table(summary))
    for table in (_time_table(summary), _row_table(summary), *steering, _run_table(summary)):
        console.print(table, highlight=False)
        console.print()


def _time_table(summary: Summary) -> Table:
    names = ("total", "sample", "pull", "assemble", "exposed\nwait", "compute", "loss")
    table = _table("Seconds of each epoch's slowest rank", names)
    for rank, epoch in _slowest(summary.ranks):
        spent = epoch.seconds
        times = (spent.sample, spent.pull, spent.assemble, spent.exposed_wait, spent.compute)
        table.add_row(
            str(epoch.epoch + 1),
            str(rank),
            *[figures.seconds(value) for value in (epoch.seconds_total, *times)],
            figures.decimal(epoch.loss),
        )
    return table


def _row_table(summary: Summary) -> Table:
    slowest = _slowest(summary.ranks)
    causes = _causes([epoch.rows.rows_fetched for _, epoch in slowest])
    table = _table(
        "Rows of each epoch's slowest rank",
        ("input", "remote", "hits", *[f"{cause}\nfetched" for cause in causes], "fetched\nMiB"),
    )
    for rank, epoch in slowest:
        rows = epoch.rows
        table.add_row(
            str(epoch.epoch + 1),
            str(rank),
            figures.count(rows.input_rows),
            figures.count(rows.remote_rows),
            figures.percent(None if summary.hit_fraction is None else rows.hit_fraction),
            *[figures.count(getattr(rows.rows_fetched, cause)) for cause in causes],
            figures.mebibytes(rows.bytes_fetched).removesuffix(" MiB"),
        )
    return table


def _causes(fetched: Sequence[RowsFetched]) -> list[str]:
    """Misses and targets always; a cause that never occurred needs no column."""
    rare = [name for name in RowsFetched.model_fields if name not in ("miss", "target")]
    return ["miss", "target", *[name for name in rare if any(getattr(f, name) for f in fetched)]]


def _steering_table(summary: Summary) -> Table:
    """What became of the agents' decisions; medians of how far off the expected rows fetched were,
    and of the steps from an observation to its change being in force."""
    names = ("proposed", "approved", "refused", "late", "applied", "confirmed", "reverted",
             "abandoned")  # fmt: skip
    heads = ("pro-\nposed", "ap-\nproved", "re-\nfused", "late", "ap-\nplied", "con-\nfirmed",
             "re-\nverted", "aban-\ndoned")  # fmt: skip
    table = Table(
        title="Steering", title_justify="left", title_style="bold", box=None, pad_edge=False,
        collapse_padding=True,
    )  # fmt: skip
    for name in ("rank", "deci-\nsions", *heads, "rows'\nerror", "age\nsteps"):
        table.add_column(name, justify="right", overflow="fold")
    for counts in summary.steering:
        approved = counts.approved + counts.trimmed
        values = [approved if name == "approved" else getattr(counts, name) for name in names]
        errors = [abs(error) for error in counts.rows_errors]
        table.add_row(
            str(counts.rank),
            figures.count(counts.decisions),
            *map(figures.count, values),
            figures.percent(median(errors) if errors else None),
            f"{median(counts.ages_steps):.0f}" if counts.ages_steps else figures.ABSENT,
        )
    table.caption, table.caption_justify = _not_of_the_record(summary), "left"
    return table


def _not_of_the_record(summary: Summary) -> str | None:
    """Where the counts are from that the run's record cannot confirm."""
    said = []
    for source, what in _SOURCES.items():
        ranks = [str(counts.rank) for counts in summary.steering if counts.source == source]
        if ranks:
            said.append(f"rank {', '.join(ranks)}: {what}")
    return "\n".join(said) or None


def _last_change_table(summary: Summary) -> Table:
    """The display may have ended before it was told of the last change, or what became of it."""
    table = Table(
        title="Last change", title_justify="left", title_style="bold", box=None, pad_edge=False
    )
    for name in ("rank", "step"):
        table.add_column(name, justify="right")
    for name in ("change", "result"):
        table.add_column(name, overflow="fold")
    for counts in summary.steering:
        if (last := counts.last_change) is not None:
            table.add_row(str(counts.rank), figures.count(last.step), last.change, last.judgement)
    return table


def _model_table(summary: Summary) -> Table:
    """What asking a language model brought and cost."""
    table = Table(
        title="Language model", title_justify="left", title_style="bold", box=None, pad_edge=False
    )
    for name in ("rank", "ques-\ntions", "Pass@1", "valid\n1st", "valid\n2nd",
                 "left to\nembed-\nded", "over-\nruled", "calls", "tokens\nin", "tokens\nout",
                 "p50\nms"):  # fmt: skip
        table.add_column(name, justify="right", overflow="fold")
    for counts in summary.steering:
        if (use := counts.model) is not None:
            latency = use.latency_ms_p50
            table.add_row(
                str(counts.rank),
                figures.count(use.questions),
                figures.percent(use.pass_at_1),
                *map(
                    figures.count,
                    (use.valid_first, use.valid_second, sum(use.fallbacks.values()),
                     counts.reconsidered, use.calls, use.input_tokens, use.output_tokens),
                ),
                figures.ABSENT if latency is None else f"{latency:.0f}",
            )  # fmt: skip
    table.caption, table.caption_justify = _why_not_the_model(summary), "left"
    return table


def _why_not_the_model(summary: Summary) -> str | None:
    """Why nothing was asked, or left to the embedded agents, by the name of the error."""
    uses = [counts.model for counts in summary.steering if counts.model is not None]
    if not any(use.questions for use in uses):
        return "not asked: there was nothing to gain that exceeds the noise, or no time to"
    why: Counter[str] = Counter()
    for use in uses:
        why.update(use.fallbacks)
    if not why:
        return None
    named = ", ".join(f"{count:,} {name}" for name, count in why.most_common())
    return f"left to embedded: {named}; `rudder doctor --llm` tries the endpoint"


def _run_table(summary: Summary) -> Table:
    table = Table.grid(padding=(0, 2))
    last = summary.evaluations[-1] if summary.evaluations else None
    memories = [report.memory for report in summary.ranks]
    for name, value in (
        ("test accuracy", figures.percent(summary.test_accuracy)),
        ("micro-F1", figures.decimal(last.test_f1 if last else None)),
        ("validation accuracy", figures.percent(last.val_accuracy if last else None)),
        ("hits of remote rows", figures.percent(summary.hit_fraction)),
        ("hits of halo rows", figures.percent(summary.halo_hit_fraction)),
        ("buffer rows a rank", _span([memory.buffer_rows for memory in memories])),
        ("buffer bytes a rank", _span_bytes([memory.buffer_bytes or None for memory in memories])),
        ("peak memory a rank", _span_bytes([memory.peak_rss_bytes for memory in memories])),
        ("run folder", summary.run_dir),
    ):
        table.add_row(name, value)
    return table


def _table(title: str, names: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in ("epoch", "rank", *names):
        table.add_column(name, justify="right", overflow="fold")
    return table


def _slowest(ranks: Sequence[RankReport]) -> list[tuple[int, EpochMetrics]]:
    """Per epoch, the rank that took longest, and its metrics."""
    by_epoch: dict[int, tuple[int, EpochMetrics]] = {}
    for report in ranks:
        for epoch in report.epochs:
            known = by_epoch.get(epoch.epoch)
            if known is None or epoch.seconds_total > known[1].seconds_total:
                by_epoch[epoch.epoch] = (report.rank, epoch)
    return [by_epoch[number] for number in sorted(by_epoch)]


def _span(values: Sequence[int | None]) -> str:
    known = [value for value in values if value]
    if not known:
        return figures.ABSENT
    low, high = figures.count(min(known)), figures.count(max(known))
    return low if low == high else f"{low} to {high}"


def _span_bytes(values: Sequence[int | None]) -> str:
    known = [value for value in values if value]
    if not known:
        return figures.ABSENT
    low, high = figures.mebibytes(min(known)), figures.mebibytes(max(known))
    return low if low == high else f"{low} to {high}"
