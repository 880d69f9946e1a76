"""Learned planners: what past episodes teach, the model file, and a planner that asks it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeGuard, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from rudder.agents.planners.exploring import candidates
from rudder.agents.planners.proposals import keep, propose
from rudder.memory.journal import Recalled
from rudder.memory.past.circumstances import NAMES, UNIT, circumstances
from rudder.memory.past.experience import Catalog
from rudder.memory.records import Episode, Observation, Plan
from rudder.tools.constants import HIDDEN_SHARE, SAME_ROWS_SHARE, SIGMAS_95
from rudder.tools.toolbox import Toolbox
from rudder.training.errors import ARCHIVE_ERRORS, ConfigError, DataError, MachineError
from rudder.training.local_disk import replacing
from rudder.training.settings import Change, FrozenExact
from rudder.training.steering_options import ClassifierName, SteeringOptions
from rudder.training.workload import PolicyName, Workload

if TYPE_CHECKING:
    from rudder.agents.learned.classifier import Classifier

Features = NDArray[np.float32]

_POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
FEATURES = (
    *NAMES, "drift", "spare share", "capacity share",
    "capacity change", "new capacity over working set", "lookahead change", "threshold change",
    "interval set", "round now", "rows targeted", *(f"policy {name}" for name in _POLICIES),
)  # fmt: skip
"""Names in order, kept in a model file: a model is used only with the features it was fitted to."""
_MAX_DOUBLINGS, _MAX_SHARE = 8.0, 4.0
"""Of features: what is larger tells nothing more."""
_MIN_RUNS, _MIN_OF_EACH, _FOLDS = 4, 8, 4
"""Runs to learn from; changes that helped, and as many that did not; one fold of runs tests."""


@dataclass(frozen=True)
class Examples:
    """x: float32[n, features]; y: bool[n], whether the change helped; run_keys: str[n].

    num_unmeasured: episodes that teach nothing.
    """

    x: Features
    y: NDArray[np.bool_]
    run_keys: NDArray[np.str_]
    num_unmeasured: int = 0

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: NDArray[np.int64]) -> Examples:
        return Examples(self.x[rows], self.y[rows], self.run_keys[rows])

    def __add__(self, other: Examples) -> Examples:
        keys = np.concatenate([self.run_keys, other.run_keys])
        x, y = np.concatenate([self.x, other.x]), np.concatenate([self.y, other.y])
        return Examples(x, y, keys)

    @property
    def counts(self) -> dict[str, int]:
        """Episodes, by what they teach."""
        helped = int(self.y.sum())
        others = {"did not help": len(self) - helped, "not measured": self.num_unmeasured}
        return {"helped": helped, **others}


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


def has_helped(episode: Episode) -> bool | None:
    """Whether the trainer waits less by more than noise, or fetches fewer rows and waits no longer.

    Noise: SIGMAS_95 standard deviations between windows, at least 1 % of the step and 2 % of the
    rows. None: not measured. Only changes whose trial ended were; where the wait was already moving
    before the change, what followed is not attributed to the change.
    """
    outcome, seen = episode.outcome, episode.observation
    if outcome is None or outcome.result not in ("confirmed", "reverted") or not episode.applied:
        return None
    rows_gain = _difference(outcome.rows_before, outcome.rows_after)
    wait_gain = _difference(outcome.wait_ms_before, outcome.wait_ms_after)
    if rows_gain is None or wait_gain is None or seen.trend in ("better", "worse"):
        return None
    rows_noise = max(SIGMAS_95 * (outcome.noise_rows or 0.0), SAME_ROWS_SHARE * seen.rows_fetched)
    wait_noise = max(SIGMAS_95 * (outcome.noise_wait_ms or 0.0), HIDDEN_SHARE * seen.step_ms)
    return wait_gain > wait_noise or (rows_gain > rows_noise and wait_gain >= -wait_noise)


def examples_of(episodes: Iterable[tuple[Episode, Workload]]) -> Examples:
    """An example of each change that was measured."""
    x, y, keys, num_unmeasured = [], [], [], 0
    for episode, workload in episodes:
        helped = has_helped(episode)
        if helped is None or episode.verdict is None:
            num_unmeasured += 1
            continue
        change = episode.verdict.change
        x.append(features_of(episode.observation, change=change, workload=workload))
        y.append(helped)
        keys.append(episode.run_key)
    rows = np.array(x, dtype=np.float32).reshape(len(y), len(FEATURES))
    return Examples(rows, np.array(y, dtype=np.bool_), np.array(keys, dtype=str), num_unmeasured)


def read_examples(memory: Path) -> Examples:
    """All that a memory teaches; imported episodes only if they are trusted.

    Raises DataError if the memory cannot be read or holds too little to learn from.
    """
    with Catalog(memory) as catalog:
        trusted = catalog.episodes(only_trusted=True)
        examples = examples_of((past.episode, past.workload) for past in trusted)
    _check(examples, str(memory), runs=_MIN_RUNS, of_each=_MIN_OF_EACH)
    return examples


def in_words(counts: Mapping[str, int]) -> str:
    """Such as `12 helped, 30 did not help, 4 not measured`."""
    return ", ".join(f"{count:,} {what}" for what, count in counts.items())


def split(examples: Examples, *, seed: int) -> tuple[Examples, Examples]:
    """Train and test set: a quarter of the runs is for testing, and no run is in both sets.

    Both sets have about the same share of changes that helped. Raises DataError if a set would
    have changes of one class only.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(n_splits=_FOLDS, shuffle=True, random_state=seed)
    chosen = next(folds.split(examples.x, examples.y, examples.run_keys))
    train, test = (examples[rows] for rows in chosen)
    for part, name in ((train, "to learn from"), (test, "to test with")):
        _check(part, f"the split's part {name}", runs=1, of_each=1)
    return train, test


