"""Boosted trees, by xgboost; imported only where they are asked for."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
import xgboost
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from rudder.agents.learned.classifiers import DamagedError, Probabilities, balanced_weights
from rudder.agents.learned.examples import FEATURES, Examples

_ROUNDS = 100


class _Tree(BaseModel):
    left_children: list[int]
    right_children: list[int]
    split_indices: list[int]
    split_conditions: list[float]

    def check(self) -> None:
        """That every node's children come after it, and every feature exists: xgboost itself
        reads whatever these point at."""
        size = len(self.left_children)
        parts = (self.right_children, self.split_indices, self.split_conditions)
        if not size or any(len(part) != size for part in parts):
            raise ValueError("a tree's parts are of different lengths")
        for node, (left, right) in enumerate(
            zip(self.left_children, self.right_children, strict=True)
        ):
            is_leaf = left == right == -1
            if not is_leaf and not (node < left < size and node < right < size):
                raise ValueError("a tree's children are none of its nodes")
        if not all(0 <= feature < len(FEATURES) for feature in self.split_indices):
            raise ValueError("a tree asks for a feature that is not there")


class _Trees(BaseModel):
    trees: list[_Tree]


class _Booster(BaseModel):
    model: _Trees
    name: Literal["gbtree"]


class _Learner(BaseModel):
    gradient_booster: _Booster


class _Document(BaseModel):
    """As much of xgboost's JSON as is checked before the library sees it."""

    learner: _Learner
    version: list[int]

    def check(self) -> None:
        """Raises ValueError."""
        for tree in self.learner.gradient_booster.model.trees:
            tree.check()


class XgbClassifier:
    """Kept as xgboost's JSON."""

    def __init__(self, *, seed: int, booster: xgboost.Booster | None = None) -> None:
        self._seed, self._booster = seed, booster

    @classmethod
    def load(cls, data: bytes, *, seed: int) -> Self:
        """What `dump` wrote; raises DamagedError."""
        booster = xgboost.Booster()
        try:
            _Document.model_validate_json(data).check()
            booster.load_model(bytearray(data))
            classifier = cls(seed=seed, booster=booster)
            answer = classifier.probabilities(np.zeros((1, len(FEATURES)), dtype=np.float32))
        except (xgboost.core.XGBoostError, ValidationError, ValueError, TypeError) as error:
            raise DamagedError(type(error).__name__) from None
        if answer.shape != (1,) or not 0 <= answer[0] <= 1:
            raise DamagedError("it is another kind of model")
        return classifier

    def fit(self, examples: Examples) -> None:
        """Learn from scratch."""
        data = xgboost.DMatrix(examples.x, examples.y, weight=balanced_weights(examples.y))
        self._booster = xgboost.train(
            {
                "objective": "binary:logistic",
                "max_depth": 4,
                "eta": 0.1,
                "subsample": 0.8,
                "seed": self._seed,
                "nthread": 1,
                "verbosity": 0,
            },
            data,
            num_boost_round=_ROUNDS,
        )

    def update(self, examples: Examples, *, num_new: int) -> None:
        """Learn everything again."""
        self.fit(examples)

    def probabilities(self, x: NDArray[np.float32]) -> Probabilities:
        """float64[n]."""
        assert self._booster is not None
        return np.asarray(self._booster.predict(xgboost.DMatrix(x)), dtype=np.float64)

    def dump(self) -> bytes:
        """JSON."""
        assert self._booster is not None
        return bytes(self._booster.save_raw("json"))
