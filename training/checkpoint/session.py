"""One trainer's part in checkpoints: all ranks agree on a step, and rank 0 writes for all.

Whether a checkpoint is due, or the run is to stop, is known to single ranks only. So all ranks
meet about once a second, at a step that they agreed on the time before: a collective call of three
numbers. In between a step costs one comparison.
"""

from __future__ import annotations

import io
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch

from rudder.training.checkpoint.format import (
    SHARED,
    CheckpointInterval,
    CheckpointManifest,
    Identity,
    Written,
    rank_file,
)
from rudder.training.checkpoint.writer import CheckpointWriter
from rudder.training.loading.state import LoaderState
from rudder.training.model.shard import Collectives
from rudder.training.process.stop import is_stop_wanted
from rudder.training.settings import BufferSettings

CheckpointState = dict[str, Any]
"""Tensors, numbers, texts, and lists and dicts of them: what torch reads without running code."""
_MEET_EVERY_S = 1.0


class Snapshot(Protocol):
    """What a run's state is taken from."""

    def loader_state(self) -> LoaderState:
        """Where the loader stands."""

    def shared_state(self) -> CheckpointState:
        """What is the same on all ranks; only rank 0 is asked."""

    def own_state(self) -> CheckpointState:
        """What only this rank knows."""


class Checkpoints:
    """Writes checkpoints of a run; all ranks call its methods at the same steps."""

    def __init__(
        self,
        run: Snapshot,
        *,
        run_dir: Path,
        interval: CheckpointInterval,
        keep: int,
        identity: Identity,
        collectives: Collectives,
        common_steps: int,
        on_written: Callable[[Written], None],
    ) -> None:
        """common_steps: steps of an epoch that all ranks take, 0: checkpoints are written between
        epochs only; on_written: told by rank 0 what became of each, in the thread that writes."""
        self.num_begun = 0
        self.seconds = 0.0
        """For which this rank stood still."""
        self._run, self._interval, self._identity = run, interval, identity
        self._collectives, self._is_first = collectives, collectives.rank == 0
        self._is_off = interval.unit == "none"
        self._common_steps = 0 if self._is_off else common_steps
        self._writer = CheckpointWriter(run_dir, keep=keep, on_written=on_written)
        self._pause = self._next_meeting = 1
        self._epochs_since = 0
        self._met_at = self._saved_at = time.monotonic()

    def begin_epoch(self, batch: int) -> None:
        """An epoch begins, or goes on after so many batches."""
        self._next_meeting = batch + self._pause

    def after_step(self, batch: int) -> bool:
        """Write a checkpoint if one is due; batch: steps done in this epoch.

        True: the run is to stop here, and a checkpoint is being written.
        """
        if batch < self._next_meeting or batch >= self._common_steps:
            return False
        is_stop_wanted = self._meet(epochs=0)
        self._next_meeting = batch + self._pause
        return is_stop_wanted

    def after_epoch(self, *, is_last: bool) -> bool:
        """The same after an epoch and what follows it; the last one always has a checkpoint."""
        if self._is_off:
            return False
        self._epochs_since += 1
        return self._meet(epochs=self._epochs_since, is_last=is_last) and not is_last

    def finish(self) -> Written | None:
        """Wait until all is written; what became of the last one, None: this rank wrote none."""
        return self._writer.wait()

    def _meet(self, *, epochs: int, is_last: bool = False) -> bool:
        """Agree on what to do now, and on when to meet again; True: stop."""
        now = time.monotonic()
        mine = torch.tensor([is_stop_wanted(), 0, 0], dtype=torch.int64)
        if self._is_first:
            is_due = self._interval.is_due(seconds=now - self._saved_at, epochs=epochs)
            step_s = max((now - self._met_at) / self._pause, 1e-6)
            mine[1] = is_last or (is_due and not self._writer.is_busy)
            mine[2] = max(int(_MEET_EVERY_S / step_s), 1)
        num_stopping, is_due, pause = self._collectives.sum(mine).tolist()
        self._met_at, self._pause = now, pause
        if num_stopping or is_due:
            self._save()
        return bool(num_stopping)

    def _save(self) -> None:
        """Copy the state of all ranks to rank 0, which begins to write it."""
        started = time.perf_counter()
        loader = self._run.loader_state()
        own = packed({"loader": loader_as_plain(loader), **self._run.own_state()})
        counts = [len(own), *[0] * (self._collectives.num_ranks - 1)]
        rows, counts = self._collectives.swap(_as_tensor(own), counts)
        if self._is_first:
            parts = np.split(rows.numpy(), np.cumsum(counts)[:-1])
            shared = copied(self._run.shared_state())
            files: dict[str, Callable[[], bytes]] = {SHARED: partial(packed, shared)}
            files |= {rank_file(rank): part.tobytes for rank, part in enumerate(parts)}
            manifest = CheckpointManifest(
                epoch=loader.epoch,
                batch=loader.batch,
                step=loader.step,
                num_ranks=self._collectives.num_ranks,
                identity=self._identity,
                files=(),
            )
            self._writer.begin(manifest, files)
        self.num_begun += 1
        self._epochs_since, self._saved_at = 0, time.monotonic()
        self.seconds += time.perf_counter() - started


