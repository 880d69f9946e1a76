"""A fitted classifier in a file: a zip of a header, the model in its library's format, and its
examples. Nothing in it is executed, and it holds no pickle."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import zipfile
import zlib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rudder.agents.learned.classifier import Classifier, ForeignModelError
from rudder.agents.learned.examples import FEATURES, Examples
from rudder.training.errors import DataError, MachineError
from rudder.training.steering_options import ClassifierName

THRESHOLD = 0.5
"""A change is said to help if its probability is higher."""
_HEADER, _MODEL, _EXAMPLES = "header.json", "model", "examples.npz"
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, ValueError, RuntimeError,
)  # fmt: skip
"""What unpacking a foreign file may raise; NotImplementedError is a RuntimeError."""
_MOST_BYTES = 2**28
"""Of one part, unpacked."""
_CLASSES: dict[ClassifierName, tuple[str, str]] = {
    "xgb": ("XgbClassifier", "xgboost"), "tabnet": ("TabNet", "pytorch-tabnet"),
}  # fmt: skip
"""Class and package of the kinds that scikit-learn does not have."""
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class Metrics(BaseModel):
    """On runs that the classifier has not seen. base_rate: share of the changes that helped, so
    that a constant answer has an accuracy of max(base_rate, 1 - base_rate)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    accuracy: Share
    balanced_accuracy: Share
    roc_auc: Share
    base_rate: Share
    train_runs: Count
    test_runs: Count
    train_episodes: Count
    test_episodes: Count


class Header(BaseModel):
    """What a model is, readable without its library. library: name and version that made it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["rudder planner"] = "rudder planner"
    version: Literal[1] = 1
    planner: ClassifierName
    features: tuple[str, ...]
    library: str
    seed: int
    metrics: Metrics
    model_sha256: str
    examples_sha256: str


@dataclass(frozen=True)
class Model:
    """examples: what the classifier has learned from, for learning on while steering."""

    header: Header
    classifier: Classifier
    examples: Examples

    @property
    def name(self) -> str:
        """Kind and version, for the record."""
        return f"{self.header.planner}:{self.header.model_sha256[:8]}"


def classifier_class(kind: ClassifierName) -> type[Classifier]:
    """Imports the library of this kind alone; raises MachineError if it is missing."""
    module = f"rudder.agents.learned.{kind if kind in _CLASSES else 'scikit'}"
    name, _ = _CLASSES.get(kind, ("ScikitClassifier", ""))
    try:
        found: type[Classifier] = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise MachineError(
            f"planner {kind} needs the package {error.name}, which is not installed",
            remedy=f"pip install 'rudder-gnn[{kind}]', or choose lr, rf, svm or mlp",
        ) from None
    return found


def measure(classifier: Classifier, *, train: Examples, test: Examples) -> Metrics:
    """train: what the classifier has learned from; test: of other runs, with both classes."""
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

    probabilities = classifier.probabilities(test.x)
    said = probabilities > THRESHOLD
    return Metrics(
        accuracy=float(accuracy_score(test.y, said)),
        balanced_accuracy=float(balanced_accuracy_score(test.y, said)),
        roc_auc=float(roc_auc_score(test.y, probabilities)),
        base_rate=float(test.y.mean()),
        train_runs=train.num_runs,
        test_runs=test.num_runs,
        train_episodes=len(train),
        test_episodes=len(test),
    )


def write_model(
    path: Path,
    classifier: Classifier,
    *,
    planner: ClassifierName,
    seed: int,
    metrics: Metrics,
    examples: Examples,
) -> Header:
    """Write the file, then replace the one that was there; raises OSError."""
    packed = io.BytesIO()
    np.savez(packed, x=examples.x, y=examples.y)
    model, kept = classifier.dump(), packed.getvalue()
    header = Header(
        planner=planner,
        features=FEATURES,
        library=_library(planner),
        seed=seed,
        metrics=metrics,
        model_sha256=hashlib.sha256(model).hexdigest(),
        examples_sha256=hashlib.sha256(kept).hexdigest(),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(_HEADER, header.model_dump_json(indent=2))
        file.writestr(_MODEL, model)
        file.writestr(_EXAMPLES, kept)
    part.replace(path)
    return header


def read_header(path: Path, *, planner: ClassifierName | None = None) -> Header:
    """What the file says it is; needs no library, so that it can be read before a run starts.

    planner: what it should be; None: anything. Raises DataError.
    """
    try:
        header = Header.model_validate_json(_part(path, _HEADER))
    except ValidationError:
        raise _unusable(path, "its header is not one of ours") from None
    if planner is not None and header.planner != planner:
        raise DataError(
            f"{path} holds a model of {header.planner}, not of {planner}",
            remedy=f"give --planner {header.planner}, or another file",
        )
    if header.features != FEATURES:
        raise _unusable(path, "it was fitted to other features than this version has")
    return header


def read_model(path: Path, *, planner: ClassifierName | None = None) -> Model:
    """The whole file, checked; raises DataError, and MachineError if a library is missing."""
    header = read_header(path, planner=planner)
    model, kept = _part(path, _MODEL), _part(path, _EXAMPLES)
    for part, sha256 in ((model, header.model_sha256), (kept, header.examples_sha256)):
        if hashlib.sha256(part).hexdigest() != sha256:
            raise _unusable(path, "a part does not have the checksum in the header")
    kind, here = header.planner, _library(header.planner)
    # The internals of scikit-learn, and so a model's answers, change between minor versions.
    if kind not in _CLASSES and _minor(header.library) != _minor(here):
        raise DataError(
            f"{path} was made with {header.library}; installed is {here}",
            remedy=f"fit it again: rudder fit --planner {kind} --out {path}",
        )
    try:
        classifier = classifier_class(kind).load(kind, model, seed=header.seed)
        return Model(header, classifier, _unpacked(kept))
    except ForeignModelError as error:
        raise _unusable(path, str(error)) from None


def _library(kind: ClassifierName) -> str:
    _, package = _CLASSES.get(kind, ("", "scikit-learn"))
    return f"{package} {importlib.metadata.version(package)}"


def _minor(library: str) -> str:
    return library.rpartition(".")[0]


def _part(path: Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as file:
            if file.getinfo(name).file_size > _MOST_BYTES:
                raise _unusable(path, "it is far too large")
            with file.open(name) as part:
                return part.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise DataError(
            f"there is no model {path}", remedy="make one: rudder fit --planner rf --out FILE"
        ) from None
    except _UNREADABLE as error:
        raise _unusable(path, f"it cannot be unpacked ({type(error).__name__})") from None


def _unusable(path: Path, reason: str) -> DataError:
    return DataError(
        f"{path} is no model that can be used: {reason}",
        remedy="give a file that `rudder fit` of this version wrote, or fit again",
    )


def _unpacked(data: bytes) -> Examples:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            x, y = arrays["x"], arrays["y"]
    except Exception as error:  # any part of a foreign file may be missing or of another type
        raise ForeignModelError(type(error).__name__) from None
    if x.dtype != np.float32 or y.dtype != np.bool_ or x.shape != (*y.shape, len(FEATURES)):
        raise ForeignModelError("its examples have another shape")
    if not np.isfinite(x).all():
        raise ForeignModelError("its examples hold values that are not numbers")
    return Examples(x, y)
