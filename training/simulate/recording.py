"""Reads traces: the batches of one rank, and the calls to its policy."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from rudder.training.buffer.policy import IntArray
from rudder.training.errors import DataError
from rudder.training.partition_view import PartitionView
from rudder.training.settings import Change
from rudder.training.trace import (
    CALLS,
    CHANGE,
    CHUNK,
    FETCH,
    HALO,
    HEAD,
    MAGIC,
    OBSERVE,
    PLAN,
    SKIP,
    STOP,
    TraceHeader,
    from_bytes,
)

_KINDS = (HEAD, HALO, CALLS, STOP)


@dataclass(frozen=True)
class Recording:
    """One rank's trace.

    nodes: int32 or int64 remote numbers of all observed batches, one after the other;
    bounds: int64[batches + 1], where each batch begins; calls: uint8[calls], their kinds in order;
    planned: int64[plans, 3], hits, misses and targets of each plan of the run; changes: of
    settings, in order; fetched: remote numbers of each eager fetch without a batch; is_whole:
    whether the run ended normally.
    """

    header: TraceHeader
    halo: IntArray
    halo_degree: IntArray
    nodes: NDArray[np.int32] | IntArray
    bounds: IntArray
    calls: NDArray[np.uint8]
    planned: IntArray
    changes: tuple[Change, ...]
    is_whole: bool
    fetched: tuple[IntArray, ...] = ()

    @property
    def num_observed(self) -> int:
        """Batches, including those that were skipped."""
        return len(self.bounds) - 1

    def batch(self, number: int) -> IntArray:
        """int64[n]: remote numbers of an observed batch, in the order the policy saw."""
        return self.nodes[self.bounds[number] : self.bounds[number + 1]].astype(np.int64)

    @cached_property
    def happened(self) -> IntArray:
        """int64: numbers of the observed batches that were not skipped."""
        taken = self.calls[(self.calls == PLAN) | (self.calls == SKIP)]
        skipped = np.flatnonzero(taken == SKIP)
        return np.setdiff1d(np.arange(self.num_observed), skipped, assume_unique=True)

    @cached_property
    def is_halo(self) -> NDArray[np.bool_]:
        """bool[num_remote]: whether each remote node is one hop away."""
        found = np.zeros(self.header.num_remote, dtype=bool)
        found[self.view.to_remote(self.halo)] = True
        return found

    @cached_property
    def view(self) -> PartitionView:
        """The partition as far as the trace describes it: owners, halo, and degrees of the halo.

        All in-edges are attached to the first inner node: `halo_degree` is right, paths are not.
        """
        starts = np.array(self.header.starts, dtype=np.int64)
        num_inner = int(starts[self.header.part + 1] - starts[self.header.part])
        indices = np.repeat(num_inner + np.arange(len(self.halo)), self.halo_degree)
        indptr = np.full(num_inner + 1, len(indices), dtype=np.int64)
        indptr[0] = 0
        return PartitionView(
            part=self.header.part, starts=starts, indptr=indptr, indices=indices, halo=self.halo
        )


def find_traces(places: list[Path]) -> list[Path]:
    """The trace files of all ranks of these run folders, or these files; DataError if none."""
    found: list[Path] = []
    for place in places:
        files = [place]
        if place.is_dir():
            folder = place / "traces" if (place / "traces").is_dir() else place
            files = sorted(folder.glob("rank*.trace"), key=lambda file: (len(file.name), file.name))
        if not files or not files[0].exists():
            raise DataError(
                f"there is no trace in {place}",
                remedy="record one: rudder train --record-trace, then give its run folder",
            )
        found.extend(files)
    return found


def read_recording(file: Path) -> Recording:
    """Read a trace up to its last complete chunk.

    Raises DataError if the file is not a trace, is damaged, or ends within its header.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(
            f"the trace {file} cannot be read: {error.strerror}", remedy="check the path"
        ) from None
    if not content.startswith(MAGIC):
        raise _broken(file, "it does not begin like a trace")
    chunks = list(_chunks(file, content))
    kinds = [kind for kind, _ in chunks]
    if kinds[:2] != [HEAD, HALO]:
        raise _broken(file, "it ends within its header")
    try:
        header = TraceHeader.model_validate_json(chunks[0][1])
        halo, degree = np.frombuffer(zlib.decompress(chunks[1][1]), dtype="<i8").reshape(2, -1)
        calls = _Calls(header)
        for kind, chunk in chunks[2:]:
            if kind == CALLS:
                calls.read(chunk)
    except (ValidationError, ValueError, zlib.error) as error:
        raise _broken(file, str(error).splitlines()[0]) from None
    return calls.recording(halo.astype(np.int64), degree.astype(np.int64), whole=STOP in kinds)


