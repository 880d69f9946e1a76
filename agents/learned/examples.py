"""From past episodes to labelled examples: what a classifier sees and learns, and the split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from rudder.memory.past.circumstances import NAMES, UNIT, circumstances
from rudder.memory.past.experience import Catalog
from rudder.memory.records import Episode, Observation
from rudder.training.errors import DataError
from rudder.training.settings import Change
from rudder.training.workload import PolicyName, Workload

Features = NDArray[np.float32]

_POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
FEATURES = (
    *NAMES, "drift", "spare share", "capacity share",
    "capacity change", "new capacity over working set", "lookahead change", "threshold change",
    "interval set", "round now", "rows targeted", *(f"policy {name}" for name in _POLICIES),
)  # fmt: skip
"""Names in order, kept in a model file: a model is used only with the features it was fitted to."""
_MAX_DOUBLINGS = 8.0
_MAX_SHARE = 4.0

NOISES = 2.0
"""Standard deviations between windows that a difference must exceed."""
MIN_ROWS_FRACTION = 0.02
MIN_WAIT_FRACTION = 0.01

MIN_RUNS = 4
MIN_OF_EACH = 8
"""Examples of changes that helped, and of those that did not."""
_PARTS = 4


class Label(Enum):
    """What an episode teaches; the last two teach nothing."""

    HELPED = "helped"
    DID_NOT_HELP = "did not help"
    NOT_MEASURED = "not measured"
    MOVING = "moving by itself"


Counts = Counter[Label]


@dataclass(frozen=True)
class Examples:
    """x: float32[n, features]; y: bool[n], whether the change helped; run_keys: of each row."""

    x: Features
    y: NDArray[np.bool_]
    run_keys: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.y)

    @property
    def num_runs(self) -> int:
        """Runs that the rows are from."""
        return len(set(self.run_keys))

    @property
    def has_both(self) -> bool:
        """Whether there are changes that helped and changes that did not."""
        return bool(self.y.any()) and not bool(self.y.all())

    def __add__(self, other: Examples) -> Examples:
        x, y = np.concatenate([self.x, other.x]), np.concatenate([self.y, other.y])
        return Examples(x, y, self.run_keys + other.run_keys)


def features_of(observation: Observation, *, change: Change, workload: Workload) -> Features:
    """float32[len(FEATURES)]; what is not known is 0, or half way where `circumstances` says so.

    No feature is an estimate: a classifier learns from measurements alone.
    """
    old, new = observation.settings, change.over(observation.settings)
    working_set = observation.working_set_rows or workload.num_halo or 1
    spare_ms, step_ms, targets = observation.spare_ms, observation.step_ms, change.fetch_targets
    return np.array(
        [
            *(circumstances(observation, workload) / UNIT),
            observation.drift or 0.0,
            _share(spare_ms, step_ms) if spare_ms is not None and step_ms > 0 else 0.0,
            _share(old.capacity_rows, max(workload.num_remote, 1)),
            _doublings(old.capacity_rows, new.capacity_rows),
            _share(new.capacity_rows, working_set),
            _doublings(old.lookahead_batches, new.lookahead_batches),
            new.eviction_threshold - old.eviction_threshold,
            change.replacement_interval is not None,
            change.replace_now,
            0.0 if targets is None else _share(targets.row_budget, working_set),
            *(workload.policy == name for name in _POLICIES),
        ],
        dtype=np.float32,
    )


def label_of(episode: Episode) -> Label:
    """HELPED: the trainer waits less by more than noise, or fetches fewer rows and waits no longer.

    Noise: two standard deviations between windows, at least 1 % of the step and 2 % of the rows.
    Only changes whose trial ended were measured. Where the wait was already moving before the
    change, what followed is not attributed to the change.
    """
    outcome, seen = episode.outcome, episode.observation
    if outcome is None or outcome.result not in ("confirmed", "reverted") or not episode.applied:
        return Label.NOT_MEASURED
    rows_gain = _difference(outcome.rows_before, outcome.rows_after)
    wait_gain = _difference(outcome.wait_ms_before, outcome.wait_ms_after)
    if rows_gain is None or wait_gain is None:
        return Label.NOT_MEASURED
    if seen.trend in ("better", "worse"):
        return Label.MOVING
    rows_noise = max(NOISES * (outcome.noise_rows or 0.0), MIN_ROWS_FRACTION * seen.rows_fetched)
    wait_noise = max(NOISES * (outcome.noise_wait_ms or 0.0), MIN_WAIT_FRACTION * seen.step_ms)
    helped = wait_gain > wait_noise or (rows_gain > rows_noise and wait_gain >= -wait_noise)
    return Label.HELPED if helped else Label.DID_NOT_HELP


def examples_of(episodes: Iterable[tuple[Episode, Workload]]) -> tuple[Examples, Counts]:
    """An example of each change that was measured, and the number of episodes by label."""
    x, y, keys, counts = [], [], [], Counts()
    for episode, workload in episodes:
        label = label_of(episode)
        counts[label] += 1
        if label not in (Label.HELPED, Label.DID_NOT_HELP) or episode.verdict is None:
            continue
        change = episode.verdict.change
        x.append(features_of(episode.observation, change=change, workload=workload))
        y.append(label is Label.HELPED)
        keys.append(episode.run_key)
    rows = np.array(x, dtype=np.float32).reshape(len(y), len(FEATURES))
    return Examples(rows, np.array(y, dtype=np.bool_), tuple(keys)), counts


def read_examples(memory: Path) -> tuple[Examples, Counts]:
    """All that a memory teaches; imported episodes only if they are trusted.

    Raises DataError if the memory cannot be read or holds too little to learn from.
    """
    if not memory.is_file():
        raise DataError(
            f"there is no memory {memory}",
            remedy="steer or collect some runs first: rudder train --collect --memory FILE",
        )
    with Catalog(memory) as catalog:
        trusted = catalog.episodes(only_trusted=True)
        examples, counts = examples_of((past.episode, past.workload) for past in trusted)
    helped = int(examples.y.sum())
    if examples.num_runs < MIN_RUNS or min(helped, len(examples) - helped) < MIN_OF_EACH:
        raise DataError(
            f"{memory} holds measured changes of {examples.num_runs} runs ({in_words(counts)});"
            f" needed: {MIN_RUNS} runs, and {MIN_OF_EACH} changes that helped and as many that did"
            " not",
            remedy="collect more runs, from good and from bad settings: rudder train --collect",
        )
    return examples, counts


def in_words(counts: Counts) -> str:
    """How many episodes there are of each label."""
    return ", ".join(f"{counts[each]:,} {each.value}" for each in Label if counts[each]) or "none"


def split(examples: Examples, *, seed: int) -> tuple[Examples, Examples]:
    """Train and test set: a quarter of the runs is for testing, and no run is in both sets.

    Both sets have about the same share of changes that helped. Raises DataError if a set would
    have changes of one class only.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(n_splits=_PARTS, shuffle=True, random_state=seed)
    x, y, keys = examples.x, examples.y, np.array(examples.run_keys)
    train, test = (
        Examples(x[rows], y[rows], tuple(keys[rows])) for rows in next(folds.split(x, y, keys))
    )
    if not (train.has_both and test.has_both):
        raise DataError(
            "the runs cannot be split so that both sets have changes that helped and changes that"
            " did not",
            remedy="collect more runs: rudder train --collect",
        )
    return train, test


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else before - after


def _share(part: float, whole: float) -> float:
    return float(np.clip(part / whole, -_MAX_SHARE, _MAX_SHARE))


def _doublings(old: float, new: float) -> float:
    return float(np.clip(np.log2((new + 1) / (old + 1)), -_MAX_DOUBLINGS, _MAX_DOUBLINGS))
