"""What classifiers share: the interface, class weights, and the checks of a model from a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rudder.agents.learned.examples import FEATURES, Examples
from rudder.training.steering_options import ClassifierName

Probabilities: TypeAlias = NDArray[np.float64]


class ForeignModelError(Exception):
    """Bytes that are not a model of this kind; the caller, who knows the file, names it."""


class Classifier(ABC):
    """Learns whether a change helps; both classes weigh the same in all, however rare one is."""

    def __init__(self, kind: ClassifierName, *, seed: int) -> None:
        self._kind, self._seed = kind, seed

    @classmethod
    def load(cls, kind: ClassifierName, data: bytes, *, seed: int) -> Self:
        """Read what `dump` wrote; raises ForeignModelError and executes nothing from the file."""
        classifier = cls(kind, seed=seed)
        try:
            classifier._restore(data)
            answer = classifier.probabilities(np.zeros((1, len(FEATURES)), dtype=np.float32))
        except ForeignModelError:
            raise
        except Exception as error:  # any part of a foreign file may be missing or of another type
            raise ForeignModelError(type(error).__name__) from None
        if answer.shape != (1,) or not 0 <= answer[0] <= 1:
            raise ForeignModelError("it is a model of another kind")
        return classifier

    @abstractmethod
    def fit(self, examples: Examples) -> None:
        """Learn from scratch."""

    def update(self, examples: Examples, *, num_new: int) -> None:
        """Learn the last `num_new` examples as well; by default, fit to all examples again."""
        self.fit(examples)

    @abstractmethod
    def probabilities(self, x: NDArray[np.float32]) -> Probabilities:
        """float64[n] of float32[n, features]: how likely each change is to help."""

    @abstractmethod
    def dump(self) -> bytes:
        """The whole model in its library's format, never a pickle."""

    @abstractmethod
    def _restore(self, data: bytes) -> None:
        """Become the model that `dump` wrote; may raise anything."""


def balanced_weights(y: NDArray[np.bool_]) -> NDArray[np.float64]:
    """float64[n] with mean 1, so that both classes have the same total weight."""
    helped = float(np.mean(y)) if len(y) else 0.5
    if helped in (0.0, 1.0):
        return np.ones(len(y))
    return np.where(y, 0.5 / helped, 0.5 / (1 - helped))


def check_tree(*, left: ArrayLike, right: ArrayLike, features: ArrayLike) -> None:
    """Check that children come after their node and that each feature exists.

    The libraries follow these numbers unchecked. left, right: int[nodes], -1 for leaves.
    """
    parts = np.stack([np.asarray(part) for part in (left, right, features)])
    children, is_inner = parts[:2], (parts[:2] != -1).any(axis=0)
    nodes = np.arange(parts.shape[1])
    is_child = (children > nodes) & (children < len(nodes))
    is_feature = (parts[2] >= 0) & (parts[2] < len(FEATURES))
    if parts.dtype.kind != "i" or not len(nodes) or not (is_child & is_feature)[:, is_inner].all():
        raise ForeignModelError("a tree points outside itself")