def _chunks(file: Path, content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kinds and contents of the complete chunks."""
    at = len(MAGIC)
    while at + CHUNK.size <= len(content):
        kind, checksum, size = CHUNK.unpack_from(content, at)
        if kind not in _KINDS:
            raise _broken(file, f"there is no chunk at byte {at}")
        at += CHUNK.size
        if at + size > len(content):
            return
        chunk = content[at : at + size]
        if zlib.crc32(chunk) != checksum:
            raise _broken(file, f"the checksum of the chunk at byte {at} is wrong")
        yield kind, chunk
        if kind == STOP:
            return
        at += size


def _broken(file: Path, why: str) -> DataError:
    return DataError(
        f"{file} is not a usable trace: {why}",
        remedy="record it again with rudder train --record-trace, or copy it again",
    )


class _Calls:
    """Collects the calls, chunk by chunk."""

    def __init__(self, header: TraceHeader) -> None:
        self._header = header
        self._dtype = np.int32 if header.num_remote <= 2**31 else np.int64
        self._kinds = bytearray()
        self._batches: list[NDArray[np.int32] | IntArray] = []
        self._planned: list[tuple[int, int, int]] = []
        self._changes: list[Change] = []
        self._fetched: list[IntArray] = []

    def read(self, chunk: bytes) -> None:
        """Add the calls of one chunk; raises ValueError if they are not valid."""
        num_calls = int.from_bytes(chunk[:8], "little")
        calls = np.frombuffer(chunk, "<i8", 4 * num_calls, 8).reshape(-1, 4)
        at, node_bytes = 8 + calls.nbytes, self._header.node_bytes
        for kind, a, b, c in calls.tolist():
            self._kinds.append(kind)
            end = at + a * {CHANGE: 1, OBSERVE: node_bytes, FETCH: node_bytes}.get(kind, 0)
            data, at = chunk[at:end], end
            if kind == OBSERVE:
                nodes: NDArray[np.int32] = self._nodes(data).astype(self._dtype)
                self._batches.append(nodes)
            elif kind == FETCH:
                self._fetched.append(self._nodes(data))
            elif kind == PLAN:
                self._planned.append((a, b, c))
            elif kind == CHANGE:
                self._changes.append(Change.model_validate_json(data))
            elif kind != SKIP:
                raise ValueError(f"there is no call of kind {kind}")

    def _nodes(self, data: bytes) -> IntArray:
        nodes = from_bytes(data, self._header.node_bytes)
        if len(nodes) and nodes.max() >= self._header.num_remote:
            raise ValueError(f"node {nodes.max()} is not one of {self._header.num_remote}")
        return nodes

    def recording(self, halo: IntArray, halo_degree: IntArray, *, whole: bool) -> Recording:
        """Everything that was read."""
        widths = [len(nodes) for nodes in self._batches]
        return Recording(
            header=self._header,
            halo=halo,
            halo_degree=halo_degree,
            nodes=np.concatenate([np.empty(0, dtype=self._dtype), *self._batches]),
            bounds=np.concatenate([[0], np.cumsum(widths, dtype=np.int64)]),
            calls=np.frombuffer(bytes(self._kinds), dtype=np.uint8),
            planned=np.array(self._planned, dtype=np.int64).reshape(-1, 3),
            changes=tuple(self._changes),
            is_whole=whole,
            fetched=tuple(self._fetched),
        )
