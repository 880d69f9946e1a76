"""One rank's file: each decision with everything that was known when it was made."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rudder.agents.guard import LIMITS, Guard
from rudder.agents.llm.exchange import Exchange
from rudder.agents.recall import EpisodeRecall
from rudder.agents.recording import fingerprint
from rudder.memory.journal import DecisionInputs, Journal, KeptInputs, Node, Recalled
from rudder.memory.records import Episode, Observation
from rudder.memory.run.run_reader import FOLDER, RunReader, run_files
from rudder.memory.run.slices import PrunedUses
from rudder.tools.estimate.history import History
from rudder.tools.estimate.whatif import WhatIf
from rudder.tools.limits import Limits
from rudder.tools.toolbox import Toolbox
from rudder.training.errors import ConfigError
from rudder.training.metrics import Window
from rudder.training.workload import OWN_POLICIES, Workload

RUNS = Path("runs")


@dataclass(frozen=True)
class WantedEpisodes:
    """A rank's file, and the ids of the episodes that are wanted of it; None: all."""

    path: Path
    names: frozenset[str] | None


def find(names: Sequence[str], *, run: Path | None, runs: Path = RUNS) -> list[WantedEpisodes]:
    """Where episodes are, in one run or in all of a folder; no names: all of them.

    names: ids, or beginnings of ids. Raises ConfigError where one is nowhere, DataError where a
    file cannot be read.
    """
    paths = [path for folder in _folders(run, runs) for path in run_files(folder)]
    if not names:
        return [WantedEpisodes(path, None) for path in paths]
    places = dict(_places(names, paths))
    lost = [name for name in names if name not in {name for name, _ in places}]
    if lost:
        raise ConfigError(
            f"no episode {', '.join(lost)} in {run or runs}",
            remedy="name the run with --run; `rudder audit list RUN` shows ids",
        )
    found = {path: frozenset(i for (_, at), i in places.items() if at == path) for path in paths}
    return [WantedEpisodes(path, ids) for path, ids in found.items() if ids]


def _folders(run: Path | None, runs: Path) -> list[Path]:
    if run is not None:
        return [run]
    return sorted(path.parent for path in runs.glob(f"*/{FOLDER}"))


def _places(names: Sequence[str], paths: Sequence[Path]) -> Iterator[tuple[tuple[str, Path], str]]:
    for path in paths:
        with RunReader(path) as reader:
            for name in names:
                episode = reader.episode(name)
                if episode is not None:
                    yield (name, path), episode.episode_id


_MEASURED = ("confirmed", "reverted")


@dataclass(frozen=True)
class NotReplayable:
    """A decision that cannot be made again, and what is missing."""

    episode: Episode
    reason: str


class Scene:
    """One decision to make again: everything that its agents may look at, as it was.

    version: of the Rudder that made it; exchanges: what a model had answered of which it made a
    plan.
    """

    def __init__(
        self,
        episode: Episode,
        *,
        kept: KeptInputs,
        session: _Session,
        recalled: list[Recalled],
        exchanges: tuple[Exchange, ...],
    ) -> None:
        inputs = kept.inputs
        self.episode, self.inputs, self.exchanges = episode, inputs, exchanges
        self.version = kept.version
        self.workload = session.workload
        self.last_round_step = session.last_round_step
        self.guard = Guard(state=inputs.guard)
        self._session = session
        session.past.answer = recalled
        self.episode_recall = session.episode_recall
        history = session.history
        limits = Limits.of(self.workload, memory_budget_bytes=inputs.budget_of(self.workload))
        whatif = WhatIf(history)
        whatif.learn(inputs.learned)
        self.toolbox = Toolbox(history, limits, whatif, self.episode_recall.last)
        self.toolbox.hot_rows = episode.observation.hot_rows

    def recall(self, observation: Observation) -> list[Recalled]:
        """The run's own episodes, and those recalled of earlier runs."""
        return self.episode_recall.recall(observation)

    def begin(self, node: Node) -> None:
        """Windows that came before a node began are known from now on."""
        self._session.advance(self.inputs.begin(node))


