"""Layers of the models that `rudder train` knows by name."""

from __future__ import annotations

from typing import Any, Literal

import dgl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import linear

_GEMM_GAIN = 4
"""How many times cheaper a multiplication is in a matrix product than in an aggregation."""
_LEAKY_SLOPE = 0.2
_RELU_GAIN = 2**0.5


class SageLayer(nn.Module):
    """GraphSAGE with mean aggregation (arXiv 1706.02216, algorithm 1).

    `h'_v = W_self h_v + W_neigh mean(h_u for u -> v) + b`; the mean of no neighbour is 0.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        """Draw weights as Glorot and Bengio for a rectifier; biases start at 0."""
        super().__init__()
        self.in_dim = in_dim
        self.out_dim = out_dim
        self.fc_self = nn.Linear(in_dim, out_dim)
        self.fc_neigh = nn.Linear(in_dim, out_dim, bias=False)
        nn.init.xavier_uniform_(self.fc_self.weight, gain=_RELU_GAIN)
        nn.init.xavier_uniform_(self.fc_neigh.weight, gain=_RELU_GAIN)
        nn.init.zeros_(self.fc_self.bias)

    @property
    def message_dim(self) -> int:
        """Numbers that a node sends to each neighbour."""
        return min(self.in_dim, self.out_dim)

    def forward(self, block: dgl.DGLGraph, h: Tensor) -> Tensor:
        """(num_src, in_dim) -> (num_dst, out_dim)."""
        h_dst = h[: block.num_dst_nodes()]
        if self._projects_first(block, needs_grad=h.requires_grad):
            return self.update(block, linear(h, self.fc_neigh.weight), h_dst)
        return self._combine(linear(mean_of_neighbours(block, h), self.fc_neigh.weight), h_dst)

    def messages(self, h: Tensor) -> Tensor:
        """(n, in_dim) -> (n, message_dim)."""
        return linear(h, self.fc_neigh.weight) if self.out_dim <= self.in_dim else h

    def update(self, block: dgl.DGLGraph, messages: Tensor, h_dst: Tensor) -> Tensor:
        """(num_src, message_dim), (num_dst, in_dim) -> (num_dst, out_dim)."""
        mean = mean_of_neighbours(block, messages)
        if self.out_dim > self.in_dim:
            mean = linear(mean, self.fc_neigh.weight)
        return self._combine(mean, h_dst)

    def _combine(self, neighbours: Tensor, h_dst: Tensor) -> Tensor:
        return linear(h_dst, self.fc_self.weight, self.fc_self.bias) + neighbours

    def _projects_first(self, block: dgl.DGLGraph, *, needs_grad: bool) -> bool:
        """Whether `mean(W h)` costs less than `W mean(h)`; the two are equal."""
        if self.out_dim > self.in_dim:
            return False
        weights = self.in_dim * self.out_dim * (3 if needs_grad else 2)
        edges = _GEMM_GAIN * block.num_edges()
        project_first = block.num_src_nodes() * weights + edges * self.out_dim * 2
        mean_first = block.num_dst_nodes() * weights + edges * self.in_dim * (1 + needs_grad)
        return bool(project_first < mean_first)


class GatLayer(nn.Module):
    """Graph attention (arXiv 1710.10903, equations 1 to 4) with a linear residual.

    `h'_v = sum(a_uv W h_u for u -> v) + W_res h_v + b` per head, a the softmax over v's in-edges
    of LeakyReLU(attn_l . W h_u + attn_r . W h_v); `last` averages the heads, else they are joined.
    """

    def __init__(self, in_dim: int, head_dim: int, heads: int, *, last: bool) -> None:
        """Draw weights as Glorot and Bengio for a rectifier; biases start at 0."""
        super().__init__()
        self.in_dim = in_dim
        self.heads = heads
        self.head_dim = head_dim
        self.last = last
        self.fc = nn.Linear(in_dim, heads * head_dim, bias=False)
        self.fc_res = nn.Linear(in_dim, heads * head_dim)
        self.attn_l = nn.Parameter(torch.empty(heads, head_dim))
        self.attn_r = nn.Parameter(torch.empty(heads, head_dim))
        for weight in (self.fc.weight, self.fc_res.weight, self.attn_l, self.attn_r):
            nn.init.xavier_normal_(weight, gain=_RELU_GAIN)
        nn.init.zeros_(self.fc_res.bias)

    @property
    def message_dim(self) -> int:
        """Numbers that a node sends to each neighbour."""
        return self.heads * self.head_dim

    @property
    def out_dim(self) -> int:
        """Width of the output."""
        return self.head_dim if self.last else self.heads * self.head_dim

    def forward(self, block: dgl.DGLGraph, h: Tensor) -> Tensor:
        """(num_src, in_dim) -> (num_dst, heads * head_dim), or (num_dst, head_dim) if last."""
        block = _with_edge_ids(block)
        h_dst = h[: block.num_dst_nodes()]
        if h.device.type == "cpu" and not h.requires_grad and len(h) > 2 * len(h_dst) > 0:
            return self._finish(self._attend_inputs(block, h), h_dst)
        return self.update(block, self.messages(h), h_dst)

    def messages(self, h: Tensor) -> Tensor:
        """(n, in_dim) -> (n, message_dim)."""
        return linear(h, self.fc.weight)

    def update(self, block: dgl.DGLGraph, messages: Tensor, h_dst: Tensor) -> Tensor:
        """(num_src, message_dim), (num_dst, in_dim) -> (num_dst, heads * head_dim or head_dim)."""
        block = _with_edge_ids(block)
        z = messages.view(-1, self.heads, self.head_dim)
        scores_src = torch.einsum("nhf,hf->nh", z, self.attn_l)
        scores_dst = torch.einsum("nhf,hf->nh", z[: len(h_dst)], self.attn_r)
        weights = _attention(block, scores_src, scores_dst).unsqueeze(-1)
        return self._finish(dgl.ops.u_mul_e_sum(block, z, weights), h_dst)

    def _attend_inputs(self, block: dgl.DGLGraph, h: Tensor) -> Tensor:
        """`W sum(a_uv h_u)` for `sum(a_uv W h_u)`: W meets num_dst rows, not num_src.

        Saves where h needs no gradient and has many more source rows than destination rows.
        """
        projection = self.fc.weight.view(self.heads, self.head_dim, self.in_dim)
        attn_l, attn_r = (
            torch.einsum("hf,hfi->ih", attn, projection) for attn in (self.attn_l, self.attn_r)
        )
        scores_src, scores_dst = h @ attn_l, h[: block.num_dst_nodes()] @ attn_r
        weights = _attention(block, scores_src, scores_dst)
        offsets, indices, edges = block.adj_tensors("csc")
        in_order = weights[edges] if len(edges) else weights  # no edge ids: they are in order
        by_head = in_order.t().contiguous()
        sums = _WeightedSums.apply(h, offsets, indices, by_head)  # type: ignore[no-untyped-call]
        return torch.bmm(sums, projection.transpose(1, 2)).transpose(0, 1)

    def _finish(self, heads: Tensor, h_dst: Tensor) -> Tensor:
        residual = linear(h_dst, self.fc_res.weight, self.fc_res.bias)
        joined = heads.flatten(1) + residual
        return joined.view(-1, self.heads, self.head_dim).mean(1) if self.last else joined


def _with_edge_ids(block: dgl.DGLGraph) -> dgl.DGLGraph:
    """The block with edge ids; dgl's product with edge weights fails on one without (CSC only)."""
    offsets, indices, edges = block.adj_tensors("csc")
    if len(edges) == len(indices):
        return block
    edges = torch.arange(len(indices), dtype=indices.dtype, device=indices.device)
    return dgl.create_block(
        ("csc", (offsets, indices, edges)),
        num_src_nodes=block.num_src_nodes(),
        num_dst_nodes=block.num_dst_nodes(),
    )


