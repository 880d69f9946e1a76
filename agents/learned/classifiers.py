"""The six classifiers of the paper (arXiv 2602.23556) behind one protocol; a library is imported
only when one of its models is asked for."""

from __future__ import annotations

from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rudder.agents.learned.examples import Examples
from rudder.training.errors import MachineError
from rudder.training.steering_options import ClassifierName

Probabilities: TypeAlias = NDArray[np.float64]


class DamagedError(Exception):
    """Bytes that are no model of this kind; whoever knows the file makes a DataError of it."""


class Classifier(Protocol):
    """Learns whether a change helps. Changes that help and those that do not weigh alike,
    however many there are of each."""

    def fit(self, examples: Examples) -> None:
        """Learn from scratch."""

    def update(self, examples: Examples, *, num_new: int) -> None:
        """Learn the last `num_new` of all examples in addition; all of them, where the model
        cannot do otherwise."""

    def probabilities(self, x: NDArray[np.float32]) -> Probabilities:
        """float64[n] of float32[n, features]: how likely each change is to help."""

    def dump(self) -> bytes:
        """All of it, in the library's own format; never a pickle."""


def make_classifier(kind: ClassifierName, *, seed: int) -> Classifier:
    """One that knows nothing yet; raises MachineError where its library is missing."""
    try:
        if kind == "xgb":
            from rudder.agents.learned.xgb import XgbClassifier

            return XgbClassifier(seed=seed)
        if kind == "tabnet":
            from rudder.agents.learned.tabnet import TabNet

            return TabNet(seed=seed)
    except ModuleNotFoundError as error:
        raise _missing(kind, error) from None
    from rudder.agents.learned.scikit import ScikitClassifier

    return ScikitClassifier.new(kind, seed=seed)


def load_classifier(kind: ClassifierName, data: bytes, *, seed: int) -> Classifier:
    """What `dump` wrote; raises DamagedError, and MachineError where its library is missing."""
    try:
        if kind == "xgb":
            from rudder.agents.learned.xgb import XgbClassifier

            return XgbClassifier.load(data, seed=seed)
        if kind == "tabnet":
            from rudder.agents.learned.tabnet import TabNet

            return TabNet.load(data, seed=seed)
    except ModuleNotFoundError as error:
        raise _missing(kind, error) from None
    from rudder.agents.learned.scikit import ScikitClassifier

    return ScikitClassifier.load(kind, data, seed=seed)


def balanced_weights(y: NDArray[np.bool_]) -> NDArray[np.float64]:
    """float64[n] with mean 1: both kinds of examples weigh alike in all."""
    helped = float(np.mean(y)) if len(y) else 0.5
    if helped in (0.0, 1.0):
        return np.ones(len(y))
    return np.where(y, 0.5 / helped, 0.5 / (1 - helped))


def _missing(kind: ClassifierName, error: ModuleNotFoundError) -> MachineError:
    return MachineError(
        f"planner {kind} needs the package {error.name}, which is not installed",
        remedy=f"pip install 'rudder-gnn[{kind}]', or choose lr, rf, svm or mlp",
    )
