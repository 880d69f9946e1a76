"""Labelled examples from past episodes, and their split into runs to learn from and to test on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from rudder.memory.past.catalog import Catalog
from rudder.memory.past.circumstances import NAMES, UNIT, circumstances
from rudder.memory.past.past_episode import PastEpisode
from rudder.memory.records import Episode, Observation, Outcome
from rudder.training.errors import DataError
from rudder.training.settings import Change
from rudder.training.workload import PolicyName, Workload

Features = NDArray[np.float32]

_POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
_OF_OBSERVATION = (*NAMES, "drift", "spare share", "capacity share")
_OF_CHANGE = (
    "capacity change",
    "new capacity over working set",
    "lookahead change",
    "threshold change",
    "interval set",
    "round now",
    "rows targeted",
)
FEATURES = (*_OF_OBSERVATION, *_OF_CHANGE, *(f"policy {name}" for name in _POLICIES))
"""Names, in order; a model file holds them, and serves only where they are the same."""
_MAX_DOUBLINGS = 8.0
_MAX_SHARE = 4.0


def features_of(observation: Observation, *, change: Change, workload: Workload) -> Features:
    """float32[len(FEATURES)]; what is not known is 0, or half way where circumstances says so.

    Nothing that an estimator predicts is among them: a classifier learns from measurements alone.
    """
    return np.array(
        [
            *(circumstances(observation, workload) / UNIT),
            observation.drift or 0.0,
            _spare_share(observation),
            _clipped(observation.settings.capacity_rows / max(workload.num_remote, 1), _MAX_SHARE),
            *_of_change(observation, change, workload),
            *(float(workload.policy == name) for name in _POLICIES),
        ],
        dtype=np.float32,
    )


def _spare_share(observation: Observation) -> float:
    if observation.spare_ms is None or observation.step_ms <= 0:
        return 0.0
    return _clipped(observation.spare_ms / observation.step_ms, _MAX_SHARE)


def _of_change(observation: Observation, change: Change, workload: Workload) -> list[float]:
    old, new = observation.settings, change.over(observation.settings)
    working_set = observation.working_set_rows or workload.num_halo or 1
    targets = change.fetch_targets
    return [
        _doublings(old.capacity_rows, new.capacity_rows),
        _clipped(new.capacity_rows / working_set, _MAX_SHARE),
        _doublings(old.lookahead_batches, new.lookahead_batches),
        new.eviction_threshold - old.eviction_threshold,
        float(change.replacement_interval is not None),
        float(change.replace_now),
        0.0 if targets is None else _clipped(targets.row_budget / working_set, _MAX_SHARE),
    ]


def _doublings(old: float, new: float) -> float:
    """How many times as much, as a power of two."""
    return _clipped(math.log2((new + 1) / (old + 1)), _MAX_DOUBLINGS)


def _clipped(value: float, most: float) -> float:
    return min(max(value, -most), most)


NOISES = 2.0
"""Spreads between windows that a difference must exceed."""
MIN_ROWS_FRACTION = 0.02
MIN_WAIT_FRACTION = 0.01
_JUDGED = ("confirmed", "reverted")


class Label(Enum):
    """What an episode teaches; the last two teach nothing."""

    HELPED = "helped"
    DID_NOT_HELP = "did not help"
    NOT_MEASURED = "not measured"
    MOVING = "moving by itself"


def label_of(episode: Episode) -> Label:
    """HELPED: the trainer waits less by more than noise, or no longer and fetches fewer rows.

    Noise: two spreads between windows, at least 1 % of the step and 2 % of the rows. Kept, refused
    and abandoned episodes were not measured; where the wait was moving before anything was
    changed, what came after is not the change's doing.
    """
    outcome = episode.outcome
    if outcome is None or outcome.result not in _JUDGED or episode.applied is None:
        return Label.NOT_MEASURED
    gains = _gains(outcome)
    if gains is None:
        return Label.NOT_MEASURED
    if episode.observation.trend in ("better", "worse"):
        return Label.MOVING
    rows_gain, wait_gain = gains
    rows_noise, wait_noise = _noise(episode, outcome)
    waits_less, waits_longer = wait_gain > wait_noise, wait_gain < -wait_noise
    helped = waits_less or (rows_gain > rows_noise and not waits_longer)
    return Label.HELPED if helped else Label.DID_NOT_HELP


def _gains(outcome: Outcome) -> tuple[float, float] | None:
    """Fewer rows per step, and milliseconds of wait per step; None where not all was measured."""
    rows, wait_ms = outcome.rows_before, outcome.wait_ms_before
    rows_after, wait_ms_after = outcome.rows_after, outcome.wait_ms_after
    if rows is None or wait_ms is None or rows_after is None or wait_ms_after is None:
        return None
    return rows - rows_after, wait_ms - wait_ms_after


def _noise(episode: Episode, outcome: Outcome) -> tuple[float, float]:
    seen = episode.observation
    rows = max(NOISES * (outcome.noise_rows or 0.0), MIN_ROWS_FRACTION * seen.rows_fetched)
    wait_ms = max(NOISES * (outcome.noise_wait_ms or 0.0), MIN_WAIT_FRACTION * seen.step_ms)
    return rows, wait_ms


MIN_RUNS = 4
MIN_OF_EACH = 8
"""Examples of changes that helped, and of those that did not."""
_PARTS = 4
_LIMIT = 10_000_000


@dataclass(frozen=True)
class Examples:
    """x: float32[n, features]; y: bool[n], whether the change helped; run_keys: of each row."""

    x: NDArray[np.float32]
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

    def rows(self, chosen: NDArray[np.int64]) -> Examples:
        """Some rows; chosen: int64[m]."""
        keys = tuple(self.run_keys[row] for row in chosen)
        return Examples(self.x[chosen], self.y[chosen], keys)

    def __add__(self, other: Examples) -> Examples:
        return Examples(
            np.concatenate([self.x, other.x]),
            np.concatenate([self.y, other.y]),
            self.run_keys + other.run_keys,
        )


def examples_of(episodes: Iterable[tuple[Episode, Workload]]) -> tuple[Examples, Counter[Label]]:
    """The episodes that have something to teach, and how many there were of each label."""
    x, y, keys, counts = [], [], [], Counter[Label]()
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


def read_examples(memory: Path) -> tuple[Examples, Counter[Label]]:
    """All that a memory teaches; imported episodes only once they are trusted.

    Raises DataError where the memory cannot be read, or holds too little to learn from.
    """
    if not memory.is_file():
        raise DataError(
            f"there is no memory {memory}",
            remedy="steer or collect some runs first: rudder train --collect --memory FILE",
        )
    with Catalog(memory) as catalog:
        examples, counts = examples_of(_trusted(catalog))
    _check_enough(examples, memory, counts)
    return examples, counts


def split(examples: Examples, *, seed: int) -> tuple[Examples, Examples]:
    """Train and test, a quarter of the runs to test on; no run is on both sides.

    Runs are dealt so that both sides have about the same share of changes that helped.
    Raises DataError where one side would have changes of one kind only.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    dealer = StratifiedGroupKFold(n_splits=_PARTS, shuffle=True, random_state=seed)
    train, test = next(dealer.split(examples.x, examples.y, groups=examples.run_keys))
    sides = examples.rows(train), examples.rows(test)
    if not all(side.has_both for side in sides):
        raise DataError(
            "the runs cannot be split so that both halves have changes that helped and changes"
            " that did not",
            remedy="collect more runs: rudder train --collect",
        )
    return sides


def _trusted(catalog: Catalog) -> Iterable[tuple[Episode, Workload]]:
    known = {(line.origin, line.episode_id) for line in catalog.lines(limit=_LIMIT) if line.trusted}
    return ((each.episode, each.workload) for each in catalog.episodes() if _key(each) in known)


def _key(past: PastEpisode) -> tuple[str, str]:
    return past.origin, past.episode.episode_id


def _check_enough(examples: Examples, memory: Path, counts: Counter[Label]) -> None:
    helped = int(examples.y.sum())
    is_enough = min(helped, len(examples) - helped) >= MIN_OF_EACH
    if examples.num_runs >= MIN_RUNS and is_enough:
        return
    told = ", ".join(f"{count} {label.value}" for label, count in sorted_counts(counts)) or "none"
    raise DataError(
        f"{memory} holds measured changes of {examples.num_runs} runs ({told}); needed: {MIN_RUNS}"
        f" runs, and {MIN_OF_EACH} changes that helped and as many that did not",
        remedy="collect more runs, from good and from bad settings: rudder train --collect",
    )


def sorted_counts(counts: Counter[Label]) -> list[tuple[Label, int]]:
    """In the order of the labels."""
    return [(label, counts[label]) for label in Label if counts[label]]
