"""The user's own graph as the arrays of one `.npz` file; docs/datasets.md has the format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rudder.training.datasets.checks import check_told_apart
from rudder.training.datasets.graph import BoolArray, FeatureArray, Graph, IntArray
from rudder.training.errors import ARCHIVE_ERRORS, DataError

SPLITS = ("train", "val", "test")
_NPZ_REQUIRED = ("src", "dst", "features", "labels")
_NPZ_OPTIONAL = ("num_classes", "seed_phase", "weight")
_SEE_DOCS = "docs/datasets.md describes the format"

Arrays = Mapping[str, npt.NDArray[Any]]


def load_npz(path: Path) -> Graph:
    """Read a graph from the arrays of an `.npz` file; raises DataError if it is no such file."""
    arrays = _read_npz(path)
    allowed = {
        *_NPZ_REQUIRED,
        *_NPZ_OPTIONAL,
        *(f"{s}_{k}" for s in SPLITS for k in ("mask", "idx")),
    }
    if unknown := sorted(set(arrays) - allowed):
        raise DataError(
            f"{path}: {unknown[0]} is not an array of this format; allowed: {sorted(allowed)}",
            remedy=f"rename or leave out {unknown[0]}; {_SEE_DOCS}",
        )
    features = _features(path, _array(path, arrays, "features"))
    labels = _array(path, arrays, "labels")
    multilabel = labels.ndim == 2
    train, val, test = (_npz_mask(path, arrays, split, len(features)) for split in SPLITS)
    return Graph(
        name=f"npz:{path.name}",
        src=_whole(path, "src", _array(path, arrays, "src")),
        dst=_whole(path, "dst", _array(path, arrays, "dst")),
        features=features,
        labels=_labels(path, labels),
        train_mask=train,
        val_mask=val,
        test_mask=test,
        num_classes=_num_classes(path, arrays, labels),
        multilabel=multilabel,
        weight=_weights(path, arrays["weight"]) if "weight" in arrays else None,
        seed_phase=_whole(path, "seed_phase", arrays["seed_phase"])
        if "seed_phase" in arrays
        else None,
        source={"file": str(path)},
    )


def _read_npz(path: Path) -> Arrays:
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise DataError(f"there is no file {path}", remedy="check the path after npz:") from None
    except ARCHIVE_ERRORS as error:
        raise DataError(
            f"{path} is not a readable .npz file: {error}",
            remedy=f"write it with numpy.savez (no object arrays); {_SEE_DOCS}",
        ) from None


def _array(path: Path, arrays: Arrays, name: str) -> npt.NDArray[Any]:
    if name in arrays:
        return arrays[name]
    raise DataError(
        f"{path} has no array {name!r}; it has: {sorted(arrays)}",
        remedy=f"add {name}; {_SEE_DOCS}",
    )


def _whole(path: Path, name: str, values: npt.NDArray[Any]) -> IntArray:
    """Integers as int64; refuses floats, which would be cut off, and what int64 cannot hold."""
    if np.issubdtype(values.dtype, np.integer):
        if values.size and values.max() > np.iinfo(np.int64).max:
            raise DataError(
                f"{path}: {name} holds {values.max()}; allowed: at most {np.iinfo(np.int64).max}",
                remedy="use smaller numbers (-1, not the largest uint64, marks a missing label)",
            )
        return values.astype(np.int64)
    raise DataError(
        f"{path}: {name} has dtype {values.dtype}; allowed: an integer dtype",
        remedy=f"convert {name} to int64",
    )


def _numbers(path: Path, values: npt.NDArray[Any], name: str = "labels") -> npt.NDArray[np.float32]:
    if values.dtype == np.bool_ or values.dtype.kind in "iuf":
        with np.errstate(over="ignore"):  # the check for finite numbers names what overflows
            return values.astype(np.float32)
    raise DataError(
        f"{path}: {name} has dtype {values.dtype}; allowed: real numbers", remedy=f"encode {name}"
    )


def _features(path: Path, values: npt.NDArray[Any]) -> FeatureArray:
    if values.dtype == np.float16:
        return values
    stored = _numbers(path, values, "features")
    if stored.ndim == 2 and np.isfinite(stored).all():
        for place in range(stored.shape[1]):
            check_told_apart(values[:, place], stored.dtype, where=f"{path}: features[:, {place}]")
    return stored


def _labels(path: Path, values: npt.NDArray[Any]) -> IntArray | npt.NDArray[np.float32]:
    """Classes, sets of classes, or numbers to predict, which have fractions."""
    if values.ndim == 2:
        return _numbers(path, values)
    if not _has_fractions(values):
        return _whole(path, "labels", values)
    check_told_apart(values[np.isfinite(values)], np.dtype(np.float32), where=f"{path}: labels")
    return _numbers(path, values)


def _has_fractions(values: npt.NDArray[Any]) -> bool:
    return values.dtype.kind == "f" and bool((values[np.isfinite(values)] % 1 != 0).any())


def _weights(path: Path, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    stored = _numbers(path, values, "weight")
    if np.isfinite(stored).all():
        check_told_apart(values, stored.dtype, where=f"{path}: weight")
    return stored


def _npz_mask(path: Path, arrays: Arrays, split: str, num_nodes: int) -> BoolArray:
    """`train_mask`, or `train_idx` turned into one; an absent val is an empty one."""
    given = [name for name in (f"{split}_mask", f"{split}_idx") if name in arrays]
    if len(given) == 2 or (not given and split != "val"):
        raise DataError(
            f"{path} has {' and '.join(given) or 'no nodes'} for the {split} split; "
            f"allowed: either {split}_mask or {split}_idx",
            remedy=f"give one of the two; {_SEE_DOCS}",
        )
    if given == [f"{split}_mask"]:
        return _mask_array(path, given[0], arrays[given[0]])
    mask = np.zeros(num_nodes, dtype=np.bool_)
    if given:
        ids = _whole(path, given[0], arrays[given[0]])
        _check_ids(path, given[0], ids, num_nodes)
        if repeated := ids.size - len(np.unique(ids)):
            raise DataError(
                f"{path}: {given[0]} names nodes again that it has named ({repeated:,} such)",
                remedy="name each node once: numpy.unique",
            )
        mask[ids] = True
    return mask


def _mask_array(path: Path, name: str, values: npt.NDArray[Any]) -> BoolArray:
    if values.dtype == np.bool_ or (
        np.issubdtype(values.dtype, np.integer) and np.isin(values, (0, 1)).all()
    ):
        return values.astype(np.bool_)
    raise DataError(
        f"{path}: {name} has dtype {values.dtype} or values other than 0 and 1; allowed: bool",
        remedy=f"write {name} as a bool array with one entry per node, or give node ids as "
        f"{name.replace('mask', 'idx')}",
    )


def _check_ids(path: Path, name: str, ids: IntArray, num_nodes: int) -> None:
    bad = (ids < 0) | (ids >= num_nodes)
    if bad.any():
        position = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"{path}: {name}[{position}] = {ids[position]} is not allowed; "
            f"allowed: node ids 0 to {num_nodes - 1}",
            remedy="number the nodes from 0 without gaps, in the order of the feature rows",
        )


def _num_classes(path: Path, arrays: Arrays, labels: npt.NDArray[Any]) -> int:
    if "num_classes" in arrays:
        given = _whole(path, "num_classes", arrays["num_classes"])
        if given.size != 1:
            raise DataError(
                f"{path}: num_classes has shape {list(given.shape)}; allowed: one number",
                remedy="write num_classes as one integer",
            )
        return int(given.reshape(()))
    if labels.ndim == 2:
        return int(labels.shape[1])
    if _has_fractions(labels):
        return 0
    return int(labels.max()) + 1 if labels.size else 0
