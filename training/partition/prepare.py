"""From the name of a dataset to partitions on disk, once: what `rudder prepare` does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from platformdirs import user_cache_path

from rudder.training.config import RunConfig
from rudder.training.datasets.registry import DatasetSpec
from rudder.training.errors import ConfigError, MachineError, RudderError, RunError
from rudder.training.manifest import (
    FILE_NAME,
    LOG_NAME,
    CutMethod,
    FeatureDtype,
    Manifest,
    Recipe,
    read_contents,
)
from rudder.training.partition.described import describe
from rudder.training.partition.worker import Order, WorkerMessage
from rudder.training.partitioned_graph import PartitionedGraph
from rudder.training.progress import Count, uncounted

DATA_VARIABLE = "RUDDER_DATA"
"""Environment variable with the folder that prepared graphs go to by default."""
MAX_PARTS = 250
_LOG_TAIL_LINES = 5
_REPEATABLE = "glibc.malloc.tcache_count=0:glibc.malloc.perturb=85"
"""DGL's METIS reads memory that it never wrote; filled with a constant, equal calls cut equally."""


@contextmanager
def folder_lock(folder: Path, *, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of `folder`, a file beside it; `on_wait` is called if another has it.

    The kernel lets go of the lock when its holder dies, however it dies.
    """
    path = folder.with_name(f".{folder.name}.lock")
    lock = _acquire(path, on_wait)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(lock)


def _acquire(path: Path, on_wait: Callable[[], None]) -> int:
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _wait_for(lock, on_wait)
            if _is_still(path, lock):
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)  # the last holder took the file away: lock the new one


def _wait_for(lock: int, on_wait: Callable[[], None]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        on_wait()
        fcntl.flock(lock, fcntl.LOCK_EX)


def _is_still(path: Path, lock: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(lock))
    except FileNotFoundError:
        return False


def data_parent() -> Path:
    """The folder in which partitions are, if the user names no other."""
    root = os.environ.get(DATA_VARIABLE)
    return Path(root).expanduser() if root else user_cache_path("rudder") / "data"


def default_data_dir(
    spec: str,
    num_parts: int,
    seed: int = 0,
    *,
    undirected: bool = False,
    feature_dtype: FeatureDtype = "float32",
    balance: bool = True,
    method: CutMethod = "metis",
) -> Path:
    """Where `prepare` with these arguments goes if the user does not say; raises ConfigError."""
    variants = [
        "undirected" if undirected else "",
        feature_dtype if feature_dtype != "float32" else "",
        "" if balance else "unbalanced",
        method if method != "metis" else "",
    ]
    name = [DatasetSpec.parse(spec).folder_name, f"{num_parts}parts", f"seed{seed}", *variants]
    return data_parent() / "-".join(part for part in name if part)


def prepare(
    spec: str,
    *,
    num_parts: int,
    out: Path,
    seed: int = 0,
    undirected: bool = False,
    feature_dtype: FeatureDtype = "float32",
    balance: bool = True,
    method: CutMethod = "metis",
    progress: Callable[[str], None],
    count: Count = uncounted,
) -> Manifest:
    """Write the graph `spec` as partitions into `out`, or reuse what an equal call left there.

    `out` appears complete or not at all. With `balance`, METIS spreads training, validation and
    test nodes and the edges evenly, not only the nodes. The method `random` puts each node into any
    part: many more edges are cut, but no graph is too large or too small for it. `progress` is told
    the stages, and `count` how far one is, where that can be counted.

    Raises ConfigError for a bad argument or an `out` with something else in it, DataError for a
    graph that cannot be used or a damaged `out`, MachineError where disk, memory or a library
    lack, RunError if the worker process fails in a way that nobody foresaw.
    """
    recipe = _recipe(spec, num_parts, seed, undirected, feature_dtype, balance, method)
    out = out.expanduser().resolve()
    with (
        _writing_beside(out),
        folder_lock(
            out, on_wait=lambda: progress(f"waiting for another `rudder prepare` of {out}")
        ),
    ):
        _remove_leftovers(out)
        if found := _reusable(recipe, out):
            progress(f"reusing {out}")
            return found
        with _partial_folder(out) as partial:
            _run_worker(recipe, partial, progress, count)
            manifest = Manifest.read(partial)
            manifest.verify(partial)
            partial.rename(out)
    progress(f"wrote {out}")
    return manifest


def data_of(
    config: RunConfig, *, progress: Callable[[str], None], count: Count = uncounted
) -> PartitionedGraph:
    """The partitions that a run trains on; prepares them if they are missing.

    Raises what `prepare` raises, DataError where `config.data` holds no partitions that can be
    used, and ConfigError where a tensor's name is wrong or missing.
    """
    data = config.data
    if data is None:
        data = default_data_dir(config.dataset, num_parts=config.hosts)
        prepare(config.dataset, num_parts=config.hosts, out=data, progress=progress, count=count)
    graph = describe(data.expanduser().absolute(), config.tensor_names, progress=progress)
    if read_contents(graph.directory) is None:
        progress(
            f"{graph.part_config} has no checksums, so damage of its files goes unnoticed;"
            f" `rudder data {data} --write-checksums` writes them"
        )
    return graph


def fitted(config: RunConfig, graph: PartitionedGraph) -> RunConfig:
    """The config of a run on this graph: as many hosts as parts, unless it says how many."""
    hosts = config.hosts if "hosts" in config.model_fields_set else graph.num_parts
    return config.model_copy(update={"data": graph.part_config, "hosts": hosts})


def _recipe(
    spec: str,
    num_parts: int,
    seed: int,
    undirected: bool,
    feature_dtype: FeatureDtype,
    balance: bool,
    method: CutMethod,
) -> Recipe:
    dataset = DatasetSpec.parse(spec)
    if not 1 <= num_parts <= MAX_PARTS:
        raise ConfigError.for_field("num_parts", value=num_parts, allowed=f"1 to {MAX_PARTS}")
    if seed < 0:
        raise ConfigError.for_field("seed", value=seed, allowed="0 and up")
    if feature_dtype not in ("float32", "float16"):
        raise ConfigError.for_field(
            "feature_dtype", value=feature_dtype, allowed="float32, float16"
        )
    if method not in ("metis", "random"):
        raise ConfigError.for_field("method", value=method, allowed="metis, random")
    return Recipe(
        dataset=str(dataset),
        num_parts=num_parts,
        seed=seed,
        undirected=undirected,
        feature_dtype=feature_dtype,
        balance=balance,
        method=method,
        fingerprint=dataset.fingerprint(),
    )


@contextlib.contextmanager
def _writing_beside(out: Path) -> Iterator[None]:
    """Make the folder that holds `out`; answer for one that cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise MachineError(
            f"{error.filename or out.parent}: {error.strerror}",
            remedy="choose another folder with --out or RUDDER_DATA, or free space on its disk",
        ) from error


def _reusable(recipe: Recipe, out: Path) -> Manifest | None:
    """The manifest of an equal, complete folder; None if there is nothing at `out`."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not (out / FILE_NAME).is_file():
        raise ConfigError(
            f"out = {str(out)!r} exists and is not a prepared graph",
            remedy="choose a new or empty folder; Rudder overwrites nothing",
        )
    manifest = Manifest.read(out)
    if differences := manifest.recipe.differences(recipe):
        raise ConfigError(
            f"out = {str(out)!r} holds another graph ({'; '.join(differences)})",
            remedy="choose another folder with --out, or remove that one",
        )
    manifest.verify(out)
    return manifest


def _partial_prefix(out: Path) -> str:
    return f".{out.name}.partial-"


def _remove_leftovers(out: Path) -> None:
    """Take away what killed calls left; the caller holds the lock, so none is at work."""
    for leftover in out.parent.glob(f"{_partial_prefix(out)}*"):
        shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def _partial_folder(out: Path) -> Iterator[Path]:
    """A folder on the same disk as `out`; gone at the end unless it was renamed."""
    partial = Path(tempfile.mkdtemp(prefix=_partial_prefix(out), dir=out.parent))
    partial.chmod(0o755)
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _run_worker(
    recipe: Recipe, directory: Path, progress: Callable[[str], None], count: Count
) -> None:
    """Run `partition_worker` to its end; raises what it failed with."""
    order = Order(recipe=recipe, directory=directory, parent_pid=os.getpid())
    command = [sys.executable, "-P", "-m", "rudder.training.partition.worker"]
    tunables = [os.environ.get("GLIBC_TUNABLES", ""), _REPEATABLE]
    failure: RudderError | None = None
    with (
        (directory / LOG_NAME).open("wb") as log,
        subprocess.Popen(
            [*command, order.model_dump_json()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "GLIBC_TUNABLES": ":".join(filter(None, tunables))},
        ) as worker,
    ):
        assert worker.stdout is not None
        try:
            for line in worker.stdout:
                message = WorkerMessage.model_validate_json(line)
                if message.progress is not None:
                    progress(message.progress)
                if message.counted is not None:
                    count(message.counted)
                if message.failure is not None:
                    failure = message.failure.as_error()
        except BaseException:
            worker.kill()
            raise
    if failure is not None:
        raise failure
    if worker.returncode != 0:
        raise _unforeseen(worker.returncode, recipe, directory / LOG_NAME)


def _unforeseen(returncode: int, recipe: Recipe, log: Path) -> RudderError:
    if returncode == -9:
        return MachineError(
            f"the process that cut {recipe.dataset} was killed, most likely for lack of memory",
            remedy="use a machine with more memory, a smaller dataset, or --feature-dtype float16",
        )
    tail = log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
    return RunError(
        f"the process that cut {recipe.dataset} ended with exit code {returncode}: "
        + "\n".join(tail),
        remedy="report this with the text above; `rudder doctor` checks the installation",
    )
