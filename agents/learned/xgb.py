"""Boosted trees, by xgboost; imported only where they are asked for."""

from __future__ import annotations

import json

import numpy as np
import xgboost
from numpy.typing import NDArray

from rudder.agents.learned.classifier import (
    Classifier,
    ForeignModelError,
    Probabilities,
    balanced_weights,
    check_tree,
)
from rudder.agents.learned.examples import Examples
from rudder.training.steering_options import ClassifierName

_ROUNDS = 100
_PARAMETERS = {
    "objective": "binary:logistic", "max_depth": 4, "eta": 0.1, "subsample": 0.8,
    "nthread": 1, "verbosity": 0,
}  # fmt: skip


class XgbClassifier(Classifier):
    """Kept as xgboost's JSON."""

    def __init__(self, kind: ClassifierName, *, seed: int) -> None:
        super().__init__(kind, seed=seed)
        self._booster = xgboost.Booster()

    def fit(self, examples: Examples) -> None:
        """Learn from scratch."""
        data = xgboost.DMatrix(examples.x, examples.y, weight=balanced_weights(examples.y))
        parameters = {**_PARAMETERS, "seed": self._seed}
        self._booster = xgboost.train(parameters, data, num_boost_round=_ROUNDS)

    def probabilities(self, x: NDArray[np.float32]) -> Probabilities:
        """float64[n]."""
        return np.asarray(self._booster.predict(xgboost.DMatrix(x)), dtype=np.float64)

    def dump(self) -> bytes:
        """JSON."""
        return bytes(self._booster.save_raw("json"))

    def _restore(self, data: bytes) -> None:
        booster = json.loads(data)["learner"]["gradient_booster"]
        if booster["name"] != "gbtree":
            raise ForeignModelError("it is a model of another kind")
        for tree in booster["model"]["trees"]:
            left, right, features = (
                tree[name] for name in ("left_children", "right_children", "split_indices")
            )
            check_tree(left=left, right=right, features=features)
            if len(tree["split_conditions"]) != len(left):
                raise ForeignModelError("a tree's parts have different lengths")
        self._booster.load_model(bytearray(data))
