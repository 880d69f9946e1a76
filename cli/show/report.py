"""A run, or several side by side, as one page of HTML that needs no network."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from itertools import chain
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from rich.console import Console

from rudder.cli.show import figures
from rudder.cli.show.audit import detail
from rudder.cli.show.chart import Axis, Chart, Line, TimeUnit
from rudder.cli.show.episode import recorded_page
from rudder.cli.show.runs import fact_texts
from rudder.cli.show.steering_lines import episode_line
from rudder.cli.show.summary import print_summary
from rudder.cli.show.verified import finding_text, verified
from rudder.memory.run.run_folder import RunFacts, StoredRun
from rudder.memory.run.run_reader import RunReader
from rudder.memory.run.series import Mark, MarkKind, Point, RankSeries
from rudder.memory.store import Redaction
from rudder.training.config import CONFIG_FILE
from rudder.training.errors import DataError
from rudder.training.local_disk import replacing

FILE_NAME = "report.html"
_POINTS = 1600
"""Of all ranks in one chart: what a screen can show; each rank has at least 100 and at most 400."""
_MAX_MARKS = 2000
_MAX_STORIES = 300
_MAX_LINES = 60
"""Marks of which each also is a line through all charts."""
_KINDS: dict[MarkKind, str] = {
    "kept": "changes that were kept",
    "undone": "changes that were undone",
    "on trial": "changes whose trial did not end",
    "refused": "proposals that were not made",
    "person": "what a person or the schedule did",
    "fault": "faults, and what ended them",
}


@dataclass(frozen=True)
class _Panel:
    """A chart with a line for each rank."""

    title: str
    what: str
    of: Callable[[Point], float | None]
    is_log: bool = False
    only_if_changed: bool = False


def _setting(name: str) -> Callable[[Point], float | None]:
    return lambda point: None if point.settings is None else getattr(point.settings, name)


_PANELS = (
    _Panel("Step", "milliseconds", lambda point: point.step_ms),
    _Panel("Exposed wait", "milliseconds a step", lambda point: point.wait_ms),
    _Panel(
        "Hits", "% of the remote rows",
        lambda point: None if point.hit_fraction is None else 100 * point.hit_fraction,
    ),
    _Panel("Rows fetched", "a step", lambda point: point.rows_fetched),
    _Panel("Bytes fetched", "KiB a step", lambda point: point.bytes_fetched / 1024),
    _Panel("Buffer", "rows, logarithmic", _setting("capacity_rows"), is_log=True),
    _Panel("Lookahead", "batches", _setting("lookahead_batches")),
    _Panel("Eviction threshold", "uses a batch", _setting("eviction_threshold"),
           only_if_changed=True),
    _Panel("Replacement interval", "batches", _setting("replacement_interval"),
           only_if_changed=True),
)  # fmt: skip
_PARTS = ("compute", "exposed_wait", "sample", "pull", "assemble")


@dataclass(frozen=True)
class MarkView:
    """A mark where it is drawn: left, top in percent; story: what a click opens, None: nothing."""

    kind: MarkKind
    left: float
    top: float
    text: str
    story: str | None


class RunView:
    """What the page shows of one run, besides its charts."""

    def __init__(self, run: StoredRun, *, number: int) -> None:
        self.run, self.number = run, number
        ranks = max(len(run.files), len(run.summary.ranks) if run.summary else 0, 1)
        self.series = run.series(num_points=min(max(_POINTS // ranks, 100), 400))

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.run.folder.absolute().name

    @property
    def end_s(self) -> float:
        """When the last thing happened."""
        return max((series.end_s for series in self.series), default=0.0)

    @cached_property
    def facts(self) -> dict[str, str]:
        """What runs are compared by."""
        return fact_texts(RunFacts.of(self.run))

    @property
    def summary_text(self) -> str | None:
        """The tables that the terminal had at the end."""
        if self.run.summary is None:
            return None
        text = io.StringIO()
        print_summary(self.run.summary, Console(file=text, width=figures.WIDTH, color_system=None))
        return text.getvalue()

    @property
    def config_text(self) -> str | None:
        """The run's settings, as its file has them."""
        path = self.run.folder / CONFIG_FILE
        return path.read_text(errors="replace") if path.exists() else None

    @property
    def versions(self) -> str:
        """Of Rudder and what it rests on."""
        summary = self.run.summary
        known = {} if summary is None else summary.versions
        return ", ".join(f"{name} {version}" for name, version in known.items())

    @cached_property
    def verification(self) -> list[tuple[bool, str]]:
        """Whether each rank's record is as it was written, and the finding in words."""
        if not self.run.files:
            return []
        try:
            return [
                (each.found.holds, "; ".join(map(str.strip, finding_text(each).splitlines())))
                for each in verified(self.run.folder)
            ]
        except DataError as error:
            return [(False, str(error))]

    @cached_property
    def marks(self) -> list[tuple[RankSeries, Mark]]:
        """The marks of all ranks; of too many, refused proposals are left out first."""
        found = [(series, mark) for series in self.series for mark in series.marks]
        order = list(_KINDS)
        found.sort(key=lambda each: (each[1].kind == "refused", order.index(each[1].kind)))
        return found[:_MAX_MARKS]

    @property
    def num_left_out(self) -> int:
        """Marks that are not drawn."""
        return sum(len(series.marks) for series in self.series) - len(self.marks)

    def mark_views(self, x: Axis, unit: TimeUnit) -> list[MarkView]:
        """A row for each rank."""
        row = {series.rank: number for number, series in enumerate(self.series)}
        return [
            MarkView(
                kind=mark.kind,
                left=x.place(mark.at_s / unit.seconds) / 10,
                top=100 * (row[series.rank] + 0.5) / len(row),
                text=f"rank {series.rank}, step {mark.step:,}: {_said(mark)}",
                story=self._story_of(mark),
            )
            for series, mark in self.marks
        ]

    def _story_of(self, mark: Mark) -> str | None:
        name = None if mark.episode is None else mark.episode.episode_id
        return f"run{self.number}-{name}" if name in self._told else None

    @cached_property
    def _told(self) -> dict[str, str]:
        """Stories by the id of the episode."""
        wanted = [(s.rank, m.episode) for s, m in self.marks if m.episode is not None]
        chosen = wanted[:_MAX_STORIES]
        told: dict[str, str] = {}
        for path in self.run.files if chosen else ():
            with suppress(DataError), RunReader(path) as reader:
                rank = reader.rank()
                mine = [episode for at, episode in chosen if at == rank]
                told |= {each.episode_id: recorded_page(reader, each) for each in mine}
        return told

    @property
    def stories(self) -> Iterator[tuple[str, str]]:
        """Of the decisions that are drawn: anchor and page."""
        return ((f"run{self.number}-{name}", text) for name, text in self._told.items())


