"""What a decision costs a controller, and a window on which nothing is decided, part by part.

    python -m benchmarks.decision_cost runs/steered --decisions 100
    python -m benchmarks.decision_cost

The windows of a steered run (its folder, or a rankN.db) pass through all that a controller does
with them, and on each a decision is made, as soon as the estimator can say anything; the trainer
refuses every change, for its windows are told already. Without a run: those of a simulated trainer
with as many sampled accesses as community-200k has. Milliseconds of processor time, all threads.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.shared import parser_of, spread
from rudder.agents.steering import Steering
from rudder.bench.simulated.access_traces import ZipfStream
from rudder.bench.simulated.trainer import Costs, SimulatedTrainer
from rudder.memory.run.run_reader import RunReader, run_files
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.tools.estimate.history import History
from rudder.training.control.messages import read_message, to_line
from rudder.training.errors import RudderError
from rudder.training.metrics import Window
from rudder.training.settings import Applied, BufferSettings, Change
from rudder.training.steering_options import SteeringOptions
from rudder.training.workload import Workload

_WINDOWS = 30
_STREAM = ZipfStream(num_remote=100_000, draws=10_000)
WINDOW = ("message", "history", "window row")


class Meter:
    """Processor time by part; a part within another does not count as that."""

    def __init__(self) -> None:
        self.ms: defaultdict[str, float] = defaultdict(float)
        self._parts = ["graph"]
        self._since = time.process_time()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What is done within is this part's."""
        self._charge()
        self._parts.append(name)
        try:
            yield
        finally:
            self._charge()
            self._parts.pop()

    def taken(self) -> dict[str, float]:
        """All since the last time, by part."""
        self._charge()
        found, self.ms = dict(self.ms), defaultdict(float)
        return found

    def watch(self, target: object, **parts: str) -> None:
        """Have methods of an object counted as parts."""
        for method, part in parts.items():
            setattr(target, method, self._watched(getattr(target, method), part))

    def _watched(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def plain(*arguments: Any, **named: Any) -> Any:
            with self.part(part):
                return function(*arguments, **named)

        @functools.wraps(function)
        async def waited(*arguments: Any, **named: Any) -> Any:
            with self.part(part):
                return await function(*arguments, **named)

        return waited if asyncio.iscoroutinefunction(function) else plain

    def _charge(self) -> None:
        now = time.process_time()
        self.ms[self._parts[-1]] += 1000 * (now - self._since)
        self._since = now


@dataclass
class RefusingTrainer:
    """Its settings are those of the windows, whatever it is sent."""

    history: History | None = None

    async def send(self, change: Change, *, issued_at_step: int | None) -> Applied:
        """Refuse."""
        assert self.history is not None
        return Applied(
            command_id="refused",
            outcome="refused",
            rank=self.history.workload.rank,
            step=self.history.next_step,
            settings=self.history.settings,
            reason="the windows are told already",
        )


def steering_of(workload: Workload, journal: SqliteJournal, meter: Meter) -> Steering:
    """As a controller makes it, with every part watched."""
    trainer = RefusingTrainer()
    steering = Steering(workload, sender=trainer, journal=journal, options=SteeringOptions())
    team, toolbox = steering.team, steering.toolbox
    trainer.history = toolbox.history
    meter.watch(journal, add_window="window row", save="rows", log="rows", add_inputs="rows")
    meter.watch(journal, recall="recall")
    meter.watch(toolbox.history, add="history")
    meter.watch(toolbox.whatif, effect="what-if", opt="what-if")
    meter.watch(steering.recorder, begin="trace")
    meter.watch(team.observer, observe="observer")
    meter.watch(team.planner, plan="planner")
    meter.watch(team.critic, review="critic")
    return steering


async def decided(workload: Workload, lines: Iterable[bytes]) -> list[dict[str, float]]:
    """Milliseconds by part of each window on which a decision was made."""
    meter, found = Meter(), []
    with tempfile.TemporaryDirectory() as folder:
        journal = SqliteJournal.open(Path(folder) / "rank0.db", memory=None)
        journal.begin(workload)
        steering = steering_of(workload, journal, meter)
        for line in lines:
            steering.wake()
            meter.taken()
            with meter.part("message"):
                window = read_message(line)
            assert isinstance(window, Window)
            await steering.take(window)
            taken = meter.taken()
            if steering.toolbox.whatif.is_ready:
                found.append(taken)
        journal.close()
    return found


def measure(workload: Workload, windows: list[Window], *, decisions: int) -> dict[str, Any]:
    """Spreads by part, over at least so many decisions; the first pass warms up."""
    lines = [to_line(window) for window in windows]
    asyncio.run(decided(workload, lines))
    found: list[dict[str, float]] = []
    while len(found) < decisions:
        found += (more := asyncio.run(decided(workload, lines)))
        if not more:
            sys.exit("error: the run is too short for any estimate; give a longer one")
    window = [sum(each.get(part, 0.0) for part in WINDOW) for each in found]
    parts = {name: None for each in found for name in each}
    return {
        "decisions": len(found),
        "decision_ms": spread(
            [sum(each.values()) - of_window for each, of_window in zip(found, window, strict=True)]
        ),
        "window_ms": spread(window),
        "parts_ms": {name: spread([each.get(name, 0.0) for each in found]) for name in parts},
    }


def simulated() -> tuple[Workload, list[Window]]:
    """A trainer that a quarter of the nodes in the buffer would serve well."""
    settings = BufferSettings(capacity_rows=18_000, lookahead_batches=40)
    trainer = SimulatedTrainer(_STREAM, settings=settings, costs=Costs(row_ms=0.004))
    return trainer.workload, [trainer.window() for _ in range(_WINDOWS)]


def recorded(where: Path) -> tuple[Workload, list[Window]]:
    """Of a run's first rank; raises RudderError."""
    with RunReader(run_files(where)[0]) as reader:
        return next(iter(reader.workloads().values())), reader.windows(with_slices=True)


def main() -> None:
    """Parse, measure, print."""
    parser = parser_of(__doc__, decisions=100)
    parser.add_argument("run", type=Path, nargs="?", help="a steered run's folder, or a rankN.db")
    arguments = parser.parse_args()
    try:
        workload, windows = recorded(arguments.run) if arguments.run else simulated()
    except RudderError as error:
        sys.exit(f"error: {error}")
    found = measure(workload, windows, decisions=arguments.decisions)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
