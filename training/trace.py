"""The trace of a run: every call of the loader to its buffer policy, in order.

There is one file per rank, RUN/traces/rankN.trace. With it the run's own policy can be replayed
call by call, and `rudder simulate` finds what any other policy would have fetched.

    file     = MAGIC, then chunks
    chunk    = CHUNK (kind, bytes, crc32 of the content), content
    "HEAD"   = TraceHeader as JSON, the first chunk
    "HALO"   = zlib of the halo: int64[h] global ids, then int64[h] in-edges of each
    "CALL"   = int64: number of calls n, int64[n, 4]: kind and three counts of each, then their data
    "STOP"   = empty: the run ended normally; what follows is not read

The nodes of a batch are remote numbers of `node_bytes` each, in the order in which the policy saw
them, because policies break ties by it. A file without STOP is of a run that was killed; it is read
up to its last complete chunk.
"""

from __future__ import annotations

import struct
import threading
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import BinaryIO

import numpy as np

from rudder.training.buffer.hot_set import HotSet
from rudder.training.buffer.policy import BatchPlan, IntArray, Policy
from rudder.training.errors import complain
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings, Change, Frozen

MAGIC = b"RUDDER trace 2\n\0"
CHUNK = struct.Struct("<4sIQ")
"""Kind, crc32 of the content, bytes of the content."""
OBSERVE, PLAN, SKIP, CHANGE, FETCH = range(5)
"""Kinds of calls, with counts a, b, c. OBSERVE: the data are `a` nodes; PLAN: it had `a` hits, `b`
misses and `c` targets; SKIP: none; CHANGE: `a` bytes of JSON; FETCH: an eager fetch without a
batch, the `a` nodes of its targets."""
HEAD, HALO, CALLS, STOP = b"HEAD", b"HALO", b"CALL", b"STOP"
_NODES_PER_CHUNK = 2**20
_CALLS_PER_CHUNK = 64
_MAX_WAITING_CHUNKS = 64


