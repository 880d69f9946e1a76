"""Logistic regression, random forest, support vectors and a small network, by scikit-learn."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import skops.io
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import ThreadpoolController

from rudder.agents.learned.classifier import (
    Classifier,
    ForeignModelError,
    Probabilities,
    balanced_weights,
    check_tree,
)
from rudder.agents.learned.examples import Examples
from rudder.training.steering_options import ClassifierName

_TRUSTED = {
    "rf": ["sklearn.tree._tree.Tree"],
    "mlp": ["sklearn.neural_network._stochastic_optimizers.AdamOptimizer"],
}
"""Types that a file of this kind may hold beyond those that skops trusts."""


@cache
def _threads() -> ThreadpoolController:
    """Finding the loaded libraries takes milliseconds, so it is done once."""
    return ThreadpoolController()


class ScikitClassifier(Classifier):
    """Scales features to mean 0 and variance 1, then applies one scikit-learn estimator.

    Uses one thread: more only wait for each other on so few rows, and trainers need the cores.
    """

    def __init__(self, kind: ClassifierName, *, seed: int) -> None:
        super().__init__(kind, seed=seed)
        estimators = {
            "lr": LogisticRegression(max_iter=1000),
            "rf": RandomForestClassifier(100, min_samples_leaf=3, random_state=seed),
            "svm": SVC(random_state=seed),
            "mlp": MLPClassifier((32,), alpha=0.01, max_iter=1000, random_state=seed),
        }
        self._pipeline = Pipeline([("scale", StandardScaler()), ("model", estimators[kind])])

    def fit(self, examples: Examples) -> None:
        """Learn from scratch."""
        weights = balanced_weights(examples.y)
        with warnings.catch_warnings(), _threads().limit(limits=1):
            warnings.simplefilter("ignore", ConvergenceWarning)  # 1,000 iterations are enough
            self._pipeline.fit(examples.x, examples.y, model__sample_weight=weights)

    def update(self, examples: Examples, *, num_new: int) -> None:
        """One step with the new examples for the network; the others fit to all examples again."""
        if self._kind != "mlp":
            self.fit(examples)
            return
        x = self._pipeline["scale"].transform(examples.x[-num_new:])
        with _threads().limit(limits=1):
            self._pipeline["model"].partial_fit(x, examples.y[-num_new:])

    def probabilities(self, x: NDArray[np.float32]) -> Probabilities:
        """float64[n]; for support vectors the logistic function of the distance from the border."""
        model: Any = self._pipeline
        with _threads().limit(limits=1):
            if self._kind != "svm":
                return np.asarray(model.predict_proba(x)[:, 1], dtype=np.float64)
            distance = np.asarray(model.decision_function(x), dtype=np.float64).clip(-30, 30)
        return np.asarray(1 / (1 + np.exp(-distance)), dtype=np.float64)

    def dump(self) -> bytes:
        """In the format of skops."""
        return bytes(skops.io.dumps(self._pipeline))

    def _restore(self, data: bytes) -> None:
        allowed = _TRUSTED.get(self._kind, [])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if set(skops.io.get_untrusted_types(data=data)) - set(allowed):
                raise ForeignModelError("it holds types that no model of this kind has")
            pipeline = skops.io.loads(data, trusted=allowed)
        if type(pipeline) is not Pipeline or _types(pipeline) != _types(self._pipeline):
            raise ForeignModelError("it is a model of another kind")
        if self._kind == "rf":
            for tree in (each.tree_ for each in pipeline["model"].estimators_):
                check_tree(
                    left=tree.children_left, right=tree.children_right, features=tree.feature
                )
        self._pipeline = pipeline


def _types(pipeline: Pipeline) -> list[type]:
    return [type(step) for _, step in pipeline.steps]
