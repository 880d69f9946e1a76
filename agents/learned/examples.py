"""Labelled examples from past episodes, and their split into runs to learn from and to test on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rudder.agents.learned.features import FEATURES, features_of
from rudder.agents.learned.labels import Label, label_of
from rudder.memory.catalog import Catalog
from rudder.memory.past_episode import PastEpisode
from rudder.memory.records import Episode
from rudder.training.errors import DataError
from rudder.training.workload import Workload

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
