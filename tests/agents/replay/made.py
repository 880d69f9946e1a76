"""Runs with decisions of all kinds, by simulation; and the small one that is kept as test data.

    python -m tests.agents.replay.made

writes data/embedded.db and data/llm.db beside this file. They are made anew where a decision is
meant to come out otherwise than before; that is a change to be explained where it is committed.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rudder.agents.llm.messages import Chat
from rudder.agents.observer import EmbeddedObserver
from rudder.agents.team import Team, asker_of, critic_of, planner_of, with_llm
from rudder.bench.model_server.random_model import RandomChat
from rudder.bench.simulated.access_traces import ZipfStream
from rudder.bench.simulated.clock import run_simulated
from rudder.bench.simulated.run import simulate
from rudder.bench.simulated.trainer import Costs, SimulatedTrainer
from rudder.memory.past.transfer import fill
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.training.settings import BufferSettings
from rudder.training.steering_options import Objective, PlannerName, SteeringOptions
from rudder.training.workload import PolicyName

FOLDER = Path(__file__).parent / "data"
PLANNERS: tuple[PlannerName, ...] = ("embedded", "heuristic", "periodic", "collect", "llm")
"""By turns."""
_PULL_MS = 45.0
"""Of a step's draws, were all of them fetched over a network of its own."""
_BUDGETS = (None, 2**20, 400_000)
_OBJECTIVES: tuple[Objective, ...] = ("memory", "traffic", "time")
"""Where memory is to be saved, most is changed."""


@dataclass(frozen=True)
class Make:
    """One run: who plans, how long, and how much of the network there is; delay_s: how long a model
    thinks."""

    planner: PlannerName = "embedded"
    seed: int = 0
    windows: int = 40
    num_remote: int = 3000
    draws: int = 300
    delay_s: float = 1.0

    @property
    def policy(self) -> PolicyName:
        """Rounds need a policy that has some."""
        return "score" if self.planner == "periodic" else "lookahead"

    @property
    def options(self) -> SteeringOptions:
        """What the run is steered by."""
        return SteeringOptions(
            planner=self.planner,
            llm_roles=("observer", "planner", "critic"),
            objective=_OBJECTIVES[self.seed % 3],
            tolerance=0.02 if self.seed % 3 == 0 else 0.01,
            memory_budget_bytes=_BUDGETS[self.seed % len(_BUDGETS)],
        )

    def costs(self, window: int) -> Costs:
        """Somebody else uses the network for a while, now and then."""
        share = 0.5 if window % 24 >= 16 or self.planner == "llm" else 1.0
        return Costs(row_ms=_PULL_MS / self.draws / share)

    def trainer(self) -> SimulatedTrainer:
        """A trainer whose popular nodes change now and then."""
        return SimulatedTrainer(
            ZipfStream(self.num_remote, self.draws, phase_batches=320, seed=self.seed),
            settings=BufferSettings(
                capacity_rows=self.num_remote * 3 // (5 + self.seed % 5), lookahead_batches=12
            ),
            costs=self.costs(0),
            policy=self.policy,
            steps=4 * 16 * self.windows,
            seed=self.seed,
        )


def make_run(path: Path, make: Make, *, memory: Path | None = None) -> int:
    """Steer a simulated trainer into the file `path`; returns the number of decisions.

    memory: what earlier runs left; this one is added to it.
    """
    journal, trainer, team = SqliteJournal.open(path, memory=memory), make.trainer(), None
    with contextlib.closing(journal):
        if make.planner == "llm":
            chat = RandomChat(make.seed, wildness=0.05, delay_s=make.delay_s)
            team = asking(chat, options=make.options, journal=journal)
        run = run_simulated(
            simulate(
                trainer,
                team=team,
                windows=make.windows,
                journal=journal,
                options=make.options,
                disturbance=lambda number, trainer: setattr(trainer, "costs", make.costs(number)),
            )
        )
    if memory is not None:
        fill(memory, path)
    return len(run.episodes)


def make_runs(folder: Path, *, decisions: int, size: int = 3000) -> Iterator[Path]:
    """Runs of all planners by turns, each remembering those before, until there are as many
    decisions; size: remote nodes."""
    made = seed = 0
    while made < decisions:
        path = folder / f"run{seed}" / "steering" / "rank0.db"
        make = Make(PLANNERS[seed % len(PLANNERS)], seed=seed, num_remote=size, draws=size // 10)
        made += make_run(path, make, memory=folder / "memory.db")
        seed += 1
        yield path


def asking(chat: Chat, *, options: SteeringOptions, journal: SqliteJournal) -> Team:
    """A team that asks `chat`, with every question in the journal."""
    asker = asker_of(
        chat,
        options=options,
        on_exchange=lambda each: journal.add_model_call(each.to_model_call(uuid.uuid4().hex)),
    )
    team = Team(EmbeddedObserver(), planner_of(options), critic_of(options))
    return with_llm(team, asker, options=options)


def make_data() -> None:
    """Write the runs that are kept."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        names: tuple[PlannerName, ...] = ("embedded", "llm")
        for name in names:
            path = Path(folder) / f"{name}.db"
            seed = 9 if name == "llm" else 0
            make_run(path, Make(name, seed=seed, windows=32, num_remote=1000, draws=120))
            connection = sqlite3.connect(path)
            connection.execute("PRAGMA page_size = 1024")
            connection.execute("VACUUM")
            connection.close()
            (FOLDER / path.name).write_bytes(path.read_bytes())


if __name__ == "__main__":
    make_data()
