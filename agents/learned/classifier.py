"""Estimators that learn whether a change helps; imported only if one is asked for, as their
libraries take seconds."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
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

from rudder.agents.learned.planner import FEATURES, Examples, Features
from rudder.training.steering_options import ClassifierName


def _xgb(seed: int) -> Any:
    from xgboost import XGBClassifier  # not installed with the others

    sizes = {"n_estimators": 100, "max_depth": 4, "learning_rate": 0.1, "subsample": 0.8}
    return XGBClassifier(**sizes, n_jobs=1, random_state=seed)


_ESTIMATORS: dict[str, Callable[[int], Any]] = {
    "lr": lambda seed: LogisticRegression(max_iter=1000),
    "rf": lambda seed: RandomForestClassifier(100, min_samples_leaf=3, random_state=seed),
    "svm": lambda seed: SVC(random_state=seed),
    "mlp": lambda seed: MLPClassifier((32,), alpha=0.01, max_iter=1000, random_state=seed),
    "xgb": _xgb,
}
"""New ones, by kind; of a seed."""
_TRUSTED = {
    "rf": ["sklearn.tree._tree.Tree"],
    "mlp": ["sklearn.neural_network._stochastic_optimizers.AdamOptimizer"],
    "xgb": ["xgboost.core.Booster", "xgboost.sklearn.XGBClassifier"],
}
"""Types that a file of this kind may hold beyond those that skops trusts."""


class Classifier:
    """A pipeline that scales features to mean 0 and variance 1, then applies one estimator.

    Both classes have the same total weight, however rare one is. Uses one thread: more only wait
    for each other on so few rows, and trainers need the cores.
    """

    def __init__(self, kind: ClassifierName, *, seed: int) -> None:
        self._kind, self._seed = kind, seed
        self._threads = ThreadpoolController()
        with self._quiet_on_one_thread():
            self._model = self._new()

    def load(self, data: bytes) -> None:
        """Become the model that `dump` wrote; raises ValueError for anything else, and executes
        nothing from the data."""
        try:
            with self._quiet_on_one_thread():
                self._restore(data)
            (_,) = self.probabilities(np.zeros((1, len(FEATURES)), dtype=np.float32))
        except Exception as error:  # any part of a foreign file may be missing or of another type
            raise ValueError(str(error).partition("\n")[0] or type(error).__name__) from None

    def fit(self, examples: Examples) -> None:
        """Learn from scratch."""
        with self._quiet_on_one_thread():
            self._model = self._new()
            self._fit(examples.x, examples.y)

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
        return Pipeline(
            [("scale", StandardScaler()), ("model", _ESTIMATORS[self._kind](self._seed))]
        )

    def _fit(self, x: Features, y: NDArray[np.bool_]) -> None:
        weights = compute_sample_weight("balanced", y)
        self._model.fit(x, y, model__sample_weight=weights)

    def _restore(self, data: bytes) -> None:
        allowed = _TRUSTED.get(self._kind, [])
        if set(skops.io.get_untrusted_types(data=data)) - set(allowed):
            raise ValueError("it holds types that no model of this kind has")
        pipeline = skops.io.loads(data, trusted=allowed)
        if [*map(type, pipeline)] != [*map(type, self._model)]:
            raise ValueError("it is a model of another kind")
        self._model = pipeline

    @contextlib.contextmanager
    def _quiet_on_one_thread(self) -> Iterator[None]:
        with warnings.catch_warnings(), self._threads.limit(limits=1):
            warnings.simplefilter("ignore")
            yield


class TabNet(Classifier):
    """Kept as its weights in NumPy's format; the library's own format holds a pickle."""

    def dump(self) -> bytes:
        """An .npz of the network's weights."""
        file, weights = io.BytesIO(), self._model.network.state_dict()
        np.savez(file, **{name: weight.numpy() for name, weight in weights.items()})
        return file.getvalue()

    def _new(self) -> Any:
        from pytorch_tabnet.tab_model import TabNetClassifier  # imports torch

        sizes = {"n_d": 8, "n_a": 8, "n_steps": 3, "cat_idxs": [], "cat_dims": []}
        return TabNetClassifier(**sizes, seed=self._seed, verbose=0, device_name="cpu")

    def _fit(self, x: Features, y: NDArray[np.bool_]) -> None:
        sizes = {"max_epochs": 60, "batch_size": 256, "virtual_batch_size": 128}
        # weights=1 is the library's word for the same total weight of both classes.
        self._model.fit(x, y.astype(np.int64), weights=1, drop_last=False, **sizes)

    def _restore(self, data: bytes) -> None:
        import torch

        model = self._model
        model.input_dim, model.output_dim, model.grouped_features = len(FEATURES), 2, []
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            weights = {name: torch.from_numpy(arrays[name].copy()) for name in arrays.files}
        model._set_network()
        model.network.load_state_dict(weights)
        model.network.eval()
