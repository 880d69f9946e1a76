"""Logistic regression, random forest, support vectors and a small network, by scikit-learn."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any, Self

import numpy as np
import skops.io
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import ThreadpoolController

from rudder.agents.learned.classifiers import DamagedError, Probabilities, balanced_weights
from rudder.agents.learned.examples import FEATURES, Examples
from rudder.training.steering_options import ClassifierName

_TRUSTED = {
    "rf": ["sklearn.tree._tree.Tree"],
    "mlp": ["sklearn.neural_network._stochastic_optimizers.AdamOptimizer"],
}
"""What a file of a kind may hold beyond what skops trusts by itself."""
_MODELS = {
    "lr": LogisticRegression,
    "rf": RandomForestClassifier,
    "svm": SVC,
    "mlp": MLPClassifier,
}


@cache
def _threads() -> ThreadpoolController:
    """Of the libraries that are loaded; finding them takes milliseconds, so it is done once."""
    return ThreadpoolController()


class ScikitClassifier:
    """Features are brought to mean 0 and spread 1 first.

    Learns and answers on one thread: on so few rows threads only wait for each other, and the
    trainers want the cores.
    """

    def __init__(self, kind: ClassifierName, pipeline: Pipeline) -> None:
        self._kind, self._pipeline = kind, pipeline

    @classmethod
    def new(cls, kind: ClassifierName, *, seed: int) -> Self:
        """One of lr, rf, svm, mlp."""
        steps = [("scale", StandardScaler()), ("model", _model(kind, seed))]
        return cls(kind, Pipeline(steps))

    @classmethod
    def load(cls, kind: ClassifierName, data: bytes, *, seed: int) -> Self:
        """What `dump` wrote; raises DamagedError. Nothing in the file is executed."""
        allowed = _TRUSTED.get(kind, [])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if set(skops.io.get_untrusted_types(data=data)) - set(allowed):
                    raise DamagedError("it holds types that no model of this kind has")
                pipeline = skops.io.loads(data, trusted=allowed)
        except DamagedError:
            raise
        except Exception as error:  # any part of a foreign file may be missing or of another type
            raise DamagedError(type(error).__name__) from None
        classifier = cls(kind, pipeline)
        classifier._check()
        return classifier

    def fit(self, examples: Examples) -> None:
        """Learn from scratch."""
        weights = balanced_weights(examples.y)
        with warnings.catch_warnings(), _threads().limit(limits=1):
            warnings.simplefilter("ignore", ConvergenceWarning)  # of 1000 rounds: enough
            self._pipeline.fit(examples.x, examples.y, model__sample_weight=weights)

    def update(self, examples: Examples, *, num_new: int) -> None:
        """A step of the network with what is new; the others learn everything again."""
        model = self._pipeline["model"]
        if not hasattr(model, "partial_fit"):
            self.fit(examples)
            return
        x, y = examples.x[-num_new:], examples.y[-num_new:]
        with _threads().limit(limits=1):
            model.partial_fit(self._pipeline["scale"].transform(x), y)

    def probabilities(self, x: NDArray[np.float32]) -> Probabilities:
        """float64[n]; of support vectors the distance from the border, squeezed between 0 and 1."""
        model: Any = self._pipeline
        with _threads().limit(limits=1):
            if hasattr(model, "predict_proba"):
                return np.asarray(model.predict_proba(x)[:, 1], dtype=np.float64)
            distance = np.asarray(model.decision_function(x), dtype=np.float64).clip(-30, 30)
        return np.asarray(1 / (1 + np.exp(-distance)), dtype=np.float64)

    def dump(self) -> bytes:
        """In the format of skops."""
        return bytes(skops.io.dumps(self._pipeline))

    def _check(self) -> None:
        """That what was read is what `new` makes, and answers as it should."""
        pipeline = self._pipeline
        try:
            is_same = type(pipeline) is Pipeline and [type(step) for _, step in pipeline.steps] == [
                StandardScaler,
                _MODELS[self._kind],
            ]
            if is_same and self._kind == "rf":
                _check_trees(pipeline["model"])
            answer = self.probabilities(np.zeros((1, len(FEATURES)), dtype=np.float32))
        except Exception as error:  # whatever a model of other people's making does
            raise DamagedError(type(error).__name__) from None
        if not is_same or answer.shape != (1,) or not 0 <= answer[0] <= 1:
            raise DamagedError("it is another kind of model")


def _check_trees(forest: RandomForestClassifier) -> None:
    """That every node's children come after it, and every feature exists: scikit-learn itself
    reads whatever these point at. Raises ValueError."""
    for each in forest.estimators_:
        tree = each.tree_
        nodes = np.arange(tree.node_count)
        is_inner = (tree.children_left != -1) | (tree.children_right != -1)
        children = np.stack([tree.children_left, tree.children_right])[:, is_inner]
        is_inside = (children > nodes[is_inner]) & (children < tree.node_count)
        features = tree.feature[is_inner]
        if not is_inside.all() or not ((features >= 0) & (features < len(FEATURES))).all():
            raise ValueError("a tree points outside of itself")


def _model(kind: ClassifierName, seed: int) -> ClassifierMixin:
    if kind == "lr":
        return LogisticRegression(max_iter=1000)
    if kind == "rf":
        return RandomForestClassifier(100, min_samples_leaf=3, random_state=seed)
    if kind == "svm":
        return SVC(random_state=seed)
    return MLPClassifier((32,), alpha=0.01, max_iter=1000, random_state=seed)