@dataclass(frozen=True)
class Loaded:
    """What a rank goes on from."""

    loader: LoaderState
    shared: CheckpointState
    own: CheckpointState


def load_checkpoint(folder: Path, collectives: Collectives) -> Loaded:
    """Read a checkpoint on rank 0 and give each rank its part; all ranks call it together."""
    shared, parts, sizes = b"", b"", [0] * collectives.num_ranks
    if collectives.rank == 0:
        shared = (folder / SHARED).read_bytes()
        files = [(folder / rank_file(rank)).read_bytes() for rank in range(collectives.num_ranks)]
        parts, sizes = b"".join(files), [len(file) for file in files]
    mine, _ = collectives.swap(_as_tensor(parts), sizes)
    own = unpacked(mine.numpy().tobytes())
    everyones = collectives.share(_as_tensor(shared)).numpy().tobytes()
    return Loaded(loader_from_plain(own["loader"]), unpacked(everyones), own)


def packed(state: CheckpointState) -> bytes:
    """A state as bytes."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def unpacked(content: bytes) -> CheckpointState:
    """A state from bytes; runs no code that may be in them."""
    return cast(
        "CheckpointState", torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    )


def copied(state: Any) -> Any:
    """The same with copies of all tensors, on the CPU: training goes on and changes its own."""
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {name: copied(value) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(copied(value) for value in state)
    return state


def loader_as_plain(state: LoaderState) -> CheckpointState:
    """A loader's state as torch stores it; the ids of buffered nodes as differences."""
    plain = {name: getattr(state, name) for name in ("epoch", "batch", "step", "window", "run_key")}
    ids = np.sort(state.buffered)
    return plain | {
        "settings": state.settings.model_dump_json(),
        "buffered": torch.from_numpy(np.diff(ids, prepend=0).astype(np.int64)),
    }


def loader_from_plain(plain: CheckpointState) -> LoaderState:
    """The inverse of `loader_as_plain`."""
    values = {name: plain[name] for name in ("epoch", "batch", "step", "window", "run_key")}
    return LoaderState(
        **values,
        settings=BufferSettings.model_validate_json(plain["settings"]),
        buffered=np.cumsum(plain["buffered"].numpy()),
    )


def random_state() -> CheckpointState:
    """The state of every generator that a model may draw from."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "numpy": json.dumps([kind, np.asarray(keys).tolist(), *rest]),
        "python": json.dumps(random.getstate()),
    }


def restore_random_state(state: CheckpointState) -> None:
    """Have all generators go on from a state."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    kind, keys, *rest = json.loads(state["numpy"])
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    version, internal, gauss = json.loads(state["python"])
    random.setstate((version, tuple(internal), gauss))


def _as_tensor(content: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(content or b"\0"), dtype=torch.uint8)[: len(content)]
