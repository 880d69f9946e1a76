"""What a run will take, before a graph is cut or a machine is rented: `rudder plan`.

The formulas stand in docs/cluster.md; a test compares them with real runs. Numbers of bytes are
per process, unless they say otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_ID_BYTES = 8
_MIB = 2**20
NODE_BYTES = 8 + 8 + 1
"""Of a partition, for each own or halo node: offset of its edges, global id, whether it is own."""
EDGE_BYTES = 8 + 8 + 8 + 1
"""For each edge that points at or away from an own node: source, place, global id, whether the
first is so."""
LABEL_BYTES = 8 + 3
"""For each own node: label and three masks."""
LIBRARY_BYTES = 320 * _MIB
"""Files of Python, torch and DGL in memory; all processes of a host share them. Measured."""
SERVER_BYTES = 320 * _MIB
TRAINER_BYTES = 380 * _MIB
AGENT_BYTES = 40 * _MIB
"""Of processes alone, without any data. Measured."""
CONTROLLER_BYTES = 195 * _MIB
"""Of the process that steers all trainers of a host; measured with 8 of them."""
MAP_BYTES = 24
"""Of a trainer, for each remote node that it has met: record, place in the directory, id."""
BATCH_NODE_BYTES = 8 + 4 + 4
BATCH_EDGE_BYTES = 8
"""Of a batch that is sampled ahead."""
ASSEMBLED_BATCHES = 4
"""Batches whose rows are there at once: in assembly, in the queue, in use."""
DISK_BYTES_PER_SECOND = 500e6
START_SECONDS = 12.0
"""Until servers and trainers are up, without loading data; compiled loops are kept."""
BITS = 8


@dataclass(frozen=True)
class RunSize:
    """A graph and how it is trained on.

    halo_fraction: of the nodes of other hosts, those that are within one hop of a host's own;
    cut_fraction: of a node's neighbours, those of other hosts. row_bytes: of a node's features;
    buffer_rows: None: all remote rows.
    """

    num_nodes: int
    num_edges: int
    num_train: int
    row_bytes: int
    hosts: int
    trainers_per_host: int
    servers_per_host: int
    fanout: tuple[int, ...]
    batch_size: int
    lookahead: int
    halo_fraction: float
    cut_fraction: float
    buffer_rows: int | None = None
    has_controllers: bool = True

    @property
    def inner(self) -> int:
        """Nodes of a host."""
        return math.ceil(self.num_nodes / self.hosts)

    @property
    def remote(self) -> int:
        """Nodes of all other hosts."""
        return self.num_nodes - self.inner

    @property
    def halo(self) -> int:
        """Remote nodes within one hop."""
        return int(self.halo_fraction * self.remote)

    @property
    def edges(self) -> int:
        """Edges of a host: those that point at its nodes, and those that lead to other hosts."""
        return math.ceil(self.num_edges / self.hosts * (1 + self.cut_fraction))

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return math.ceil(self.num_train / (self.hosts * self.trainers_per_host) / self.batch_size)

    @property
    def batch_nodes(self) -> int:
        """Different input nodes of a batch, if neighbours are drawn evenly from all nodes."""
        return int(_distinct(self._draws[-1], self.num_nodes))

    @property
    def batch_edges(self) -> int:
        """Edges of a batch, over all layers."""
        return int(sum(self._draws))

    @property
    def remote_rows(self) -> int:
        """Remote rows that a trainer needs in an epoch; one that several batches need counts as
        often."""
        return int(self.steps * _distinct(self._draws[-1] * self.cut_fraction, self.remote))

    @property
    def _draws(self) -> list[float]:
        """Nodes of a batch that are drawn with their neighbours, layer by layer from the seeds."""
        draws, nodes = [], float(self.batch_size)
        for neighbours in reversed(self.fanout):
            draws.append(nodes * (1 + self._drawn(neighbours)))
            nodes = _distinct(draws[-1], self.num_nodes)
        return draws

    @property
    def met(self) -> int:
        """Different remote nodes that a trainer needs in an epoch."""
        return int(_distinct(self.remote_rows, self.remote))

    def _drawn(self, neighbours: int) -> float:
        degree = self.num_edges / max(self.num_nodes, 1)
        return degree if neighbours == -1 else min(degree, neighbours)


@dataclass(frozen=True)
class MemoryShare:
    """Bytes of one kind of process for one purpose. count: such processes on a host."""

    process: str
    purpose: str
    num_bytes: int
    count: int = 1


@dataclass(frozen=True)
class EpochTraffic:
    """Bytes of feature rows that a host receives in an epoch, and seconds on its link."""

    what: str
    num_bytes: int

    def seconds(self, bits_per_second: float) -> float:
        """On a link of this rate."""
        return self.num_bytes * BITS / bits_per_second


@dataclass(frozen=True)
class RunEstimate:
    """What each host needs."""

    memory: tuple[MemoryShare, ...]
    traffic: tuple[EpochTraffic, ...]
    disk_bytes: int
    start_seconds: float

    @property
    def host_bytes(self) -> int:
        """Memory of a host, over all its processes."""
        return sum(share.num_bytes * share.count for share in self.memory)

    def of(self, process: str) -> int:
        """Bytes of one such process."""
        return sum(share.num_bytes for share in self.memory if share.process == process)


def plan(size: RunSize) -> RunEstimate:
    """Estimate a run."""
    structure = NODE_BYTES * (size.inner + size.halo) + EDGE_BYTES * size.edges
    features = (size.row_bytes + LABEL_BYTES) * size.inner
    part = structure + features
    return RunEstimate(
        memory=tuple(_memory(size, structure=structure, features=features)),
        traffic=tuple(_traffic(size)),
        disk_bytes=part,
        start_seconds=START_SECONDS + part / DISK_BYTES_PER_SECOND,
    )


def _memory(size: RunSize, *, structure: int, features: int) -> Sequence[MemoryShare]:
    rows = size.remote if size.buffer_rows is None else min(size.buffer_rows, size.remote)
    batch_rows = ASSEMBLED_BATCHES * size.batch_nodes
    ids = BATCH_NODE_BYTES * size.batch_nodes + BATCH_EDGE_BYTES * size.batch_edges
    trainers, servers = size.trainers_per_host, size.servers_per_host
    shares = [
        MemoryShare("shared memory", "structure of the partition", structure),
        MemoryShare("shared memory", "features and labels", features),
        MemoryShare("libraries", "shared by all processes", LIBRARY_BYTES),
        MemoryShare("server", "its own", SERVER_BYTES, servers),
        MemoryShare("trainer", "its own", TRAINER_BYTES, trainers),
        MemoryShare("trainer", "buffer", rows * size.row_bytes, trainers),
        MemoryShare("trainer", "records of remote nodes", size.met * MAP_BYTES, trainers),
        MemoryShare("trainer", "batches sampled ahead", size.lookahead * ids, trainers),
        MemoryShare("trainer", "rows of batches", batch_rows * size.row_bytes, trainers),
        MemoryShare("agent", "its own", AGENT_BYTES),
    ]
    if size.has_controllers:
        shares.append(MemoryShare("controller", "its own", CONTROLLER_BYTES))
    return shares


def _traffic(size: RunSize) -> Sequence[EpochTraffic]:
    """Of an epoch that fetches every row when it is needed, of the first and of later ones."""
    rows, trainers = size.row_bytes + _ID_BYTES, size.trainers_per_host
    buffered = size.remote if size.buffer_rows is None else min(size.buffer_rows, size.remote)
    kept = min(1.0, buffered / max(size.met, 1))
    later = int(size.remote_rows * (1 - kept))
    first = min(size.remote_rows, size.met + later)
    return [
        EpochTraffic("without a buffer", size.remote_rows * rows * trainers),
        EpochTraffic("first epoch", first * rows * trainers),
        EpochTraffic("later epochs", later * rows * trainers),
    ]


def _distinct(draws: float, among: float) -> float:
    """How many different ones so many draws from so many give."""
    return among * -math.expm1(-draws / among) if among else 0.0