def _check(examples: Examples, where: str, *, runs: int, of_each: int) -> None:
    """Raise DataError unless there are as many runs and changes of each class."""
    counts, num_runs = examples.counts, len(np.unique(examples.run_keys))
    if num_runs < runs or min(counts["helped"], counts["did not help"]) < of_each:
        raise DataError(
            f"{where} has changes of {num_runs} runs ({in_words(counts)}); needed:"
            f" {runs} runs, {of_each} changes that helped, and as many that did not",
            remedy="collect more runs, from good and from bad settings: rudder train --collect",
        )


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else before - after


def _share(part: float, whole: float) -> float:
    return float(np.clip(part / whole, -_MAX_SHARE, _MAX_SHARE))


def _doublings(old: float, new: float) -> float:
    return float(np.clip(np.log2((new + 1) / (old + 1)), -_MAX_DOUBLINGS, _MAX_DOUBLINGS))


# -- the model file ----------------------------------------------------------------------------

THRESHOLD = 0.5
"""A change is said to help if its probability is higher."""
_PARTS = ("header.json", "model", "examples.npz")
"""Of a model file, a zip. Nothing in it is executed, and it holds no pickle."""
_PACKAGES: dict[ClassifierName, str] = {"xgb": "xgboost", "tabnet": "pytorch-tabnet"}
"""Of the kinds that scikit-learn does not have."""


class Metrics(FrozenExact):
    """On runs that the classifier has not seen. base_rate: share of the changes that helped, so
    that a constant answer has an accuracy of max(base_rate, 1 - base_rate)."""

    accuracy: float
    balanced_accuracy: float
    roc_auc: float
    base_rate: float
    train_runs: int
    test_runs: int
    train_episodes: int
    test_episodes: int


class Header(FrozenExact):
    """What a model is. library: name and version that made it; examples_sha256: earlier files."""

    format: Literal["rudder planner"] = "rudder planner"
    version: Literal[1] = 1
    planner: ClassifierName
    features: tuple[str, ...]
    library: str
    seed: int
    episodes: Mapping[str, int] = Field(default_factory=dict)
    metrics: Metrics
    model_sha256: str
    examples_sha256: str | None = None