class TraceHeader(Frozen):
    """What the numbers of a trace mean, and the settings at the start of the run."""

    rank: int
    part: int
    starts: tuple[int, ...]
    """Partition p owns global ids starts[p] .. starts[p + 1] - 1."""
    num_halo: int
    row_bytes: int
    """Bytes of one node's input rows."""
    batch_size: int
    batches_per_epoch: int
    fanouts: tuple[int, ...] | None
    """Input layer first; None if the sampler is not a NeighborSampler."""
    policy: str
    settings: BufferSettings

    @property
    def num_remote(self) -> int:
        """Nodes of all other partitions."""
        return self.starts[-1] - (self.starts[self.part + 1] - self.starts[self.part])

    @property
    def node_bytes(self) -> int:
        """Bytes of a remote number in the file."""
        return max(-(-(self.num_remote - 1).bit_length() // 8), 1)


@dataclass(frozen=True)
class _Call:
    kind: int
    counts: tuple[int, int, int] = (0, 0, 0)
    nodes: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    text: bytes = b""


class TraceWriter:
    """Writes calls to a file in a separate thread.

    If writing fails, the trace ends and the run goes on: what was written stays readable, and a
    message is printed once to standard error.
    """

    def __init__(self, path: Path, header: TraceHeader, view: PartitionView) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._node_bytes = header.node_bytes
        self._calls: list[_Call] = []
        self._num_nodes = 0
        self._chunks: Queue[list[_Call] | None] = Queue(_MAX_WAITING_CHUNKS)
        self._file: BinaryIO = path.open("wb")
        self._file.write(MAGIC)
        self._write_chunk(HEAD, header.model_dump_json().encode())
        halo = np.concatenate([view.halo, view.halo_degree]).astype("<i8")
        self._write_chunk(HALO, zlib.compress(halo.tobytes(), 1))
        self._file.flush()
        self._thread = threading.Thread(target=self._run, name="rudder-trace", daemon=True)
        self._thread.start()

    def observe(self, nodes: IntArray) -> None:
        """Record that a batch was observed; its nodes must not be changed afterwards."""
        self._num_nodes += len(nodes)
        self._add(_Call(OBSERVE, (len(nodes), 0, 0), nodes=nodes))

    def plan(self, plan: BatchPlan) -> None:
        """Record that the oldest batch was planned."""
        self._add(_Call(PLAN, (len(plan.hits), len(plan.misses), len(plan.targets))))

    def fetch(self, plan: BatchPlan) -> None:
        """Record an eager fetch without a batch."""
        self._add(_Call(FETCH, (len(plan.targets), 0, 0), nodes=plan.targets))

    def skip(self) -> None:
        """Record that the oldest batch was skipped."""
        self._add(_Call(SKIP))

    def change(self, change: Change) -> None:
        """Record a change of settings."""
        text = change.model_dump_json(exclude_defaults=True).encode()
        self._add(_Call(CHANGE, (len(text), 0, 0), text=text))

    def close(self) -> None:
        """Write the remaining calls, and that the run ended normally."""
        self._chunks.put(self._calls)
        self._chunks.put(None)
        self._thread.join()

    def _add(self, call: _Call) -> None:
        self._calls.append(call)
        if self._num_nodes >= _NODES_PER_CHUNK or len(self._calls) >= _CALLS_PER_CHUNK:
            self._chunks.put(self._calls)
            self._calls, self._num_nodes = [], 0

    # -- the writing thread -------------------------------------------------------------

    def _run(self) -> None:
        failed = False
        while (calls := self._chunks.get()) is not None:
            if not failed:
                failed = not self._try_to_write(CALLS, _encoded(calls, self._node_bytes))
        if not failed:
            self._try_to_write(STOP, b"")
        self._file.close()

    def _try_to_write(self, kind: bytes, content: bytes) -> bool:
        try:
            self._write_chunk(kind, content)
            self._file.flush()
        except OSError as error:
            complain(f"the trace {self._path} ends here: {error.strerror}")
            return False
        return True

    def _write_chunk(self, kind: bytes, content: bytes) -> None:
        self._file.write(CHUNK.pack(kind, zlib.crc32(content), len(content)))
        self._file.write(content)


class RecordedPolicy(Policy):
    """Wraps a policy and records every call to it in a trace."""

    def __init__(self, policy: Policy, writer: TraceWriter) -> None:
        super().__init__(policy.settings)
        self._policy, self._writer = policy, writer

    @property
    def settings(self) -> BufferSettings:
        """The policy's settings."""
        return self._policy.settings

    @property
    def num_buffered(self) -> int:
        """Rows in the policy's buffer."""
        return self._policy.num_buffered

    @property
    def num_bytes(self) -> int:
        """Memory of the policy's own state."""
        return self._policy.num_bytes

    def observe(self, nodes: IntArray) -> None:
        """Observe, and record the nodes."""
        self._policy.observe(nodes)
        self._writer.observe(nodes)

    def plan(self, nodes: IntArray) -> BatchPlan:
        """Plan, and record the number of hits, misses and targets."""
        plan = self._policy.plan(nodes)
        self._writer.plan(plan)
        return plan

    @property
    def wants_rows(self) -> bool:
        """Whether the policy wants rows while the loader is idle."""
        return self._policy.wants_rows

    def fetch(self, most_rows: int) -> BatchPlan:
        """Plan an eager fetch, and record its targets."""
        plan = self._policy.fetch(most_rows)
        self._writer.fetch(plan)
        return plan

    def hot_set(self) -> HotSet:
        """The policy's hot set."""
        return self._policy.hot_set()

    def skip(self, nodes: IntArray) -> None:
        """Skip, and record it."""
        self._policy.skip(nodes)
        self._writer.skip()

    def refusal(self, change: Change) -> str | None:
        """The policy's refusal; nothing is recorded."""
        return self._policy.refusal(change)

    def apply(self, change: Change) -> None:
        """Apply, and record the change."""
        self._policy.apply(change)
        self._writer.change(change)


def _encoded(calls: list[_Call], node_bytes: int) -> bytes:
    """The content of a chunk."""
    counts = np.array([[call.kind, *call.counts] for call in calls], dtype="<i8").reshape(-1, 4)
    data = [call.text + to_bytes(call.nodes, node_bytes) for call in calls]
    return b"".join([len(calls).to_bytes(8, "little"), counts.tobytes(), *data])


def to_bytes(numbers: IntArray, num_bytes: int) -> bytes:
    """int64[n] below 256 ** num_bytes in so many bytes each, the lowest first."""
    whole = np.ascontiguousarray(numbers, dtype="<i8").view(np.uint8).reshape(-1, 8)
    return whole[:, :num_bytes].tobytes()


def from_bytes(data: bytes, num_bytes: int) -> IntArray:
    """Inverse of `to_bytes`."""
    whole = np.zeros((len(data) // num_bytes, 8), dtype=np.uint8)
    whole[:, :num_bytes] = np.frombuffer(data, dtype=np.uint8).reshape(-1, num_bytes)
    return whole.view("<i8").ravel()
