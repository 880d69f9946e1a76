"""Rows from every rank to every rank, over torch's process group."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, distributed


class Exchange:
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

    def swap(self, rows: Tensor, counts: Sequence[int]) -> tuple[Tensor, list[int]]:
        """Send `counts[r]` rows to each rank r, in this order; returns what came, and how many."""
        received_counts = torch.empty(self.num_ranks, dtype=torch.int64)
        self._swap(received_counts, torch.tensor(counts), None, None)
        come = [int(number) for number in received_counts]
        received = rows.new_empty(sum(come), *rows.shape[1:])
        self._swap(received, rows, come, list(counts))
        return received, come

    def swap_into(
        self, out: Tensor, rows: Tensor, *, received: Sequence[int], sent: Sequence[int]
    ) -> None:
        """The same, where both sides know the counts; `out` is contiguous."""
        self._swap(out, rows, list(received), list(sent))

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
