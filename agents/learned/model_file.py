"""A fitted classifier in a file: a zip of a header, the model in its library's own format, and
what it has learned from. Nothing in it is ever executed; a pickle has no place in it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rudder.agents.learned.classifiers import Classifier, DamagedError, load_classifier
from rudder.agents.learned.examples import FEATURES, Examples
from rudder.training.errors import DataError
from rudder.training.steering_options import ClassifierName

THRESHOLD = 0.5
"""From which probability on a change is said to help."""


class Metrics(BaseModel):
    """On the test runs: accuracies with the threshold, ROC AUC without one; base rate: share of
    the changes that helped, so that max(base_rate, 1 - base_rate) is what a constant gets right."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    accuracy: float = Field(ge=0, le=1)
    balanced_accuracy: float = Field(ge=0, le=1)
    roc_auc: float = Field(ge=0, le=1)
    base_rate: float = Field(ge=0, le=1)
    train_runs: int = Field(ge=1)
    test_runs: int = Field(ge=1)
    train_episodes: int = Field(ge=1)
    test_episodes: int = Field(ge=1)


def measure(classifier: Classifier, *, train: Examples, test: Examples) -> Metrics:
    """train: what the classifier has learned from; test: of other runs, with both kinds."""
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


_HEADER, _MODEL, _EXAMPLES = "header.json", "model", "examples.npz"
_FOREIGN = (OSError, EOFError, KeyError, ValueError, RuntimeError, NotImplementedError)
"""What unpacking a foreign file may end in, beside an error of zip itself."""
_MOST_BYTES = 2**28
"""Of one part, unpacked."""
_PACKAGES: dict[ClassifierName, str] = {"xgb": "xgboost", "tabnet": "pytorch-tabnet"}


class Header(BaseModel):
    """What a model is, readable without its library.

    library: name and version that made it; model_sha256, examples_sha256: of the other parts.
    """

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


def library_of(planner: ClassifierName) -> str:
    """Name and version of what is installed; raises importlib.metadata.PackageNotFoundError."""
    package = _PACKAGES.get(planner, "scikit-learn")
    return f"{package} {importlib.metadata.version(package)}"


def write_model(
    path: Path,
    classifier: Classifier,
    *,
    planner: ClassifierName,
    seed: int,
    metrics: Metrics,
    examples: Examples,
) -> Header:
    """Write, replacing what was there only once all of it is written; raises OSError."""
    model, kept = classifier.dump(), _packed(examples)
    header = Header(
        planner=planner,
        features=FEATURES,
        library=library_of(planner),
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
    """What the file says it is; needs no library, so that it can be asked before a run starts.

    planner: what it should be, None: anything. Raises DataError.
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
    """The whole file, checked; raises DataError, and MachineError where a library is missing."""
    header = read_header(path, planner=planner)
    model, kept = _part(path, _MODEL), _part(path, _EXAMPLES)
    for part, sha256 in ((model, header.model_sha256), (kept, header.examples_sha256)):
        if hashlib.sha256(part).hexdigest() != sha256:
            raise _unusable(path, "a part does not have the checksum in the header")
    _check_library(path, header)
    try:
        classifier = load_classifier(header.planner, model, seed=header.seed)
        return Model(header, classifier, _unpacked(kept))
    except DamagedError as error:
        raise _unusable(path, str(error)) from None


def _check_library(path: Path, header: Header) -> None:
    """scikit-learn's inner workings change between versions, and so would the model's answers."""
    if header.planner in _PACKAGES:
        return
    made, here = header.library, library_of(header.planner)
    if made.rpartition(".")[0] != here.rpartition(".")[0]:
        raise DataError(
            f"{path} was made with {made}; installed is {here}",
            remedy=f"fit it again: rudder fit --planner {header.planner} --out {path}",
        )


def _part(path: Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as file:
            if file.getinfo(name).file_size > _MOST_BYTES:
                raise _unusable(path, "it is far too large")
            with file.open(name) as part:
                data = part.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise DataError(
            f"there is no model {path}", remedy="make one: rudder fit --planner rf --out FILE"
        ) from None
    except (zipfile.BadZipFile, zlib.error, *_FOREIGN) as error:
        raise _unusable(path, f"it cannot be unpacked ({type(error).__name__})") from None
    return data


def _unusable(path: Path, reason: str) -> DataError:
    return DataError(
        f"{path} is no model that can be used: {reason}",
        remedy="give a file that `rudder fit` of this version wrote, or fit again",
    )


def _packed(examples: Examples) -> bytes:
    file = io.BytesIO()
    np.savez(file, x=examples.x, y=examples.y)
    return file.getvalue()


def _unpacked(data: bytes) -> Examples:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            x, y = arrays["x"], arrays["y"]
    except Exception as error:  # any part of a foreign file may be missing or of another type
        raise DamagedError(type(error).__name__) from None
    if x.dtype != np.float32 or y.dtype != np.bool_ or x.shape != (*y.shape, len(FEATURES)):
        raise DamagedError("its examples are of another shape")
    if not np.isfinite(x).all():
        raise DamagedError("its examples are no numbers")
    return Examples(x, y)
