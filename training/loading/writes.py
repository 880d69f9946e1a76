"""Rows that change: which tensors have been written, and rows read again for that.

A loader reads rows ahead of their use and keeps some of them. So each trainer counts its writes to
the tensors that loaders deliver, in a counter that all trainers of the job share, and each loader
compares the counters when an epoch begins and when a pause ends. A write through DistTensor or
DistEmbedding is counted when the servers have it. A write through `local_partition` is counted
when the writing trainer's own loader looks next.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from dgl.distributed import rpc, standalone_kvstore
from dgl.distributed.kvstore import GetPartShapeRequest, KVClient

from rudder.training.control.endpoint import ProcessGroup
from rudder.training.errors import ConfigError, complain
from rudder.training.loading.tensors import GraphTensor


class WriteCount:
    """Counts the writes to one tensor by all trainers; one object a tensor in each process."""

    def __init__(self, tensor: GraphTensor, group: ProcessGroup) -> None:
        self._group, self._local, self.name = group, tensor.local, tensor.name
        self._is_told = group.store is not None or group.world_size == 1
        self._subject = f"writes/{tensor.key}"
        self._noted = tensor.local._version
        self._own = 0
        self.readers: weakref.WeakSet[Writes] = weakref.WeakSet()

    @property
    def total(self) -> tuple[int, int]:
        """A value that differs after each write."""
        if self._local._version != self._noted:
            self.add()
        return self._group.count(self._subject), self._own

    def add(self) -> None:
        """This process has written."""
        self._noted = self._local._version
        self._own += 1
        self._group.count(self._subject, 1)
        if not self._is_told:
            self._is_told = True
            complain(
                f"rudder: rank {self._group.rank}: the loaders of other trainers do not hear that"
                f" {self.name} was written, since the script forms no process group. Call"
                " torch.distributed.init_process_group, or name the tensor in `mutable`"
            )


_counts: dict[str, WriteCount] = {}


class Writes:
    """The tensors that one loader reads ahead, and what it has seen of writes to them."""

    def __init__(self, tensors: Sequence[GraphTensor], group: ProcessGroup) -> None:
        _count_pushes()
        self._rank = group.rank
        self._counts = {
            tensor: _counts.setdefault(tensor.key, WriteCount(tensor, group)) for tensor in tensors
        }
        for count in self._counts.values():
            count.readers.add(self)
        self._seen = {tensor: count.total for tensor, count in self._counts.items()}
        self.is_reading = False

    def take(self) -> tuple[GraphTensor, ...]:
        """Tensors that were written since this was asked last."""
        before, self._seen = self._seen, {each: n.total for each, n in self._counts.items()}
        return tuple(tensor for tensor, total in self._seen.items() if total != before[tensor])

    def check_epoch(self) -> None:
        """Warn of what others wrote during the epoch that ends; the next one has the new rows."""
        written = [t.name for t, count in self._counts.items() if count.total != self._seen[t]]
        if written:
            complain(
                f"rudder: rank {self._rank}: another trainer wrote {', '.join(written)} while this"
                f" one was in an epoch; its batches may have older rows. {_REMEDY}"
            )


_REMEDY = (
    "Write between epochs, or within `with loader.paused():` on all trainers; a tensor that is"
    " written all the time is to be named in `mutable`, and is read when a batch is taken"
)


@cache
def _count_pushes() -> None:
    """Have every write of this process counted, also in standalone mode; once a process."""
    for kind in (KVClient, standalone_kvstore.KVClient):
        kind.push = _counted(kind.push)


def _counted(push: Callable[..., None]) -> Callable[..., None]:
    """`KVClient.push`, with its writes counted."""

    def counted(client: Any, name: str, id_tensor: torch.Tensor, data_tensor: torch.Tensor) -> None:
        count = _counts.get(name)
        if count is None or not count.readers:
            push(client, name, id_tensor, data_tensor)
            return
        if any(reader.is_reading for reader in count.readers):
            raise ConfigError(
                f"{count.name} is written while a loader that delivers it is in an epoch",
                remedy=_REMEDY[0].lower() + _REMEDY[1:],
            )
        push(client, name, id_tensor, data_tensor)
        if isinstance(client, KVClient):
            _wait_for_servers(client, name, id_tensor)
        count.add()

    return counted


def _wait_for_servers(client: Any, name: str, ids: torch.Tensor) -> None:
    """Return once all servers have done what this process has sent them."""
    parts = set(client.get_partid(name, ids).tolist()) - {client.machine_id}
    per_part = rpc.get_num_server_per_machine()
    servers = [part * per_part + number for part in parts for number in range(per_part)]
    for server in servers:
        rpc.send_request(server, GetPartShapeRequest(name))
    for _ in servers:
        rpc.recv_response()
