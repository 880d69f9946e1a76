"""TabNet, by pytorch-tabnet; imported only where it is asked for, because it imports torch."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rudder.agents.learned.classifier import Classifier
from rudder.agents.learned.examples import FEATURES, Features

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports names that scipy has moved
    from pytorch_tabnet.tab_model import TabNetClassifier

_SIZES = {"n_d": 8, "n_a": 8, "n_steps": 3, "cat_idxs": [], "cat_dims": []}
_FIT = {"max_epochs": 60, "batch_size": 256, "virtual_batch_size": 128, "drop_last": False}


class TabNet(Classifier):
    """Kept as its weights in NumPy's format; the library's own format holds a pickle."""

    def dump(self) -> bytes:
        """An .npz of the network's weights."""
        file = io.BytesIO()
        weights = self._model.network.state_dict()
        np.savez(file, **{name: weight.numpy() for name, weight in weights.items()})
        return file.getvalue()

    def _new(self) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return TabNetClassifier(**_SIZES, seed=self._seed, verbose=0, device_name="cpu")

    def _fit(self, x: Features, y: NDArray[np.bool_]) -> None:
        # weights=1 is the library's word for the same total weight of both classes.
        self._model.fit(x, y.astype(np.int64), weights=1, **_FIT)

    def _restore(self, data: bytes) -> None:
        model = self._model
        model.input_dim, model.output_dim, model.grouped_features = len(FEATURES), 2, []
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            weights = {name: torch.from_numpy(arrays[name].copy()) for name in arrays.files}
        model._set_network()
        model.network.load_state_dict(weights)
        model.network.eval()
