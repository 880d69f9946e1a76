"""Layers of the models that `rudder train` knows by name."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, relu

from rudder.training.model.aggregation import (
    Block,
    TensorBlock,
    attend,
    attend_inputs,
    mean_of_neighbours,
    sum_of_neighbours,
)

_GEMM_GAIN = 4
"""How many times cheaper a multiplication is in a matrix product than in an aggregation."""
_RELU_GAIN = 2**0.5


class Layer(nn.Module):
    """A layer in two steps, so that inference sends messages between hosts at their width.

    `messages` is what a node sends to its neighbours; `update` is what a node makes of theirs.
    """

    def forward(self, block: Block, h: Tensor) -> Tensor:
        """(num_src, in_dim) -> (num_dst, out_dim)."""
        return self.update(block, self.messages(h), h[: block.num_dst_nodes()])

    def messages(self, h: Tensor) -> Tensor:
        """(n, in_dim) -> (n, width of a message)."""
        return h

    def update(self, block: Block, messages: Tensor, h_dst: Tensor) -> Tensor:
        """(num_src, width of a message), (num_dst, in_dim) -> (num_dst, out_dim)."""
        raise NotImplementedError


class _MeanLayer(Layer):
    """A layer that projects a mean of neighbours; the mean of projections is equal."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.in_dim = in_dim
        self.out_dim = out_dim

    def forward(self, block: Block, h: Tensor) -> Tensor:
        """(num_src, in_dim) -> (num_dst, out_dim), in the order that costs less."""
        h_dst = h[: block.num_dst_nodes()]
        if self._projects_first(block, needs_grad=h.requires_grad):
            return self.update(block, self._project(h), h_dst)
        return self._combine(self._project(self._mean(block, h)), h_dst)

    def messages(self, h: Tensor) -> Tensor:
        """(n, in_dim) -> (n, min(in_dim, out_dim))."""
        return self._project(h) if self.out_dim <= self.in_dim else h

    def update(self, block: Block, messages: Tensor, h_dst: Tensor) -> Tensor:
        """(num_src, min(in_dim, out_dim)), (num_dst, in_dim) -> (num_dst, out_dim)."""
        mean = self._mean(block, messages)
        return self._combine(self._project(mean) if self.out_dim > self.in_dim else mean, h_dst)

    def _project(self, h: Tensor) -> Tensor:
        raise NotImplementedError

    def _mean(self, block: Block, messages: Tensor) -> Tensor:
        raise NotImplementedError

    def _combine(self, mean: Tensor, h_dst: Tensor) -> Tensor:
        raise NotImplementedError

    def _projects_first(self, block: Block, *, needs_grad: bool) -> bool:
        """Whether `mean(W h)` costs less than `W mean(h)`."""
        if self.out_dim > self.in_dim:
            return False
        weights = self.in_dim * self.out_dim * (3 if needs_grad else 2)
        edges = _GEMM_GAIN * block.num_edges()
        project_first = block.num_src_nodes() * weights + edges * self.out_dim * 2
        mean_first = block.num_dst_nodes() * weights + edges * self.in_dim * (1 + needs_grad)
        return bool(project_first < mean_first)


class SageLayer(_MeanLayer):
    """GraphSAGE with mean aggregation (arXiv 1706.02216, algorithm 1).

    `h'_v = W_self h_v + W_neigh mean(h_u for u -> v) + b`; the mean of no neighbour is 0.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        """Draw weights as Glorot and Bengio for a rectifier; biases start at 0."""
        super().__init__(in_dim, out_dim)
        self.fc_self = nn.Linear(in_dim, out_dim)
        self.fc_neigh = nn.Linear(in_dim, out_dim, bias=False)
        nn.init.xavier_uniform_(self.fc_self.weight, gain=_RELU_GAIN)
        nn.init.xavier_uniform_(self.fc_neigh.weight, gain=_RELU_GAIN)
        nn.init.zeros_(self.fc_self.bias)

    def _project(self, h: Tensor) -> Tensor:
        return linear(h, self.fc_neigh.weight)

    def _mean(self, block: Block, messages: Tensor) -> Tensor:
        return mean_of_neighbours(block, messages)

    def _combine(self, mean: Tensor, h_dst: Tensor) -> Tensor:
        return linear(h_dst, self.fc_self.weight, self.fc_self.bias) + mean


class GcnLayer(_MeanLayer):
    """Graph convolution as in GraphSAGE (arXiv 1706.02216, equation 2).

    `h'_v = W mean(h_v and h_u for u -> v) + b`. It divides by the in-degree, not by the root of
    both degrees as arXiv 1609.02907 does: a sampled block does not tell a source's degree.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        """Draw weights as Glorot and Bengio for a rectifier; biases start at 0."""
        super().__init__(in_dim, out_dim)
        self.fc = nn.Linear(in_dim, out_dim)
        nn.init.xavier_uniform_(self.fc.weight, gain=_RELU_GAIN)
        nn.init.zeros_(self.fc.bias)

    def _project(self, h: Tensor) -> Tensor:
        return linear(h, self.fc.weight)

    def _mean(self, block: Block, messages: Tensor) -> Tensor:
        total = sum_of_neighbours(block, messages) + messages[: block.num_dst_nodes()]
        return total / (block.in_degrees().unsqueeze(-1) + 1)

    def _combine(self, mean: Tensor, h_dst: Tensor) -> Tensor:
        return mean + self.fc.bias


