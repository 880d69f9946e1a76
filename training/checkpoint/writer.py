"""Writes checkpoints in a thread of its own, each whole or not at all, and keeps the newest."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from rudder.training.checkpoint.format import (
    FOLDER,
    MANIFEST,
    CheckpointManifest,
    Written,
    checkpoints_of,
    name_of,
)
from rudder.training.checksums import sealed_json, stored_files

Files = Mapping[str, Callable[[], bytes]]
"""What a checkpoint holds, by the name of its file; called in the thread that writes."""


class CheckpointWriter:
    """Writes the checkpoints of one run, one after the other."""

    def __init__(self, run_dir: Path, *, keep: int, on_written: Callable[[Written], None]) -> None:
        """keep: how many of the newest stay; on_written: told of each, in the writing thread."""
        self._run_dir, self._keep, self._on_written = run_dir, keep, on_written
        self._thread: threading.Thread | None = None
        self._last: Written | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a checkpoint is still being written."""
        return self._thread is not None and self._thread.is_alive()

    def begin(self, manifest: CheckpointManifest, files: Files) -> None:
        """Write a checkpoint, after the one before it; manifest: as yet without its files."""
        self.wait()
        self._thread = threading.Thread(
            target=self._run, args=(manifest, files), name="rudder-checkpoint"
        )
        self._thread.start()

    def wait(self) -> Written | None:
        """Wait for the checkpoint that was begun last; what became of it, None: there was none."""
        if self._thread is not None:
            self._thread.join()
        return self._last

    def _run(self, manifest: CheckpointManifest, files: Files) -> None:
        started = time.perf_counter()
        done = Written(
            name=name_of(manifest.step),
            epoch=manifest.epoch,
            batch=manifest.batch,
            step=manifest.step,
        )
        try:
            num_bytes = write_checkpoint(self._run_dir, manifest, files)
            remove_old(self._run_dir, keep=self._keep)
            update: dict[str, object] = {"num_bytes": num_bytes}
        except OSError as error:
            update = {"error": f"{error.filename or self._run_dir}: {error.strerror}"}
        update["seconds"] = time.perf_counter() - started
        self._last = done.model_copy(update=update)
        self._on_written(self._last)


def write_checkpoint(run_dir: Path, manifest: CheckpointManifest, files: Files) -> int:
    """Write one, in place of one after the same step; returns its bytes. Raises OSError.

    It is a hidden folder until all of it is on the disk, its manifest last.
    """
    name = name_of(manifest.step)
    target, unfinished = run_dir / FOLDER / name, run_dir / FOLDER / f".{name}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        for file, content in files.items():
            _write(unfinished / file, content())
        stored = stored_files(unfinished, [unfinished / file for file in files])
        complete = manifest.model_copy(update={"files": stored})
        _write(unfinished / MANIFEST, sealed_json(complete).encode())
        _sync(unfinished)
        shutil.rmtree(target, ignore_errors=True)
        unfinished.rename(target)
        _sync(target.parent)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return sum(file.num_bytes for file in stored)


def remove_old(run_dir: Path, *, keep: int) -> None:
    """Remove all but the newest checkpoints, and what was never finished."""
    for folder in [*checkpoints_of(run_dir)[keep:], *(run_dir / FOLDER).glob(".*step-*")]:
        hidden = folder.with_name(f".old-{folder.name.lstrip('.')}")
        with suppress(OSError):
            folder.rename(hidden)  # never half a checkpoint under a complete one's name
        shutil.rmtree(hidden, ignore_errors=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that after a crash there is the old one or the new one. Raises OSError."""
    unfinished = path.with_name(f".{path.name}.part")
    _write(unfinished, content)
    unfinished.replace(path)
    _sync(path.parent)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Have the names in a folder on the disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
