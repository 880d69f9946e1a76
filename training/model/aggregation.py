"""What layers do with the edges of a block: sums, means and attention over each node's in-edges.

A block of DGL's on the CPU is served by the fastest kernels there. A `TensorBlock` is served by
plain torch on any device, so a GPU needs no CUDA build of DGL.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import dgl
import torch
from torch import Tensor
from torch.nn import functional

_LEAKY_SLOPE = 0.2


class Block(Protocol):
    """What layers need of a block: DGL's blocks and `TensorBlock` have it.

    Destination nodes are the first source nodes.
    """

    def num_src_nodes(self) -> int:
        """Source nodes."""

    def num_dst_nodes(self) -> int:
        """Destination nodes."""

    def num_edges(self) -> int:
        """Edges."""

    def in_degrees(self) -> Tensor:
        """int[num_dst]: edges to each destination node."""

    def edges(self) -> tuple[Tensor, Tensor]:
        """Source and destination of each edge."""


@dataclass(frozen=True)
class TensorBlock:
    """A block as tensors of one device, with the methods of DGL's that layers need.

    indptr: int64[num_dst + 1]; indices: int64[num_edges], sources of the edges in the order of
    destinations; srcdata, dstdata: rows of source and destination nodes by name.
    """

    indptr: Tensor
    indices: Tensor
    num_src: int
    srcdata: dict[str, Tensor] = field(default_factory=dict)
    dstdata: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, block: dgl.DGLGraph, device: torch.device) -> TensorBlock:
        """The same edges and rows on a device."""
        indptr, indices, _ = block.adj_tensors("csc")
        return cls(
            indptr.long().to(device, non_blocking=True),
            indices.long().to(device, non_blocking=True),
            block.num_src_nodes(),
            {name: block.srcdata[name].to(device, non_blocking=True) for name in block.srcdata},
            {name: block.dstdata[name].to(device, non_blocking=True) for name in block.dstdata},
        )

    def num_src_nodes(self) -> int:
        """Source nodes."""
        return self.num_src

    def num_dst_nodes(self) -> int:
        """Destination nodes."""
        return len(self.indptr) - 1

    def num_edges(self) -> int:
        """Edges."""
        return len(self.indices)

    def in_degrees(self) -> Tensor:
        """int64[num_dst]: edges to each destination node."""
        return self.indptr.diff()

    def edges(self) -> tuple[Tensor, Tensor]:
        """Source and destination of each edge, int64[num_edges] both."""
        nodes = torch.arange(self.num_dst_nodes(), device=self.indptr.device)
        dst = torch.repeat_interleave(nodes, self.in_degrees(), output_size=self.num_edges())
        return self.indices, dst


def on_device(block: dgl.DGLGraph, device: torch.device) -> Block:
    """The block where a model on `device` can use it: as DGL's on the CPU, else as tensors."""
    return block if device.type == "cpu" else TensorBlock.of(block, device)


# -- sums and means ---------------------------------------------------------------------------


def sum_of_neighbours(block: Block, h: Tensor) -> Tensor:
    """(num_src, dim) -> (num_dst, dim): the sum over each node's in-edges."""
    if isinstance(block, TensorBlock):
        src, dst = block.edges()
        return h.new_zeros(block.num_dst_nodes(), h.shape[1]).index_add(0, dst, h[src])
    total: Tensor = _SumOfNeighbours.apply(block, h)  # type: ignore[no-untyped-call]
    return total


def mean_of_neighbours(block: Block, h: Tensor) -> Tensor:
    """(num_src, dim) -> (num_dst, dim): the mean over each node's in-edges, 0 where it has none."""
    if isinstance(block, TensorBlock):
        return sum_of_neighbours(block, h) / degrees_of(block, h)
    mean: Tensor = _MeanOfNeighbours.apply(block, h)  # type: ignore[no-untyped-call]
    return mean


def degrees_of(block: Block, h: Tensor) -> Tensor:
    """(num_dst, 1) in the dtype of h: edges to each node, at least 1."""
    return block.in_degrees().clamp(min=1).unsqueeze(-1).to(h.dtype)


class _MeanOfNeighbours(torch.autograd.Function):
    """Both ways as a sum over rows, several times faster than DGL's product on the CPU."""

    @staticmethod
    def forward(ctx: Any, block: dgl.DGLGraph, h: Tensor) -> Tensor:
        ctx.block = block
        offsets, indices, _ = block.adj_tensors("csc")
        return sum_rows(h, offsets, indices, mode="mean")

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        in_degrees = ctx.block.in_degrees().clamp(min=1).unsqueeze(-1)
        offsets, indices, _ = ctx.block.adj_tensors("csr")
        return None, sum_rows(grads[0] / in_degrees, offsets, indices)


