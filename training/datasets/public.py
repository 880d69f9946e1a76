"""Public datasets, read with the libraries `ogb` and `dgl.data`.

Each loader uses the library's files where they lie, and lets the library fetch them where not.
"""

from __future__ import annotations

import errno
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from platformdirs import user_cache_path

from rudder.training.datasets.graph import UNLABELLED, BoolArray, Graph, IntArray
from rudder.training.errors import DataError, MachineError
from rudder.training.repeating import repeating

OGB_DIR_VARIABLE = "RUDDER_OGB_DIR"
"""Environment variable with the folder that holds `ogbn_arxiv` and the like."""
_SECONDS_BETWEEN_NEWS = 5.0
_LIBRARY_ERRORS = (
    EOFError,
    LookupError,
    RuntimeError,
    SystemExit,
    UserWarning,
    ValueError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


def load_ogb(name: str, *, progress: Callable[[str], None], root: Path | None = None) -> Graph:
    """Read an OGB graph; `root` is the folder of OGB's dataset folders.

    Raises MachineError where `ogb` is not installed, DataError where the files are neither there
    nor to be had.
    """
    root = root or Path(os.environ.get(OGB_DIR_VARIABLE) or user_cache_path("rudder") / "ogb")
    dataset_class = _ogb_dataset_class()
    folder = root / name.replace("-", "_")
    if not folder.exists():
        progress(f"fetching {name} to {folder}")
    by_hand = (
        f'run `python -c "from ogb.nodeproppred import NodePropPredDataset as D; '
        f"D('{name}', root='{root}')\"` in a terminal once (it asks before a big download), "
        f"or set {OGB_DIR_VARIABLE} to the folder that holds {folder.name}"
    )
    with _reading(name, remedy=by_hand), _telling_growth(root, progress):
        dataset = dataset_class(name=name, root=str(root))
        content, labels = dataset[0]
        split = dataset.get_idx_split()
    return graph_from_ogb(name, content, labels, split, num_classes=dataset.num_classes)


def graph_from_ogb(
    name: str,
    content: Mapping[str, Any],
    labels: npt.NDArray[Any],
    split: Mapping[str, npt.NDArray[Any]],
    *,
    num_classes: int,
) -> Graph:
    """Convert what `ogb.nodeproppred.NodePropPredDataset` gives; a NaN label means none."""
    src, dst = np.asarray(content["edge_index"], dtype=np.int64)
    num_nodes = int(content["num_nodes"])
    flat = np.asarray(labels).reshape(-1)
    known = np.isfinite(flat)
    return Graph(
        name=f"ogb:{name}",
        src=src,
        dst=dst,
        features=np.asarray(content["node_feat"]),
        labels=np.where(known, np.where(known, flat, 0), UNLABELLED).astype(np.int64),
        train_mask=_mask(split["train"], num_nodes),
        val_mask=_mask(split["valid"], num_nodes),
        test_mask=_mask(split["test"], num_nodes),
        num_classes=num_classes,
        source={"library": "ogb"},
    )


def load_dgl(
    name: Literal["reddit", "yelp"], *, progress: Callable[[str], None], root: Path | None = None
) -> Graph:
    """Read Reddit or Yelp; `root` is DGL's download folder (default: DGL's own, ~/.dgl).

    Raises DataError where the files are neither there nor to be had.
    """
    import dgl.data
    from dgl.data.utils import get_download_dir

    folder = root or Path(get_download_dir())
    dataset_class = {"reddit": dgl.data.RedditDataset, "yelp": dgl.data.YelpDataset}[name]
    progress(f"reading {name} with dgl.data (it fetches what is missing)")
    remedy = f"check the network, or copy DGL's folder of {name} from elsewhere to {folder}"
    with _reading(name, remedy=remedy), _telling_growth(folder, progress):
        dataset = dataset_class(raw_dir=str(folder))
        return graph_from_dgl(
            name, dataset[0], num_classes=dataset.num_classes, multilabel=name == "yelp"
        )


def graph_from_dgl(name: str, content: Any, *, num_classes: int, multilabel: bool) -> Graph:
    """Convert a homogeneous DGLGraph with feat, label and the three masks as node data."""
    src, dst = (ids.numpy().astype(np.int64) for ids in content.edges())
    data = {key: value.numpy() for key, value in content.ndata.items()}
    return Graph(
        name=name,
        src=src,
        dst=dst,
        features=data["feat"],
        labels=data["label"].astype(np.float32 if multilabel else np.int64),
        train_mask=data["train_mask"].astype(np.bool_),
        val_mask=data["val_mask"].astype(np.bool_),
        test_mask=data["test_mask"].astype(np.bool_),
        num_classes=num_classes,
        multilabel=multilabel,
        source={"library": "dgl.data"},
    )


def _ogb_dataset_class() -> Any:
    os.environ.setdefault("OUTDATED_IGNORE", "1")
    try:
        from ogb.nodeproppred import NodePropPredDataset
    except ImportError as error:
        raise MachineError(
            f"ogb datasets need the package ogb: {error}",
            remedy="pip install 'rudder-gnn[public]'",
        ) from None
    return NodePropPredDataset


def _mask(ids: npt.NDArray[Any], num_nodes: int) -> BoolArray:
    nodes: IntArray = np.asarray(ids, dtype=np.int64)
    mask = np.zeros(num_nodes, dtype=np.bool_)
    mask[nodes] = True
    return mask


@contextmanager
def _telling_growth(folder: Path, progress: Callable[[str], None]) -> Iterator[None]:
    """Tell now and then how much a download has brought into `folder`."""
    at_first = last = _num_bytes(folder)

    def look() -> None:
        nonlocal last
        if (now := _num_bytes(folder)) > last:
            progress(f"{(now - at_first) / 2**20:,.0f} MiB more in {folder}")
        last = now

    with repeating(look, every_s=_SECONDS_BETWEEN_NEWS, name="rudder-download"):
        yield


def _num_bytes(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # a library may take its temporary files away meanwhile
                total += (Path(parent) / name).stat().st_size
    return total


@contextmanager
def _reading(name: str, *, remedy: str) -> Iterator[None]:
    """Answer for the libraries, which fail in many ways where a download or a file is broken.

    ogb asks on standard input before it fetches much; without a terminal that is an EOFError,
    and it exits if the answer is no.
    """
    try:
        yield
    except (DataError, MemoryError):
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _unreadable(name, error, remedy) from error
    except _LIBRARY_ERRORS as error:
        raise _unreadable(name, error, remedy) from error


def _unreadable(name: str, error: BaseException, remedy: str) -> DataError:
    first_line = (str(error).splitlines() or [""])[0]
    return DataError(
        f"{name} can be neither read nor fetched: {type(error).__name__}: {first_line}",
        remedy=remedy,
    )
