"""Estimators with scikit-learn's interface that learn whether a change helps."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import skops.io
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.class_weight import compute_sample_weight
from threadpoolctl import ThreadpoolController

from rudder.agents.learned.examples import FEATURES, Examples, Features
from rudder.training.steering_options import ClassifierName

_TRUSTED = {
    "rf": ["sklearn.tree._tree.Tree"],
    "mlp": ["sklearn.neural_network._stochastic_optimizers.AdamOptimizer"],
    "xgb": ["xgboost.core.Booster", "xgboost.sklearn.XGBClassifier"],
}
"""Types that a file of this kind may hold beyond those that skops trusts."""


class ForeignModelError(Exception):
    """Bytes that are not a model of this kind; the caller, who knows the file, names it."""


class Classifier:
    """A pipeline that scales features to mean 0 and variance 1, then applies one estimator.

    Both classes have the same total weight, however rare one is. Uses one thread: more only wait
    for each other on so few rows, and trainers need the cores.
    """

    def __init__(self, kind: ClassifierName, *, seed: int) -> None:
        self._kind, self._seed = kind, seed
        self._model = self._new()
        self._threads = ThreadpoolController()

    def load(self, data: bytes) -> None:
        """Become the model that `dump` wrote; raises ForeignModelError for anything else, and
        executes nothing from the data."""
        try:
            with self._quiet_on_one_thread():
                self._restore(data)
            answer = self.probabilities(np.zeros((1, len(FEATURES)), dtype=np.float32))
        except ForeignModelError:
            raise
        except Exception as error:  # any part of a foreign file may be missing or of another type
            raise ForeignModelError(type(error).__name__) from None
        if answer.shape != (1,) or not 0 <= answer[0] <= 1:
            raise ForeignModelError("it is a model of another kind")

    def fit(self, examples: Examples) -> None:
        """Learn from scratch."""
        with self._quiet_on_one_thread():
            self._model = self._new()
            self._fit(examples.x, examples.y)

    def update(self, examples: Examples, *, num_new: int) -> None:
        """Learn the last `num_new` examples as well: the network by one step with them, the other
        kinds by a new fit to all examples."""
        if self._kind != "mlp":
            self.fit(examples)
            return
        x, y = examples.x[-num_new:], examples.y[-num_new:]
        with self._quiet_on_one_thread():
            self._model["model"].partial_fit(self._model["scale"].transform(x), y)

    def probabilities(self, x: Features) -> NDArray[np.float64]:
        """float64[n] of float32[n, features]: how likely each change is to help; for support
        vectors the logistic function of the distance from the border."""
        with self._quiet_on_one_thread():
            if self._kind == "svm":
                return np.asarray(expit(self._model.decision_function(x)))
            return np.asarray(self._model.predict_proba(x)[:, 1], dtype=np.float64)

    def dump(self) -> bytes:
        """The whole model in its library's format (here that of skops), never a pickle."""
        return bytes(skops.io.dumps(self._model))

    def _new(self) -> Any:
        """An estimator that has learned nothing."""
        seed, kind = self._seed, self._kind
        model: Any
        if kind == "lr":
            model = LogisticRegression(max_iter=1000)
        elif kind == "rf":
            model = RandomForestClassifier(100, min_samples_leaf=3, random_state=seed)
        elif kind == "svm":
            model = SVC(random_state=seed)
        elif kind == "mlp":
            model = MLPClassifier((32,), alpha=0.01, max_iter=1000, random_state=seed)
        else:
            from xgboost import XGBClassifier  # not installed with the others

            sizes = {"n_estimators": 100, "max_depth": 4, "learning_rate": 0.1, "subsample": 0.8}
            model = XGBClassifier(**sizes, n_jobs=1, random_state=seed)
        return Pipeline([("scale", StandardScaler()), ("model", model)])

    def _fit(self, x: Features, y: NDArray[np.bool_]) -> None:
        weights = compute_sample_weight("balanced", y)
        self._model.fit(x, y, model__sample_weight=weights)

    def _restore(self, data: bytes) -> None:
        allowed = _TRUSTED.get(self._kind, [])
        if set(skops.io.get_untrusted_types(data=data)) - set(allowed):
            raise ForeignModelError("it holds types that no model of this kind has")
        pipeline = skops.io.loads(data, trusted=allowed)
        if _types(pipeline) != _types(self._model):
            raise ForeignModelError("it is a model of another kind")
        self._model = pipeline

    @contextlib.contextmanager
    def _quiet_on_one_thread(self) -> Iterator[None]:
        with warnings.catch_warnings(), self._threads.limit(limits=1):
            warnings.simplefilter("ignore")
            yield


def _types(pipeline: Pipeline) -> list[type]:
    return [type(pipeline), *(type(step) for _, step in pipeline.steps)]