def report_page(runs: Sequence[StoredRun]) -> str:
    """The page, without secrets."""
    views = [RunView(run, number=number) for number, run in enumerate(runs)]
    unit = TimeUnit.fit(max(view.end_s for view in views))
    x = Axis(0.0, max(view.end_s for view in views) / unit.seconds * 1.01 or 1.0)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(files("rudder.cli.show").joinpath("report.html").read_text())
    rows = list(_panels(views, x, unit))
    page = template.render(
        views=views, rows=rows, x=x, unit=unit, kinds=_KINDS, max_lines=_MAX_LINES,
        names=list(dict.fromkeys(chain.from_iterable(view.facts for view in views))),
        most_ranks=max((chart.lines for chart in rows[0]), key=len),
    )  # fmt: skip
    return Redaction().clean(page)


def write_report(runs: Sequence[StoredRun], out: Path) -> None:
    """Write the page, whole or not at all; raises OSError."""
    with replacing(out) as unfinished:
        unfinished.write_text(report_page(runs))


def _panels(views: Sequence[RunView], x: Axis, unit: TimeUnit) -> Iterator[list[Chart]]:
    """Charts of the same thing, one for each run, with the same axes."""
    yield _charts("Epoch", "seconds", [_epochs(view, unit) for view in views], x)
    for panel in _PANELS:
        lines = [_lines(view, panel.of, unit) for view in views]
        values = {value for line in chain(*lines) for value in line.ys if value is not None}
        if len(values) > 1 or (values and not panel.only_if_changed):
            yield _charts(panel.title, panel.what, lines, x, is_log=panel.is_log)
    parts = [_parts(view, unit) for view in views]
    yield _charts("Parts of a step", "milliseconds", parts, x, is_of_ranks=False)
    losses = [_epochs(view, unit, of="loss") for view in views]
    if any(value is not None for line in chain(*losses) for value in line.ys):
        yield _charts("Loss", "mean of an epoch", losses, x)


def _charts(
    title: str,
    what: str,
    lines: Sequence[tuple[Line, ...]],
    x: Axis,
    *,
    is_log: bool = False,
    is_of_ranks: bool = True,
) -> list[Chart]:
    y = Axis.of((value for line in chain(*lines) for value in line.ys), is_log=is_log)
    return [Chart(title, what, each, x, y, is_of_ranks) for each in lines]


def _lines(view: RunView, of: Callable[[Point], float | None], unit: TimeUnit) -> tuple[Line, ...]:
    return tuple(
        Line(
            f"rank {series.rank}",
            series.rank,
            [point.at_s / unit.seconds for point in series.points],
            [of(point) for point in series.points],
        )
        for series in view.series
    )


def _epochs(view: RunView, unit: TimeUnit, *, of: str = "seconds_total") -> tuple[Line, ...]:
    """Of more epochs than points, the slowest of each group."""
    size = max(len(series.epochs) for series in view.series) // 400 + 1 if view.series else 1
    lines = []
    for series in view.series:
        groups = [series.epochs[k : k + size] for k in range(0, len(series.epochs), size)]
        shown = [max(group, key=lambda end: end.metrics.seconds_total) for group in groups]
        xs = [end.at_s / unit.seconds for end in shown]
        ys = [getattr(end.metrics, of) for end in shown]
        lines.append(Line(f"rank {series.rank}", series.rank, xs, ys))
    return tuple(lines)


def _parts(view: RunView, unit: TimeUnit) -> tuple[Line, ...]:
    """Of the rank that waits longest."""
    waits = max(view.series, key=lambda each: sum(p.wait_ms for p in each.points), default=None)
    if waits is None:
        return ()
    xs = [point.at_s / unit.seconds for point in waits.points]
    return tuple(
        Line(
            f"{part.replace('_', ' ')}, rank {waits.rank}",
            number,
            xs,
            [point.ms(getattr(point.seconds, part)) for point in waits.points],
        )
        for number, part in enumerate(_PARTS)
    )


def _said(mark: Mark) -> str:
    """What happened, in a line."""
    if mark.episode is not None:
        line = episode_line(mark.episode)
        return line or f"{mark.episode.plan.reason}; {mark.kind}"
    assert mark.row is not None
    what = f"{mark.row.agent}: {mark.row.tool} {mark.row.outcome or ''}".strip()
    return f"{what}; {detail(mark.row)}"[:300]