def fit(memory: Path, *, planner: ClassifierName, out: Path, seed: int = 0) -> Header:
    """Fit on three quarters of the memory's runs, measure on the others, and write the model.

    Deterministic for one machine, memory and seed. Raises DataError if the memory has too little,
    MachineError if the classifier's library is missing.
    """
    classifier = new_classifier(planner, seed=seed)
    examples = read_examples(memory)
    train, test = split(examples, seed=seed)
    classifier.fit(train)
    packed = io.BytesIO()
    np.savez(packed, x=train.x, y=train.y)
    model, kept = classifier.dump(), packed.getvalue()
    header = Header(
        planner=planner,
        features=FEATURES,
        library=_library(planner),
        seed=seed,
        episodes=examples.counts,
        metrics=metrics_of(classifier, train=train, test=test),
        model_sha256=hashlib.sha256(model).hexdigest(),
    )
    written = header.model_dump_json().encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in zip(_PARTS, (written, model, kept), strict=True):
            file.writestr(name, content)
    return header


def new_classifier(kind: ClassifierName, *, seed: int) -> Classifier:
    """Imports the library of this kind alone; raises MachineError if it is missing."""
    try:
        from rudder.agents.learned.classifier import Classifier, TabNet

        return (TabNet if kind == "tabnet" else Classifier)(kind, seed=seed)
    except ModuleNotFoundError as error:
        raise MachineError(
            f"planner {kind} needs the package {error.name}, which is not installed",
            remedy=f"pip install 'rudder-gnn[{kind}]', or choose lr, rf, svm or mlp",
        ) from None


def metrics_of(classifier: Classifier, *, train: Examples, test: Examples) -> Metrics:
    """train: what the classifier has learned from; test: of other runs, with both classes."""
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

    probabilities = classifier.probabilities(test.x)
    said = probabilities > THRESHOLD
    return Metrics(
        accuracy=float(accuracy_score(test.y, said)),
        balanced_accuracy=float(balanced_accuracy_score(test.y, said)),
        roc_auc=float(roc_auc_score(test.y, probabilities)),
        base_rate=float(test.y.mean()),
        train_runs=len(np.unique(train.run_keys)),
        test_runs=len(np.unique(test.run_keys)),
        train_episodes=len(train),
        test_episodes=len(test),
    )


def read_planner(
    path: Path, *, kind: str = "learned", refit_every: int | None = None
) -> LearnedPlanner:
    """Of a file that `rudder fit` wrote; kind: what it should be, `learned`: any. Raises DataError,
    and MachineError if the model's library is missing."""
    written, model, kept = _parts(path)
    try:
        header = Header.model_validate_json(written)
    except ValidationError:
        raise _unusable(path, "its header is not one of ours") from None
    found = header.planner
    if kind not in ("learned", found):
        raise DataError(
            f"{path} holds a model of {found}, not of {kind}",
            remedy=f"give --planner {found}, or another file",
        )
    if header.features != FEATURES:
        raise _unusable(path, "it was fitted to other features than this version has")
    classifier = new_classifier(found, seed=header.seed)
    here = _library(found)
    # The internals of a library, and so a model's answers, change between minor versions.
    if header.library.rpartition(".")[0] != here.rpartition(".")[0]:
        raise DataError(
            f"{path} was made with {header.library}; installed is {here}",
            remedy=f"fit it again: rudder fit --planner {found} --out {path}",
        )
    try:
        classifier.load(model)
        with np.load(io.BytesIO(kept), allow_pickle=False) as arrays:
            x, y = arrays["x"], arrays["y"]
            examples = Examples(x, y, np.full(len(y), ""))
    except ARCHIVE_ERRORS as error:
        raise _unusable(path, str(error) or type(error).__name__) from None
    if examples.x.dtype != np.float32 or examples.x.shape != (len(examples), len(FEATURES)):
        raise _unusable(path, "its examples have another shape")
    return LearnedPlanner(header, classifier, examples, refit_every=refit_every)


def _library(kind: ClassifierName) -> str:
    package = _PACKAGES.get(kind, "scikit-learn")
    return f"{package} {importlib.metadata.version(package)}"