class _SumOfNeighbours(torch.autograd.Function):
    """The same without the division."""

    @staticmethod
    def forward(ctx: Any, block: dgl.DGLGraph, h: Tensor) -> Tensor:
        ctx.block = block
        offsets, indices, _ = block.adj_tensors("csc")
        return sum_rows(h, offsets, indices)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        offsets, indices, _ = ctx.block.adj_tensors("csr")
        return None, sum_rows(grads[0].contiguous(), offsets, indices)


def sum_rows(
    rows: Tensor,
    offsets: Tensor,
    indices: Tensor,
    *,
    weights: Tensor | None = None,
    mode: Literal["sum", "mean"] = "sum",
) -> Tensor:
    """Sum or mean of `rows[indices[i]]` for i in offsets[k]:offsets[k + 1], for every k."""
    if len(rows) == 0:
        return rows.new_zeros(len(offsets) - 1, rows.shape[1])
    return functional.embedding_bag(
        indices, rows, offsets, mode=mode, per_sample_weights=weights, include_last_offset=True
    )


# -- attention --------------------------------------------------------------------------------


def attend(block: Block, z: Tensor, *, scores_src: Tensor, scores_dst: Tensor) -> Tensor:
    """Sum of each node's in-edges, weighted by the softmax of their scores.

    z: (num_src, heads, dim); scores_src, scores_dst: (num_src or num_dst, heads), an edge's score
    is LeakyReLU of their sum. Returns (num_dst, heads, dim), 0 where a node has no in-edge.
    """
    if isinstance(block, TensorBlock):
        src, dst = block.edges()
        scores = functional.leaky_relu(scores_src[src] + scores_dst[dst], _LEAKY_SLOPE)
        weights = _softmax(scores, dst, num_dst=block.num_dst_nodes())
        weighted = z[src] * weights.unsqueeze(-1)
        return z.new_zeros(block.num_dst_nodes(), *z.shape[1:]).index_add(0, dst, weighted)
    weights = _attention(block, scores_src, scores_dst).unsqueeze(-1)
    total: Tensor = dgl.ops.u_mul_e_sum(block, z, weights)
    return total


def attend_inputs(block: Any, h: Tensor, *, scores_src: Tensor, scores_dst: Tensor) -> Tensor:
    """`attend` on rows that all heads share and that need no gradient, on a block of DGL's.

    h: (num_src, dim). Returns (heads, num_dst, dim).
    """
    weights = _attention(block, scores_src, scores_dst)
    offsets, indices, edges = block.adj_tensors("csc")
    by_head = weights[edges].t().contiguous()
    sums: Tensor = _WeightedSums.apply(h, offsets, indices, by_head)  # type: ignore[no-untyped-call]
    return sums


def _softmax(scores: Tensor, dst: Tensor, *, num_dst: int) -> Tensor:
    """(num_edges, heads): softmax over the edges of each destination."""
    places = dst.unsqueeze(-1).expand_as(scores)
    highest = scores.new_full((num_dst, scores.shape[1]), -torch.inf)
    highest = highest.scatter_reduce(0, places, scores.detach(), "amax")
    powers = (scores - highest[dst]).exp()
    total = scores.new_zeros(num_dst, scores.shape[1]).index_add(0, dst, powers)
    return powers / total[dst]


def _attention(block: dgl.DGLGraph, scores_src: Tensor, scores_dst: Tensor) -> Tensor:
    """(num_src, heads), (num_dst, heads) -> (num_edges, heads), in the order of edge ids."""
    scores = functional.leaky_relu(dgl.ops.u_add_v(block, scores_src, scores_dst), _LEAKY_SLOPE)
    weights: Tensor = dgl.ops.edge_softmax(block, scores)
    return weights


class _WeightedSums(torch.autograd.Function):
    """(num_src, dim), weights (heads, num_edges) -> (heads, num_dst, dim).

    Has a gradient for the weights only: torch's embedding_bag refuses rows without one.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, offsets: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(h, offsets, indices)
        return torch.stack([sum_rows(h, offsets, indices, weights=head) for head in weights])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, None, Tensor]:
        h, offsets, indices = ctx.saved_tensors
        bags = torch.repeat_interleave(offsets.diff())
        dot = torch.ops.aten._embedding_bag_per_sample_weights_backward  # type: ignore[attr-defined]
        return (
            None,
            None,
            None,
            torch.stack([dot(g, h, indices, offsets, bags, 0) for g in grads[0]]),
        )