class GinLayer(Layer):
    """Graph isomorphism layer (arXiv 1810.00826, equation 4.1) with a mean over neighbours.

    `h'_v = MLP((1 + eps) h_v + mean(h_u for u -> v))`, eps learned. The mean, as a sum over
    sampled neighbours grows with the fan-out.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        """Draw weights as Glorot and Bengio for a rectifier; biases and eps start at 0."""
        super().__init__()
        self.in_dim = in_dim
        self.out_dim = out_dim
        self.eps = nn.Parameter(torch.zeros(1))
        self.fc_in = nn.Linear(in_dim, out_dim)
        self.fc_out = nn.Linear(out_dim, out_dim)
        for fc in (self.fc_in, self.fc_out):
            nn.init.xavier_uniform_(fc.weight, gain=_RELU_GAIN)
            nn.init.zeros_(fc.bias)

    def update(self, block: Block, messages: Tensor, h_dst: Tensor) -> Tensor:
        """(num_src, in_dim), (num_dst, in_dim) -> (num_dst, out_dim)."""
        h = (1 + self.eps) * h_dst + mean_of_neighbours(block, messages)
        hidden: Tensor = self.fc_out(relu(self.fc_in(h)))
        return hidden


class GatLayer(Layer):
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

    def forward(self, block: Block, h: Tensor) -> Tensor:
        """(num_src, in_dim) -> (num_dst, heads * head_dim), or (num_dst, head_dim) if last."""
        h_dst = h[: block.num_dst_nodes()]
        is_dgls = not isinstance(block, TensorBlock)
        if is_dgls and not h.requires_grad and len(h) > 2 * len(h_dst) > 0:
            return self._finish(self._attend_inputs(block, h), h_dst)
        return self.update(block, self.messages(h), h_dst)

    def messages(self, h: Tensor) -> Tensor:
        """(n, in_dim) -> (n, heads * head_dim)."""
        return linear(h, self.fc.weight)

    def update(self, block: Block, messages: Tensor, h_dst: Tensor) -> Tensor:
        """(num_src, heads * head_dim), (num_dst, in_dim) -> (num_dst, heads * head_dim or
        head_dim)."""
        z = messages.view(-1, self.heads, self.head_dim)
        scores_src = torch.einsum("nhf,hf->nh", z, self.attn_l)
        scores_dst = torch.einsum("nhf,hf->nh", z[: len(h_dst)], self.attn_r)
        heads = attend(block, z, scores_src=scores_src, scores_dst=scores_dst)
        return self._finish(heads, h_dst)

    def _attend_inputs(self, block: Block, h: Tensor) -> Tensor:
        """`W sum(a_uv h_u)` for `sum(a_uv W h_u)`: W meets num_dst rows, not num_src.

        Saves where h needs no gradient and has many more source rows than destination rows.
        """
        projection = self.fc.weight.view(self.heads, self.head_dim, -1)
        attn_l, attn_r = (
            torch.einsum("hf,hfi->ih", attn, projection) for attn in (self.attn_l, self.attn_r)
        )
        scores_src, scores_dst = h @ attn_l, h[: block.num_dst_nodes()] @ attn_r
        sums = attend_inputs(block, h, scores_src=scores_src, scores_dst=scores_dst)
        return torch.bmm(sums, projection.transpose(1, 2)).transpose(0, 1)

    def _finish(self, heads: Tensor, h_dst: Tensor) -> Tensor:
        residual = linear(h_dst, self.fc_res.weight, self.fc_res.bias)
        joined = heads.flatten(1) + residual
        return joined.view(-1, self.heads, self.head_dim).mean(1) if self.last else joined
