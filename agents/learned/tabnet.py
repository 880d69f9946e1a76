"""TabNet, by pytorch-tabnet; imported only where it is asked for, because it imports torch."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rudder.agents.learned.classifier import Classifier, Probabilities
from rudder.agents.learned.examples import FEATURES, Examples
from rudder.training.steering_options import ClassifierName

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports names that scipy has moved
    from pytorch_tabnet.tab_model import TabNetClassifier

_WIDTH = 8
_STEPS = 3
_EPOCHS = 60
_BATCH = 256


@contextlib.contextmanager
def _quiet_on_one_thread() -> Iterator[None]:
    """More threads only wait for each other in so small a network, and trainers need the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(before)


class TabNet(Classifier):
    """Kept as its weights in NumPy's format; the library's own format holds a pickle."""

    def __init__(self, kind: ClassifierName, *, seed: int) -> None:
        super().__init__(kind, seed=seed)
        self._model = self._new()

    def fit(self, examples: Examples) -> None:
        """Learn from scratch."""
        self._model = self._new()
        with _quiet_on_one_thread():
            self._model.fit(
                examples.x,
                examples.y.astype(np.int64),
                weights=1,  # the library's word for weighing both classes the same
                max_epochs=_EPOCHS,
                batch_size=_BATCH,
                virtual_batch_size=_BATCH // 2,
                drop_last=False,
            )

    def probabilities(self, x: NDArray[np.float32]) -> Probabilities:
        """float64[n]."""
        with torch.no_grad(), _quiet_on_one_thread():
            return np.asarray(self._model.predict_proba(x)[:, 1], dtype=np.float64)

    def dump(self) -> bytes:
        """An .npz of the network's weights."""
        file = io.BytesIO()
        weights = self._model.network.state_dict()
        np.savez(file, **{name: weight.numpy() for name, weight in weights.items()})
        return file.getvalue()

    def _restore(self, data: bytes) -> None:
        model = self._model
        model.input_dim, model.output_dim, model.grouped_features = len(FEATURES), 2, []
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            weights = {name: torch.from_numpy(arrays[name].copy()) for name in arrays.files}
        model._set_network()
        model.network.load_state_dict(weights)
        model.network.eval()

    def _new(self) -> Any:
        sizes = {"n_d": _WIDTH, "n_a": _WIDTH, "n_steps": _STEPS, "cat_idxs": [], "cat_dims": []}
        with _quiet_on_one_thread():
            return TabNetClassifier(**sizes, seed=self._seed, verbose=0, device_name="cpu")