def _attention(block: dgl.DGLGraph, scores_src: Tensor, scores_dst: Tensor) -> Tensor:
    """(num_src, heads), (num_dst, heads) -> (num_edges, heads), in the order of edge ids."""
    scores = functional.leaky_relu(dgl.ops.u_add_v(block, scores_src, scores_dst), _LEAKY_SLOPE)
    weights: Tensor = dgl.ops.edge_softmax(block, scores)
    return weights


def mean_of_neighbours(block: dgl.DGLGraph, h: Tensor) -> Tensor:
    """(num_src, dim) -> (num_dst, dim): the mean over each node's in-edges, 0 where it has none."""
    mean: Tensor = (
        _MeanOfNeighbours.apply(block, h)  # type: ignore[no-untyped-call]
        if h.device.type == "cpu"
        else dgl.ops.copy_u_mean(block, h)
    )
    return mean


class _MeanOfNeighbours(torch.autograd.Function):
    """Both ways as a sum over rows, several times faster than DGL's product on the CPU."""

    @staticmethod
    def forward(ctx: Any, block: dgl.DGLGraph, h: Tensor) -> Tensor:
        ctx.block = block
        offsets, indices, _ = block.adj_tensors("csc")
        return _sum_rows(h, offsets, indices, mode="mean")

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        in_degrees = ctx.block.in_degrees().clamp(min=1).unsqueeze(-1)
        offsets, indices, _ = ctx.block.adj_tensors("csr")
        return None, _sum_rows(grads[0] / in_degrees, offsets, indices)


class _WeightedSums(torch.autograd.Function):
    """(num_src, dim), weights (heads, num_edges) -> (heads, num_dst, dim).

    Has a gradient for the weights only: torch's embedding_bag refuses rows without one.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, offsets: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(h, offsets, indices)
        return torch.stack([_sum_rows(h, offsets, indices, weights=head) for head in weights])

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


def _sum_rows(
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
