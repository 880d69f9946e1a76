"""The trained model on disk: weights, and what it takes to make the model again.

RUN/model/best.safetensors    of the evaluation with the best validation score
RUN/model/last.safetensors    of the last evaluation
RUN/model/best.json ...       the card of each; the weights' file has it, too
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from rudder.training.checkpoint.reader import MODEL_FOLDER, Which, model_file
from rudder.training.checkpoint.writer import write_whole
from rudder.training.config import TaskName
from rudder.training.errors import JSON_ERRORS, DataError
from rudder.training.metrics import Evaluation, Score
from rudder.training.model.models import ModelOptions, build_model
from rudder.training.model.own import OwnModel
from rudder.training.settings import Frozen

__all__ = ["load_model"]

FORMAT_VERSION = 1
_READING_ERRORS: tuple[type[Exception], ...] = (SafetensorError, KeyError, *JSON_ERRORS)
_CARD, _CHECKSUM = "card", "xxh3"
"""The one name in the metadata of the weights' file (of two the order would be random), and the
name of the checksum in the card."""


class ModelCard(Frozen):
    """What makes a model again, and where it comes from.

    model: what `--model` named; a person's own file is copied beside the weights; fanout:
    neighbours that it was trained with, input layer first; data: digest of the partitions;
    versions: of what it was trained with.
    """

    format_version: int = FORMAT_VERSION
    model: str
    in_dim: int
    num_outputs: int
    options: ModelOptions
    multilabel: bool
    task: TaskName = "classification"
    fanout: tuple[int, ...]
    dataset: str
    data: str
    versions: dict[str, str]
    epoch: int = 0
    scores: tuple[Score, ...] = ()

    def build(self, folder: Path) -> torch.nn.Module:
        """The model with fresh weights; folder: of the weights, and of a person's own file."""
        own = OwnModel.parse(self.model)
        spec = self.model if own is None else f"{folder / own.file.name}:{own.name}"
        return build_model(
            spec, in_dim=self.in_dim, num_classes=self.num_outputs, options=self.options
        )


class SavedModels:
    """Keeps the best and the last model of a run in its folder."""

    def __init__(self, run_dir: Path, card: ModelCard, *, earlier: Sequence[Evaluation]) -> None:
        """card: as yet without epoch and scores; earlier: evaluations before this run went on."""
        self._folder, self._card = run_dir / MODEL_FOLDER, card
        self._best: float | None = None
        self._unwritten: dict[str, bytes] = {}
        for evaluation in earlier:
            self._is_best(evaluation)

    def keep(self, model: torch.nn.Module, evaluation: Evaluation) -> str | None:
        """Write the model as the last one, and as the best one if it is.

        Returns why files could not be written, or None; they are tried again with the next model.
        """
        card = self._card.model_copy(
            update={"epoch": evaluation.epoch, "scores": evaluation.scores}
        )
        names = ["last", "best"] if self._is_best(evaluation) else ["last"]
        weights = {
            name: value.detach().to("cpu", copy=True).contiguous()
            for name, value in model.state_dict().items()
        }
        written = json.loads(card.model_dump_json())
        written[_CHECKSUM] = _checksum(written, weights)
        content = save(weights, metadata={_CARD: json.dumps(written)})
        readable = json.dumps(written, indent=2) + "\n"
        for name in names:
            self._unwritten |= {f"{name}.safetensors": content, f"{name}.json": readable.encode()}
        try:
            self._write()
        except OSError as error:
            return f"{error.filename or self._folder}: {error.strerror}"
        return None

    def _write(self) -> None:
        self._folder.mkdir(exist_ok=True)
        if own := OwnModel.parse(self._card.model):
            write_whole(self._folder / own.file.name, own.file.read_bytes())
        for name, content in tuple(self._unwritten.items()):
            write_whole(self._folder / name, content)
            del self._unwritten[name]

    def _is_best(self, evaluation: Evaluation) -> bool:
        """Whether it is better than all before; without validation nodes the last one is best."""
        merit = evaluation.scores[0].merit
        if merit is None:
            return True
        if self._best is not None and merit <= self._best:
            return False
        self._best = merit
        return True


def read_card(path: Path) -> ModelCard:
    """The card of a weights' file; raises DataError where the file is damaged or is none."""
    return _read(path)[0]


def _read(path: Path) -> tuple[ModelCard, dict[str, torch.Tensor]]:
    """Card and weights; those of earlier versions have no checksum."""
    try:
        with safe_open(path, framework="pt") as file:
            written = dict(json.loads((file.metadata() or {})[_CARD]))
            card = ModelCard.model_validate(written)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except _READING_ERRORS as error:
        raise DataError(
            f"{path} is no model that a run wrote: {type(error).__name__}: {error}",
            remedy="use RUN/model/best.safetensors or last.safetensors of a run",
        ) from None
    known, now = written.pop(_CHECKSUM, None), _checksum(written, weights)
    if known not in (None, now):
        raise DataError(
            f"{path} is damaged: it is not as it was written (XXH3 {now}, not {known})",
            remedy="restore it from a copy, or use another model: RUN/model/last.safetensors",
        )
    return card, weights


def _checksum(card: dict[str, Any], weights: Mapping[str, torch.Tensor]) -> str:
    digest = xxhash.xxh3_128(json.dumps(card, sort_keys=True).encode())
    for name, values in sorted(weights.items()):
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def load_model(run: str | Path, which: Which = "best") -> torch.nn.Module:
    """The trained model of a run, on the CPU and in evaluation mode.

    Args:
        run: Folder of the run, or one of its `.safetensors` files.
        which: The model with the best validation score, or the last one.

    Raises:
        ConfigError: There is no such model, or a file of your own that makes it fails.
        DataError: The file is damaged, or its weights do not fit the model that it names.
    """
    path = model_file(Path(run), which)
    card, weights = _read(path)
    try:
        model = card.build(path.parent)
        model.load_state_dict(weights)
    except (RuntimeError, ValueError, TypeError, ArithmeticError) as error:
        raise DataError(
            f"the weights in {path} do not fit the model: {error}",
            remedy="use the version of Rudder, or of your model's file, that it was trained with",
        ) from None
    model.eval()
    return model
