"""A fitted classifier in a file: a zip of a header, the model in its library's format, and its
examples. Nothing in it is executed, and it holds no pickle."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from rudder.agents.learned.examples import FEATURES, Counts, Examples, read_examples, split
from rudder.training.errors import DataError, MachineError
from rudder.training.steering_options import ClassifierName

if TYPE_CHECKING:
    from rudder.agents.learned.classifier import Classifier

THRESHOLD = 0.5
"""A change is said to help if its probability is higher."""
_HEADER, _MODEL, _EXAMPLES = "header.json", "model", "examples.npz"
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, ValueError, RuntimeError,
)  # fmt: skip
"""What unpacking a foreign file may raise; NotImplementedError is a RuntimeError."""
_MOST_BYTES = 2**28
"""Of one part, unpacked."""
_PACKAGES: dict[ClassifierName, str] = {"xgb": "xgboost", "tabnet": "pytorch-tabnet"}
"""Of the kinds that scikit-learn does not have."""


class Metrics(BaseModel):
    """On runs that the classifier has not seen. base_rate: share of the changes that helped, so
    that a constant answer has an accuracy of max(base_rate, 1 - base_rate)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    accuracy: float
    balanced_accuracy: float
    roc_auc: float
    base_rate: float
    train_runs: int
    test_runs: int
    train_episodes: int
    test_episodes: int


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
    """examples: what the classifier has learned from, to learn more while a run goes on."""

    header: Header
    classifier: Classifier
    examples: Examples

    @property
    def name(self) -> str:
        """Kind and version, for the record."""
        return f"{self.header.planner}:{self.header.model_sha256[:8]}"


@dataclass(frozen=True)
class Fitted:
    """counts: episodes of the memory by label."""

    header: Header
    counts: Counts


def fit(memory: Path, *, planner: ClassifierName, out: Path, seed: int = 0) -> Fitted:
    """Fit on three quarters of the memory's runs, measure on the others, and write the model.

    Deterministic for one machine, memory and seed. Raises DataError if the memory has too little,
    MachineError if the classifier's library is missing.
    """
    classifier = new_classifier(planner, seed=seed)
    examples, counts = read_examples(memory)
    train, test = split(examples, seed=seed)
    classifier.fit(train)
    packed = io.BytesIO()
    np.savez(packed, x=train.x, y=train.y)
    model, kept = classifier.dump(), packed.getvalue()
    header = Header(
        planner=planner,
        features=FEATURES,
        library=_library(planner),
        seed=seed,
        metrics=measure(classifier, train=train, test=test),
        model_sha256=hashlib.sha256(model).hexdigest(),
        examples_sha256=hashlib.sha256(kept).hexdigest(),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(_HEADER, header.model_dump_json(indent=2))
        file.writestr(_MODEL, model)
        file.writestr(_EXAMPLES, kept)
    part.replace(out)
    return Fitted(header, counts)


def new_classifier(kind: ClassifierName, *, seed: int) -> Classifier:
    """Imports the library of this kind alone; raises MachineError if it is missing."""
    try:
        if kind == "tabnet":
            from rudder.agents.learned.tabnet import TabNet

            return TabNet(kind, seed=seed)
        from rudder.agents.learned.classifier import Classifier

        return Classifier(kind, seed=seed)
    except ModuleNotFoundError as error:
        raise MachineError(
            f"planner {kind} needs the package {error.name}, which is not installed",
            remedy=f"pip install 'rudder-gnn[{kind}]', or choose lr, rf, svm or mlp",
        ) from None


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


def read_header(path: Path, *, planner: ClassifierName | None = None) -> Header:
    """What the file says it is; needs no library, so that it can be read before a run starts.

    planner: what it should be; None: anything. Raises DataError.
    """
    try:
        header = Header.model_validate_json(_parts(path, _HEADER)[0])
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
    model, kept = parts = _parts(path, _MODEL, _EXAMPLES)
    checksums = [hashlib.sha256(part).hexdigest() for part in parts]
    if checksums != [header.model_sha256, header.examples_sha256]:
        raise _unusable(path, "a part does not have the checksum in the header")
    kind, here = header.planner, _library(header.planner)
    # The internals of a library, and so a model's answers, change between minor versions.
    if header.library.rpartition(".")[0] != here.rpartition(".")[0]:
        raise DataError(
            f"{path} was made with {header.library}; installed is {here}",
            remedy=f"fit it again: rudder fit --planner {kind} --out {path}",
        )
    classifier = new_classifier(kind, seed=header.seed)
    try:
        classifier.load(model)
        with np.load(io.BytesIO(kept), allow_pickle=False) as arrays:
            examples = Examples(arrays["x"], arrays["y"])
    except Exception as error:  # any part of a foreign file may be missing or of another type
        raise _unusable(path, str(error) or type(error).__name__) from None
    if examples.x.dtype != np.float32 or examples.x.shape != (len(examples), len(FEATURES)):
        raise _unusable(path, "its examples have another shape")
    return Model(header, classifier, examples)


def _library(kind: ClassifierName) -> str:
    package = _PACKAGES.get(kind, "scikit-learn")
    return f"{package} {importlib.metadata.version(package)}"


def _parts(path: Path, *names: str) -> list[bytes]:
    try:
        with zipfile.ZipFile(path) as file:
            if any(file.getinfo(name).file_size > _MOST_BYTES for name in names):
                raise _unusable(path, "it is far too large")
            return [file.read(name) for name in names]
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
