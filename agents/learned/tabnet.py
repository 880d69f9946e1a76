"""TabNet, by pytorch-tabnet; imported only where it is asked for, for it brings torch with it."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from rudder.agents.learned.classifiers import DamagedError, Probabilities
from rudder.agents.learned.examples import FEATURES, Examples

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports what scipy has moved
    from pytorch_tabnet.tab_model import TabNetClassifier

_WIDTH = 8
_STEPS = 3
_EPOCHS = 60
_BATCH = 256


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Networks this small only wait for each other's threads, and trainers want the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class TabNet:
    """Kept as its weights in NumPy's format, and not as the library keeps it, with a pickle."""

    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        self._model: Any = self._new()

    @classmethod
    def load(cls, data: bytes, *, seed: int) -> Self:
        """What `dump` wrote; raises DamagedError."""
        classifier = cls(seed=seed)
        model = classifier._model
        model.input_dim, model.output_dim = len(FEATURES), 2
        model.grouped_features = []
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                weights = {name: torch.from_numpy(arrays[name].copy()) for name in arrays.files}
            model._set_network()
            model.network.load_state_dict(weights)
        except Exception as error:  # any part of a foreign file may be missing or of another type
            raise DamagedError(type(error).__name__) from None
        model.network.eval()
        return classifier

    def fit(self, examples: Examples) -> None:
        """Learn from scratch."""
        self._model = self._new()
        with warnings.catch_warnings(), _one_thread():
            warnings.simplefilter("ignore")
            self._model.fit(
                examples.x,
                examples.y.astype(np.int64),
                weights=1,
                max_epochs=_EPOCHS,
                batch_size=_BATCH,
                virtual_batch_size=_BATCH // 2,
                drop_last=False,
            )

    def update(self, examples: Examples, *, num_new: int) -> None:
        """Learn everything again."""
        self.fit(examples)

    def probabilities(self, x: NDArray[np.float32]) -> Probabilities:
        """float64[n]."""
        with torch.no_grad(), _one_thread():
            answer = self._model.predict_proba(x)
        return np.asarray(answer[:, 1], dtype=np.float64)

    def dump(self) -> bytes:
        """An .npz of the network's weights."""
        file = io.BytesIO()
        weights = self._model.network.state_dict()
        np.savez(file, **{name: weight.numpy() for name, weight in weights.items()})
        return file.getvalue()

    def _new(self) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return TabNetClassifier(
                n_d=_WIDTH,
                n_a=_WIDTH,
                n_steps=_STEPS,
                seed=self._seed,
                verbose=0,
                device_name="cpu",
                cat_idxs=[],
                cat_dims=[],
            )
