"""The process that loads and cuts a graph: `python -m rudder.training.partition.worker`.

It is a process of its own so that METIS can be interrupted, its memory goes back to the machine
and what DGL prints goes to a log. Standard output has one WorkerMessage a line and no more.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import xxhash

from rudder.training.checksums import StoredFile, stored_files
from rudder.training.datasets.checks import check_told_apart
from rudder.training.datasets.graph import FeatureArray, Graph, IntArray
from rudder.training.datasets.registry import DatasetSpec, load_dataset
from rudder.training.errors import ConfigError, DataError, MachineError, RudderError
from rudder.training.machine import die_with
from rudder.training.manifest import (
    LOG_NAME,
    NODE_IDS,
    FeatureDtype,
    Manifest,
    PartIdentity,
    PartSizes,
    Recipe,
)
from rudder.training.progress import Count, Counted, uncounted
from rudder.training.repeating import repeating
from rudder.training.settings import Frozen

_BYTES_PER_EDGE = 26 + 4
"""What DistDGL stores for an edge: both ends, its global id, if it is an inner one, its weight."""
_BYTES_PER_NODE = 25 + 19
"""For a node: in the structure, and its label, phase and masks."""
_OTHER_CUT = "use fewer parts, or --method random, which leaves none empty but cuts many edges"
_LOOK_SECONDS = 0.5
_SPARE = 1.3
"""Halo nodes and cut edges stand in more than one part."""
_ERRORS: dict[str, type[ConfigError | DataError | MachineError]] = {
    kind.__name__: kind for kind in (ConfigError, DataError, MachineError)
}


def write_partitions(
    graph: Graph,
    recipe: Recipe,
    directory: Path,
    *,
    progress: Callable[[str], None],
    count: Count = uncounted,
) -> Manifest:
    """Write `graph` as `recipe.num_parts` partitions into `directory`, and the manifest.

    Node data: feat, label, train_mask, val_mask, test_mask and, where the graph has it,
    seed_phase. DistDGL gives nodes new ids, contiguous in a partition.

    Raises ConfigError for more parts than training nodes or a feature that float16 cannot hold,
    DataError where METIS finds no partition, MachineError where disk or memory do not suffice.
    """
    _check_parts(graph, recipe.num_parts)
    features = _cast(graph, recipe.feature_dtype)
    _check_space(graph, features, directory)
    how = {"metis": "with METIS, which does not tell how far it is", "random": "at random"}
    size = f"{graph.num_nodes:,} nodes and {graph.num_edges:,} edges"
    progress(f"cutting {size} {how[recipe.method]}")
    name = DatasetSpec.parse(recipe.dataset).slug
    with _counting_parts(directory, recipe.num_parts, count):
        original_ids = _partition(graph, features, name, recipe, directory)
    np.save(directory / NODE_IDS, original_ids)
    progress("reading back what was written")
    bounds = _read_back(directory / f"{name}.json", recipe, features, count=count)
    part_of = np.empty(graph.num_nodes, dtype=np.int64)
    part_of[original_ids] = np.repeat(np.arange(recipe.num_parts), np.diff(bounds))
    manifest = _manifest(graph, recipe, name, part_of, directory)
    manifest.write(directory)
    return manifest


def _check_parts(graph: Graph, num_parts: int) -> None:
    num_train = int(graph.train_mask.sum())
    if num_parts > num_train:
        raise ConfigError.for_field(
            "num_parts", value=num_parts, allowed=f"1 to {num_train}, the number of training nodes"
        )


def _cast(graph: Graph, dtype: FeatureDtype) -> FeatureArray:
    with np.errstate(over="ignore"):
        features: FeatureArray = np.ascontiguousarray(graph.features, dtype=dtype)
    if features.itemsize < graph.features.itemsize and not np.isfinite(features).all():
        raise ConfigError(
            f"feature_dtype = {dtype!r} is not allowed for {graph.name}: its features reach "
            f"{np.abs(graph.features).max():.3g}, {dtype} ends at {np.finfo(dtype).max:.3g}",
            remedy="use --feature-dtype float32, or scale the features",
        )
    for place in range(features.shape[1]):
        where = f"{graph.name}: features[:, {place}]"
        check_told_apart(graph.features[:, place], features.dtype, where=where)
    return features


def _check_space(graph: Graph, features: FeatureArray, directory: Path) -> None:
    needed = int(
        features.nbytes
        + graph.labels.nbytes
        + _SPARE * (graph.num_edges * _BYTES_PER_EDGE + graph.num_nodes * _BYTES_PER_NODE)
    )
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise MachineError(
            f"{directory.parent} has {free / 2**20:,.0f} MiB free; the partitions of {graph.name} "
            f"need about {needed / 2**20:,.0f} MiB",
            remedy="free space, or choose another folder with --out or RUDDER_DATA",
        )


def _partition(
    graph: Graph, features: FeatureArray, name: str, recipe: Recipe, directory: Path
) -> IntArray:
    """Run METIS and write the parts; the original id of each node in its new order, int64[N]."""
    import dgl
    import dgl.distributed

    split = graph.train_mask * 1 + graph.val_mask * 2 + graph.test_mask * 3
    # DGL draws the parts of `random` from a generator that differs from call to call.
    dgl.distributed.partition.random_choice = lambda parts, _: _tensor(
        _random_parts(split, parts, seed=recipe.seed)
    )
    try:
        new_order, _ = dgl.distributed.partition_graph(
            _as_dgl(graph, features),
            name,
            recipe.num_parts,
            str(directory),
            num_hops=1,
            part_method=recipe.method,
            balance_ntypes=_tensor(split) if recipe.balance else None,
            balance_edges=recipe.balance,
            return_mapping=True,
        )
    except (dgl.DGLError, AssertionError, LookupError, TypeError, RuntimeError) as error:
        raise _explained(error, recipe, directory) from error
    ids: IntArray = new_order.numpy()
    return ids


@contextmanager
def _counting_parts(directory: Path, num_parts: int, count: Count) -> Iterator[None]:
    """Tell, within the block, how many parts are written once the first one is."""

    def look() -> None:
        if done := sum(1 for _ in directory.glob("part*/graph.dgl")):
            count(Counted(what="writing", done=done, total=num_parts, unit="parts"))

    with repeating(look, every_s=_LOOK_SECONDS, name="rudder-parts"):
        yield


def _random_parts(split: IntArray, num_parts: int, *, seed: int) -> IntArray:
    """A part for each node: each split is dealt out in random order, so that no part is empty."""
    order = np.random.default_rng(seed).permutation(len(split))
    parts = np.empty(len(split), dtype=np.int64)
    parts[order[np.argsort(split[order], kind="stable")]] = np.arange(len(split)) % num_parts
    return parts


def _as_dgl(graph: Graph, features: FeatureArray) -> Any:
    import dgl

    result = dgl.graph((_tensor(graph.src), _tensor(graph.dst)), num_nodes=graph.num_nodes)
    result.ndata["feat"] = _tensor(features)
    result.ndata["label"] = _tensor(graph.labels)
    for name, mask in graph.masks.items():
        result.ndata[name] = _tensor(mask)
    if graph.weight is not None:
        result.edata["weight"] = _tensor(graph.weight)
    if graph.seed_phase is not None:
        result.ndata["seed_phase"] = _tensor(graph.seed_phase)
    return result


def _tensor(array: Any) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(array))


def _explained(error: Exception, recipe: Recipe, directory: Path) -> Exception:
    """What the user can do about a failure inside DGL."""
    text = str(error)
    first_line = (text.splitlines() or [type(error).__name__])[0]
    if "FileStream.Write" in text:
        return disk_full(directory)
    if "alloc" in text:
        return MachineError(
            f"not enough memory to cut the graph: {first_line}",
            remedy="use a machine with more memory, or --feature-dtype float16",
        )
    if isinstance(error, KeyError) or "HeteroSubgraph" in text:  # DGL looks up a part without nodes
        return _empty_part(recipe)
    return DataError(
        f"DGL could not cut {recipe.dataset} into {recipe.num_parts} parts: {first_line}",
        remedy=_OTHER_CUT,
    )


def _empty_part(recipe: Recipe) -> DataError:
    return DataError(
        f"METIS leaves a part empty when it cuts {recipe.dataset} into {recipe.num_parts}",
        remedy=_OTHER_CUT,
    )


def disk_full(directory: Path) -> MachineError:
    """The error for a disk that filled up while partitions were written."""
    free = shutil.disk_usage(directory).free
    return MachineError(
        f"the disk of {directory.parent} is full ({free / 2**20:,.0f} MiB free)",
        remedy="free space, or choose another folder with --out or RUDDER_DATA",
    )


def _read_back(
    part_config: Path, recipe: Recipe, features: FeatureArray, *, count: Count
) -> IntArray:
    """Load every part, since DGL does not notice a failing last write; the first id of each.

    Returns int64[num_parts + 1].
    """
    import dgl
    import dgl.distributed

    bounds = [0]
    for part in range(recipe.num_parts):
        try:
            structure, node_data, *_ = dgl.distributed.load_partition(str(part_config), part)
        except (dgl.DGLError, RuntimeError, OSError) as error:
            raise disk_full(part_config.parent) from error
        stored = node_data["_N/feat"].numpy()
        assert stored.dtype == features.dtype, "DGL changed the features' dtype"
        assert int(structure.ndata["inner_node"].sum()) == len(stored), "DGL lost features"
        if not len(stored):
            raise _empty_part(recipe)
        bounds.append(bounds[-1] + len(stored))
        what, total = "reading back", recipe.num_parts
        count(Counted(what=what, done=part + 1, total=total, unit="parts"))
    return np.array(bounds, dtype=np.int64)


def _manifest(
    graph: Graph, recipe: Recipe, name: str, part_of: IntArray, directory: Path
) -> Manifest:
    src_part, dst_part = part_of[graph.src], part_of[graph.dst]
    written = (path for path in directory.rglob("*") if path.is_file() and path.name != LOG_NAME)
    files = stored_files(directory, sorted(written))
    preparation = _preparation(recipe, files)
    identities = [
        PartIdentity(preparation=preparation, part=part).write(directory / f"part{part}")
        for part in range(recipe.num_parts)
    ]
    return Manifest(
        **recipe.model_dump(),
        graph_name=name,
        num_nodes=graph.num_nodes,
        num_edges=graph.num_edges,
        feature_dim=graph.feature_dim,
        num_classes=graph.num_classes,
        multilabel=graph.multilabel,
        has_seed_phase=graph.seed_phase is not None,
        num_train=int(graph.train_mask.sum()),
        num_val=int(graph.val_mask.sum()),
        num_test=int(graph.test_mask.sum()),
        num_cut_edges=int((src_part != dst_part).sum()),
        parts=tuple(
            _sizes(graph, part, part_of, src_part, dst_part) for part in range(recipe.num_parts)
        ),
        files=(*files, *stored_files(directory, identities)),
        preparation=preparation,
        source=dict(graph.source),
        versions={package: version(package) for package in ("rudder-gnn", "dgl", "torch", "numpy")},
    )


def _preparation(recipe: Recipe, files: Sequence[StoredFile]) -> str:
    """Tells preparations apart: a digest of the recipe and of the files that it made."""
    content = [recipe.model_dump_json(), *(f"{file.path} {file.xxh3}" for file in files)]
    return xxhash.xxh3_128_hexdigest("\n".join(content).encode())


def _sizes(
    graph: Graph, part: int, part_of: IntArray, src_part: IntArray, dst_part: IntArray
) -> PartSizes:
    """DistDGL's halo: every node one edge away, in either direction."""
    in_halo = np.zeros(graph.num_nodes, dtype=np.bool_)
    in_halo[graph.src[(dst_part == part) & (src_part != part)]] = True
    in_halo[graph.dst[(src_part == part) & (dst_part != part)]] = True
    return PartSizes(
        num_inner_nodes=int((part_of == part).sum()),
        num_halo_nodes=int(in_halo.sum()),
        num_edges=int((dst_part == part).sum()),
        num_train=int(graph.train_mask[part_of == part].sum()),
    )