class RecordedRun:
    """All sessions of a rank's file."""

    def __init__(self, reader: RunReader) -> None:
        self._reader = reader
        self._inputs = reader.inputs()
        self._exchanges = _exchanges(reader)
        self._lost_windows = reader.lost_windows()

    def decisions(self, names: Collection[str] | None = None) -> Iterator[Scene | NotReplayable]:
        """In their order; names: ids of those wanted, None: all. A scene is valid until the next
        is asked for."""
        session: _Session | None = None
        for episode in sorted(self._reader.episodes(), key=self._session_of):
            kept = self._inputs.get(episode.episode_id)
            if kept is not None and (session is None or session.number != kept.session):
                session = self._open(kept)
            if names is None or episode.episode_id in names:
                yield self._scene(episode, kept, session)
            if session is not None and kept is not None and episode.plan.planner != LIMITS:
                session.follow(episode)

    def _session_of(self, episode: Episode) -> int:
        kept = self._inputs.get(episode.episode_id)
        return 0 if kept is None else kept.session

    def _open(self, kept: KeptInputs) -> _Session:
        windows = self._reader.windows_of_session(kept.first_window)
        workload = self._reader.workload_of_session(kept.session)
        pruned = self._reader.pruned_uses(kept.first_window)
        gaps = [row - kept.first_window for row in self._lost_windows if row >= kept.first_window]
        num_whole = min(gaps, default=len(windows))
        return _Session(kept.session, workload, windows[:num_whole], pruned)

    def _scene(
        self, episode: Episode, kept: KeptInputs | None, session: _Session | None
    ) -> Scene | NotReplayable:
        if kept is None or session is None:
            return NotReplayable(episode, "what it rested on was not kept")
        reason = OWN_POLICIES.problem(session.workload.policy) or session.catch_up(kept.inputs)
        recalled = self._reader.recalled(episode)
        reason = reason or session.missing_episode(episode, recalled)
        if reason is not None:
            return NotReplayable(episode, reason)
        return Scene(
            episode,
            kept=kept,
            session=session,
            recalled=recalled,
            exchanges=tuple(self._heard_at(episode)),
        )

    def _heard_at(self, episode: Episode) -> list[Exchange]:
        """What a model had answered of which the decision made a plan."""
        steps = [plan.asked_step for plan in episode.plans if plan.asked_step is not None]
        return self._exchanges.get(steps[0], []) if steps else []


def toolbox_of(reader: RunReader) -> Toolbox:
    """The tools of a rank as they answer after the last window of its file, for people.

    Limits, and what the estimator had learned, are those of the last decision. Raises DataError
    where no controller ever began.
    """
    kept = list(reader.inputs().values())
    found = reader.last_session()
    last = kept[-1].inputs if kept else None
    first_window = kept[-1].first_window if kept and kept[-1].session == found else 1
    windows = reader.windows_of_session(first_window)
    workload = reader.workload_of_session(found)
    session = _Session(found, workload, windows, reader.pruned_uses(first_window))
    session.advance(len(windows))
    for episode in reader.episodes(finished=True):
        session.follow(episode)
    limits = Limits.of(workload, memory_budget_bytes=last.budget_of(workload) if last else None)
    whatif = WhatIf(session.history)
    if last is not None:
        whatif.learn(last.learned)
    return Toolbox(session.history, limits, whatif, session.episode_recall.last)


@dataclass
class _Past(Journal):
    """Answers as the memory of earlier runs did."""

    answer: list[Recalled] = field(default_factory=list)

    def recall(self, observation: Observation, *, limit: int = 5) -> list[Recalled]:
        return self.answer


class _Session:
    """One controller's history and own episodes, which grow from decision to decision."""

    def __init__(
        self, number: int, workload: Workload, windows: list[Window], pruned: PrunedUses | None
    ) -> None:
        self.number, self.workload = number, workload
        self.history = History(workload)
        if pruned is not None:
            self.history.resume(rate=pruned.rate, past=pruned.uses)
        self.past = _Past()
        self.episode_recall = EpisodeRecall(self.past, workload=workload)
        self.last_round_step: int | None = None
        self._windows, self._num_windows = iter(windows), len(windows)
        self._learned: set[str] = set()

    def advance(self, version: int | None) -> None:
        """Take in windows until so many are known, as far as there are as many."""
        while version is not None and self.history.version < version:
            window = next(self._windows, None)
            if window is None:
                return
            self.history.add(window)

    def catch_up(self, inputs: DecisionInputs) -> str | None:
        """Advance to where a decision began; the reason where that is impossible, or None."""
        if max((each.begin for each in inputs.passages), default=0) > self._num_windows:
            return "windows that it rested on are missing"
        self.advance(inputs.begin("observe"))
        if fingerprint(self.history) != inputs.fingerprint:
            return "sampled accesses that it rested on were pruned"
        return None

    def missing_episode(self, episode: Episode, recalled: list[Recalled]) -> str | None:
        """The recalled episode that is not there any more, in words."""
        known = self._learned | {each.episode.episode_id for each in recalled}
        lost = next((each for each in episode.recalled if each not in known), None)
        return None if lost is None else f"the episode {lost}, which it recalled, is missing"

    def follow(self, episode: Episode) -> None:
        """A decision is over: what it taught later ones."""
        if episode.outcome is not None and episode.outcome.result in _MEASURED:
            self._learned.add(episode.episode_id)
        self.episode_recall.learn(episode)
        if episode.plan.planner == "periodic" and episode.plan.change.replace_now:
            self.last_round_step = episode.observation.step


def _exchanges(reader: RunReader) -> dict[int, list[Exchange]]:
    """Questions to models, by the step of the observation that they were asked about."""
    found: dict[int, list[Exchange]] = {}
    for call in reader.model_calls():
        try:
            exchange = Exchange.of_model_call(call)
        except ValueError:
            continue  # not stored by Rudder; a decision that needs it will come out different
        found.setdefault(exchange.step, []).append(exchange)
    return found
