"""The nodes of one rank: a range of its partition's inner nodes, and who has the others.

Local ids are those of the partition: inner nodes first, then halo nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, distributed

from rudder.training.errors import RunError
from rudder.training.partition_view import IntArray, PartitionView

_ROUND_BYTES = 2**22
"""Of rows that a rank sends to another in one call: 1.7 s at 20 Mbit/s."""


class Collectives:
    """Collective calls: all ranks make the same ones, in the same order.

    Without a process group there is one rank, which speaks with itself.
    """

    def __init__(self, device: torch.device) -> None:
        """`device` is used where the backend only carries tensors of accelerators (nccl)."""
        self._is_alone = not (distributed.is_available() and distributed.is_initialized())
        self.num_ranks = 1 if self._is_alone else distributed.get_world_size()
        self.rank = 0 if self._is_alone else distributed.get_rank()
        needs_device = not self._is_alone and distributed.get_backend() == "nccl"
        self._device = device if needs_device else torch.device("cpu")

    def gather(self, value: int) -> list[int]:
        """Every rank's value, in the order of ranks."""
        received = torch.empty(self.num_ranks, dtype=torch.int64)
        self._swap(received, torch.tensor([value] * self.num_ranks), None, None)
        return [int(number) for number in received]

    def sum(self, values: Tensor) -> Tensor:
        """Sum over ranks, element by element."""
        total = values.to(self._device)
        if not self._is_alone:
            distributed.all_reduce(total)
        return total.cpu()

    def share(self, values: Tensor) -> Tensor:
        """The first rank's values, of one dimension and the same dtype everywhere, on all ranks."""
        if self._is_alone:
            return values
        size = self.gather(len(values))[0]
        shared = values if self.rank == 0 else values.new_empty(size)
        shared = shared.to(self._device)
        distributed.broadcast(shared, 0)
        return shared.cpu()

    def swap(self, rows: Tensor, counts: Sequence[int]) -> tuple[Tensor, list[int]]:
        """Send `counts[r]` rows to each rank r, in this order; returns what came, and how many."""
        received_counts = torch.empty(self.num_ranks, dtype=torch.int64)
        self._swap(received_counts, torch.tensor(counts), None, None)
        come = [int(number) for number in received_counts]
        received = rows.new_empty(sum(come), *rows.shape[1:])
        self._swap(received, rows, come, list(counts))
        return received, come

    def swap_in_rounds(
        self,
        out: Tensor,
        rows: Tensor,
        places: Tensor,
        *,
        received: Sequence[int],
        sent: Sequence[int],
        on_round: Callable[[], object],
    ) -> None:
        """Send `rows[places]`, sent[r] of them to each rank r; out: what comes, rank after rank.

        received[r]: rows that rank r sends. It takes several calls, each of about 4 MiB a rank,
        so that a slow link shows progress.
        """
        size = max(1, _ROUND_BYTES // (rows.element_size() * max(rows.shape[1], 1)))
        num_rounds = max(self.gather(-(-max([*received, *sent]) // size)))
        for index in range(num_rounds):
            going, num_going = _piece(sent, index, size)
            coming, num_coming = _piece(received, index, size)
            arrived = rows.new_empty(len(coming), *rows.shape[1:])
            self._swap(arrived, rows[places[going]], num_coming, num_going)
            out[coming] = arrived
            on_round()

    def filled(self, chunks: Iterable[Tensor], *, num_rows: int) -> Tensor:
        """float32[num_rows, width], its first rows those of all chunks.

        A rank without a chunk learns the width from the others.
        """
        out, end = None, 0
        for chunk in chunks:
            out = torch.empty(num_rows, chunk.shape[1]) if out is None else out
            out[end : end + len(chunk)] = chunk
            end += len(chunk)
        width = max(self.gather(0 if out is None else out.shape[1]))
        return torch.empty(num_rows, width) if out is None else out

    def _swap(
        self, out: Tensor, rows: Tensor, received: list[int] | None, sent: list[int] | None
    ) -> None:
        if self._is_alone:
            out.copy_(rows)
        elif self._device.type == "cpu":
            distributed.all_to_all_single(out, rows.contiguous(), received, sent)
        else:
            arriving = torch.empty_like(out, device=self._device)
            distributed.all_to_all_single(arriving, rows.to(self._device), received, sent)
            out.copy_(arriving)


@dataclass(frozen=True)
class Shard:
    """Local ids first .. last - 1 of `view` belong to this rank.

    range_starts: int64[ranks], ascending, the global id at which a rank's range begins;
    range_ranks: int64[ranks], whose range that is.
    """

    view: PartitionView
    first: int
    last: int
    range_starts: IntArray
    range_ranks: IntArray

    @classmethod
    def of(cls, view: PartitionView, collectives: Collectives) -> Shard:
        """Share each partition among its ranks; every rank calls this at the same time."""
        parts = np.array(collectives.gather(view.part))
        if set(parts.tolist()) != set(range(len(view.starts) - 1)):
            raise RunError(
                f"the trainers have partitions {sorted(set(parts.tolist()))}"
                f" of {len(view.starts) - 1}; each partition needs a trainer",
                remedy="start at least one trainer on every host",
            )
        order = np.argsort(parts, kind="stable")
        starts = np.concatenate([_starts_in(view, part, parts) for part in np.unique(parts)])
        place = int(np.flatnonzero(order == collectives.rank)[0])
        begin = int(starts[place])
        is_last = place + 1 == len(order) or parts[order[place + 1]] != view.part
        end = view.last if is_last else int(starts[place + 1])
        return cls(view, begin - view.first, end - view.first, starts, order)

    @property
    def num_local(self) -> int:
        """Inner and halo nodes of the partition."""
        return self.view.num_inner + len(self.view.halo)

    def to_global(self, nodes: IntArray) -> IntArray:
        """Global ids of local ids."""
        ids = nodes + self.view.first
        is_halo = nodes >= self.view.num_inner
        ids[is_halo] = self.view.halo[nodes[is_halo] - self.view.num_inner]
        return ids

    def owners(self, ids: IntArray) -> IntArray:
        """The rank that has each global id."""
        places = np.searchsorted(self.range_starts, ids, side="right") - 1
        return np.asarray(self.range_ranks[places])

    def chunks(self, nodes: IntArray, *, rows: int, edges: int) -> Iterator[slice]:
        """Cut inner nodes into runs of at most so many rows and in-edges, one row at least."""
        ends = np.cumsum(self.view.indptr[nodes + 1] - self.view.indptr[nodes])
        begin = 0
        while begin < len(nodes):
            done = ends[begin - 1] if begin else 0
            end = int(np.searchsorted(ends, done + edges, side="right"))
            end = min(max(end, begin + 1), begin + rows, len(nodes))
            yield slice(begin, end)
            begin = end

    def in_edges(self, nodes: IntArray) -> tuple[IntArray, IntArray]:
        """(number of in-edges of each node, their sources' local ids one node after another)."""
        starts = self.view.indptr[nodes]
        counts = self.view.indptr[nodes + 1] - starts
        if len(nodes) and nodes[-1] - nodes[0] == len(nodes) - 1:
            return counts, self.view.indices[starts[0] : starts[-1] + counts[-1]]
        offsets = np.cumsum(counts) - counts
        positions = np.repeat(starts - offsets, counts) + np.arange(counts.sum())
        return counts, self.view.indices[positions]


def _piece(counts: Sequence[int], index: int, size: int) -> tuple[Tensor, list[int]]:
    """Places of rows that go in round `index`, `size` of each rank, and how many of each."""
    begins = np.cumsum([0, *counts])[:-1]
    places = [
        np.arange(begin + min(index * size, count), begin + min((index + 1) * size, count))
        for begin, count in zip(begins, counts, strict=True)
    ]
    return torch.from_numpy(np.concatenate(places)), [len(each) for each in places]


def _starts_in(view: PartitionView, part: int, parts: IntArray) -> IntArray:
    first, last = int(view.starts[part]), int(view.starts[part + 1])
    num_ranks = int((parts == part).sum())
    return first + (last - first) * np.arange(num_ranks) // num_ranks