def _parts(path: Path) -> list[bytes]:
    """Header, model and examples; the zip's own checksums tell damage."""
    try:
        with zipfile.ZipFile(path) as file:
            return [file.read(name) for name in _PARTS]
    except FileNotFoundError:
        raise DataError(
            f"there is no model {path}", remedy="make one: rudder fit --planner rf --out FILE"
        ) from None
    except ARCHIVE_ERRORS as error:
        raise _unusable(path, f"it cannot be unpacked ({type(error).__name__})") from None


def _unusable(path: Path, reason: str) -> DataError:
    return DataError(
        f"{path} is no model that can be used: {reason}",
        remedy="give a file that `rudder fit` of this version wrote, or fit again",
    )


# -- planning -----------------------------------------------------------------------------------


class LearnedPlanner:
    """Proposes the candidate that is most likely to help, if that is likely enough.

    Deterministic. Can learn on from the trials of its own run; the model's file stays as it is.
    """

    def __init__(
        self,
        header: Header,
        classifier: Classifier,
        examples: Examples,
        *,
        refit_every: int | None = None,
    ) -> None:
        """examples: what the classifier has learned from; refit_every: learn on after so many
        measured changes; None: never."""
        self.header, self.classifier, self.examples = header, classifier, examples
        self._refit_every, self._last_id = refit_every, ""
        self._num_new = self._num_learned = 0

    @property
    def name(self) -> str:
        """Kind and version of the model, and how many changes of this run it has learned on."""
        model = f"{self.header.planner}:{self.header.model_sha256[:8]}"
        return f"{model}+{self._num_learned}" if self._num_learned else model

    async def plan(
        self, observation: Observation, recalled: Sequence[Recalled], toolbox: Toolbox
    ) -> Plan:
        """The best candidate, with the effect that the estimator expects, or no change.

        Among equally likely changes the one that needs least memory.
        """
        if self._refit_every is not None:
            self._learn(toolbox, after=self._refit_every)
        choices, workload = candidates(observation, toolbox.limits), toolbox.history.workload
        if not toolbox.whatif.is_ready:
            return keep(self.name, "too few accesses were seen to tell what a change would bring")
        if not choices:
            return keep(self.name, "no change is legal")
        x = [features_of(observation, change=each, workload=workload) for each in choices]
        probabilities = self.classifier.probabilities(np.stack(x))
        best = int(np.argmax(probabilities))
        if probabilities[best] <= THRESHOLD:
            reason = f"no change helps with a probability above {THRESHOLD:g}"
            return keep(self.name, reason)
        reason = f"helps with a probability of {probabilities[best]:.2f}"
        return propose(self.name, choices[best], whatif=toolbox.whatif, reason=reason)

    def _learn(self, toolbox: Toolbox, *, after: int) -> None:
        """Add the run's last trial, once; at most one ends between two plans."""
        for told in toolbox.recall(1):
            episode = Episode.model_validate(told)
            if episode.episode_id == self._last_id:
                return
            self._last_id = episode.episode_id
            new = examples_of([(episode, toolbox.history.workload)])
            self.examples += new
            self._num_new += len(new)
        if self._num_new >= after:
            self.classifier.fit(self.examples)
            self._num_learned += self._num_new
            self._num_new = 0


def is_learned(planner: str) -> TypeGuard[ClassifierName | Literal["learned"]]:
    """Whether a planner needs the file of a model."""
    return planner == "learned" or planner in get_args(ClassifierName)


def open_planner(options: SteeringOptions) -> LearnedPlanner:
    """Raises ConfigError without a file, DataError if it is unusable, MachineError if its library
    is missing."""
    if options.planner_model is None:
        raise ConfigError(
            f"planner_model: planner {options.planner} needs a fitted model",
            remedy="give --planner-model FILE; `rudder fit` makes one",
        )
    kind = "learned" if options.planner == "published" else options.planner
    return read_planner(options.planner_model, kind=kind, refit_every=options.planner_refit_every)