class Order(Frozen):
    """What to write and where; the only argument of the process, as JSON."""

    recipe: Recipe
    directory: Path
    parent_pid: int


class Failure(Frozen):
    """An error of the tree in `errors`, to be raised again in the parent."""

    kind: str
    message: str
    remedy: str

    @classmethod
    def of(cls, error: RudderError) -> Failure:
        """Describe an error."""
        return cls(kind=type(error).__name__, message=error.message, remedy=error.remedy)

    def as_error(self) -> RudderError:
        """The error again."""
        return _ERRORS[self.kind](self.message, remedy=self.remedy)


class WorkerMessage(Frozen):
    """What the parent is told: progress, how far a stage is, or the one failure."""

    progress: str | None = None
    counted: Counted | None = None
    failure: Failure | None = None


def main() -> int:
    """Do what the order says; the exit code is that of the error, if there is one."""
    order = Order.model_validate_json(sys.argv[1])
    die_with(order.parent_pid)
    with _own_standard_output() as out:
        try:
            _obey(order, out)
        except RudderError as error:
            _tell(out, WorkerMessage(failure=Failure.of(error)))
            return error.exit_code
    return 0


def _obey(order: Order, out: TextIO) -> None:
    def progress(text: str) -> None:
        _tell(out, WorkerMessage(progress=text))

    def count(counted: Counted) -> None:
        _tell(out, WorkerMessage(counted=counted))

    recipe = order.recipe
    try:
        graph = load_dataset(
            recipe.dataset,
            seed=recipe.seed,
            undirected=recipe.undirected,
            progress=progress,
            count=count,
        )
        write_partitions(graph, recipe, order.directory, progress=progress, count=count)
    except MemoryError as error:
        raise MachineError(
            f"not enough memory for {recipe.dataset}: {error}",
            remedy="use a machine with more memory, or a smaller dataset",
        ) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(order.directory) from None
        raise MachineError(
            f"{error.filename or order.directory}: {error.strerror}",
            remedy="check that the folder can be read and written, or choose another one",
        ) from None


def _tell(out: TextIO, message: WorkerMessage) -> None:
    out.write(message.model_dump_json(exclude_none=True) + "\n")
    out.flush()


def _own_standard_output() -> TextIO:
    """Standard output for messages alone; what libraries print goes to standard error."""
    messages = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(messages, "w")


if __name__ == "__main__":
    exit_code = main()
    sys.stdout.flush()
    os._exit(exit_code)  # taking torch and dgl apart in good order takes a second
