"""Where else a run is written down: experiment trackers, told by a thread that nobody waits for.

A tracker is a `Sink`. `--track NAME` or `NAME:ARGUMENT` opens one: a name of `_BUILT_IN`, or of an
entry point of the group `rudder.sinks`, which is a function as `SinkFactory` describes.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Protocol

from rudder.cli.show.progress import say
from rudder.cli.show.steering_lines import SteeringWatch
from rudder.training.config import CONFIG_FILE, RunConfig
from rudder.training.errors import ConfigError
from rudder.training.events import EpochDone, Evaluated, Event, Progress
from rudder.training.metrics import EpochMetrics, Evaluation, RowCounts, Window
from rudder.training.plugins import Plugins

_BUILT_IN = ("mlflow", "tensorboard", "wandb")
"""Functions in sinks.py, each of the name of the library that it needs."""
_OWN = Plugins("rudder.sinks", field="track", ours=_BUILT_IN)
_MAX_WAITING = 10_000
"""Events for sinks that are slower than training; later ones are dropped, and counted."""
_GOODBYE_S = 30.0
"""How long the end of a run waits until sinks have taken what came."""

__all__ = ["Sink", "SinkFactory", "TrackedRun"]


@dataclass(frozen=True)
class TrackedRun:
    """The run that a sink is opened for.

    Attributes:
        name: Of its folder.
        folder: Where it writes; its files are there at the end.
        settings: The options of `rudder train`, as `config.toml` has them.
    """

    name: str
    folder: Path
    settings: Mapping[str, str | int | float | bool]


class Sink(Protocol):
    """Takes what a run measures; all methods are called from one thread, and may raise."""

    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        """Take values by name, such as `rank0/step_ms`, measured after so many steps."""

    def event(self, text: str, *, step: int) -> None:
        """Take what agents decided, in a line."""

    def close(self, files: Sequence[Path]) -> None:
        """End, with the files that the run leaves: summary, page, settings, model."""


SinkFactory = Callable[[str, TrackedRun], Sink]
"""Opens a sink; the text is what stands behind the colon of `--track NAME:ARGUMENT`, or ""."""


def check_trackers(names: Sequence[str]) -> None:
    """Raise ConfigError for a tracker that there is not, or whose library is not installed."""
    for name in names:
        _factory(name.partition(":")[0])


def _factory(name: str) -> SinkFactory:
    if _OWN.is_own(name):
        return _OWN.load(name)
    try:
        import_module(name)
    except ImportError as error:
        remedy = f"pip install 'rudder-gnn[{name}]', or leave out --track"
        raise ConfigError(f"--track {name} cannot be used: {error}", remedy=remedy) from None
    factory: SinkFactory = getattr(import_module("rudder.cli.sinks"), name)
    return factory


class Tracker:
    """One thread that tells sinks; a sink that fails is told of once, and left alone then."""

    def __init__(
        self, factories: Mapping[str, Callable[[], Sink]], *, watch: SteeringWatch | None
    ) -> None:
        """factories: of sinks, by the name that a person gave, called when the first event comes;
        watch: for what controllers decide."""
        self.num_dropped = 0
        self._factories, self._watch = factories, watch
        self._sinks: dict[str, Sink] = {}
        self._waiting: queue.Queue[Event | None] = queue.Queue(_MAX_WAITING)
        self._files: Sequence[Path] = ()
        self._step = 0
        self._thread = threading.Thread(target=self._work, name="trackers", daemon=True)
        self._thread.start()

    def note(self, event: Event) -> None:
        """Take in an event; returns at once."""
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            self.num_dropped += 1

    def close(self, files: Sequence[Path]) -> None:
        """Wait a while for what is under way, and end the sinks."""
        self._files = files
        self._waiting.put(None)
        self._thread.join(_GOODBYE_S)
        if self._thread.is_alive():
            say(f"trackers have not ended within {_GOODBYE_S:g} s; what they lack is lost")
        if self.num_dropped:
            say(f"trackers were too slow for {self.num_dropped:,} measurements, which they lack")

    def _work(self) -> None:
        is_first = True
        while (event := self._waiting.get()) is not None:
            if is_first:
                self._open()
            is_first = False
            for step, values in _scalars(event):
                self._step = max(self._step, step)
                self._each(partial(_give_scalars, values, step))
            if isinstance(event, Progress) and self._watch is not None:
                self._tell(self._watch.news(event.rank))
        self._each(lambda sink: sink.close(self._files))

    def _open(self) -> None:
        for name, make in self._factories.items():
            try:
                self._sinks[name] = make()
            except Exception as error:  # as below
                say(f"--track {name} cannot be opened: {type(error).__name__}: {error}")

    def _tell(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._each(partial(_give_event, line, self._step))

    def _each(self, action: Callable[[Sink], None]) -> None:
        for name, sink in list(self._sinks.items()):
            try:
                action(sink)
            except Exception as error:  # a library of others, on whose account no run ends
                del self._sinks[name]
                say(f"--track {name} goes on no more: {type(error).__name__}: {error}")


def _give_scalars(values: Mapping[str, float], step: int, sink: Sink) -> None:
    sink.scalars(values, step=step)


def _give_event(text: str, step: int, sink: Sink) -> None:
    sink.event(text, step=step)


@contextmanager
def tracking(config: RunConfig, run_dir: Path) -> Iterator[Callable[[Event], None]]:
    """What to tell of each event; sinks are ended behind it, however the run ends."""
    if not config.track:
        yield lambda event: None
        return
    from rudder.cli.show.report import FILE_NAME
    from rudder.memory.run.run_folder import SUMMARY_FILE

    factories = {name: partial(_open, name, config, run_dir) for name in config.track}
    watch = None if config.steering is None else SteeringWatch(run_dir)
    tracker = Tracker(factories, watch=watch)
    try:
        yield tracker.note
    finally:
        found = [run_dir / name for name in (SUMMARY_FILE, FILE_NAME, CONFIG_FILE)]
        models = sorted((run_dir / "model").glob("best.*"))
        tracker.close([path for path in (*found, *models) if path.is_file()])


def _open(name: str, config: RunConfig, run_dir: Path) -> Sink:
    kind, _, argument = name.partition(":")
    given = config.model_dump(mode="json", exclude_none=True)
    plain = {key: v if isinstance(v, str | int | float) else str(v) for key, v in given.items()}
    return _factory(kind)(argument, TrackedRun(run_dir.absolute().name, run_dir, plain))


def _scalars(event: Event) -> Iterator[tuple[int, dict[str, float]]]:
    """Values by name, and the steps after which they were measured; None is left out."""
    if isinstance(event, Progress):
        if (window := event.window) is not None:
            yield window.first_step + window.num_steps, _known(_of_window(window))
    elif isinstance(event, EpochDone):
        metrics = event.metrics
        step = (metrics.epoch + 1) * metrics.num_steps
        yield step, _known(_of_epoch(event.rank, metrics))
    elif isinstance(event, Evaluated):
        yield event.evaluation.epoch + 1, _known(_of_evaluation(event.evaluation))


def _of_window(window: Window) -> dict[str, float | None]:
    steps, at = window.num_steps, f"rank{window.rank}"
    return {
        f"{at}/step_ms": 1000 * window.trained_seconds / steps,
        f"{at}/wait_ms": 1000 * window.seconds.exposed_wait / steps,
        **_of_rows(window.rows, at=at, steps=steps),
        f"{at}/capacity_rows": window.settings.capacity_rows,
        f"{at}/lookahead_batches": window.settings.lookahead_batches,
        f"{at}/eviction_threshold": window.settings.eviction_threshold,
    }


def _of_rows(rows: RowCounts, *, at: str, steps: int) -> dict[str, float | None]:
    return {
        f"{at}/hit_fraction": rows.hit_fraction,
        f"{at}/rows_fetched_a_step": rows.rows_fetched.total / steps,
        f"{at}/bytes_fetched_a_step": rows.bytes_fetched / steps,
    }


def _of_epoch(rank: int, metrics: EpochMetrics) -> dict[str, float | None]:
    return {
        f"rank{rank}/epoch_seconds": metrics.seconds_total,
        f"rank{rank}/loss": metrics.loss,
    }


def _of_evaluation(evaluation: Evaluation) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for score in evaluation.scores:
        found |= {f"test/{score.name}": score.test, f"validation/{score.name}": score.val}
    return found


def _known(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if value is not None}
