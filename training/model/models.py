"""The models that `rudder train` trains, for every loader alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import dgl
from torch import Tensor, nn
from torch.nn import functional

from rudder.training.errors import ConfigError
from rudder.training.model.layers import GatLayer, SageLayer

ModelKind = Literal["sage", "gat"]
Loss = Callable[[Tensor, Tensor], Tensor]


class BlockModel(nn.Module):
    """A stack of layers, one per block; between two layers an activation and dropout."""

    def __init__(
        self,
        layers: Sequence[SageLayer | GatLayer],
        *,
        activation: Callable[[Tensor], Tensor],
        dropout: float,
    ) -> None:
        """Take layers whose widths fit each other; `dropout` is a probability."""
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.activation = activation
        self.dropout = dropout

    def forward(self, blocks: Sequence[dgl.DGLGraph], x: Tensor) -> Tensor:
        """(num input nodes, in_dim) of any float dtype -> (num seeds, num_classes) float32."""
        h = x.float()
        for index, block in enumerate(blocks):
            h = self.forward_layer(index, block, h)
        return h

    def forward_layer(self, index: int, block: dgl.DGLGraph, h: Tensor) -> Tensor:
        """One layer with what follows it: (num_src, in) -> (num_dst, out)."""
        out: Tensor = self.layers[index](block, h)
        return self.finish_layer(index, out)

    def finish_layer(self, index: int, h: Tensor) -> Tensor:
        """Activation and dropout after a layer; the last layer's output stays as it is."""
        if index == len(self.layers) - 1:
            return h
        return functional.dropout(self.activation(h), self.dropout, self.training)


def make_model(
    kind: ModelKind,
    *,
    in_dim: int,
    hidden: int,
    num_classes: int,
    num_layers: int,
    heads: int,
    dropout: float,
) -> BlockModel:
    """Build a model; `hidden` is the width of a layer's output, over all heads.

    Raises ConfigError where gat's heads do not divide `hidden`.
    """
    widths = [in_dim, *[hidden] * (num_layers - 1)]
    if kind == "sage":
        ends = [*widths[1:], num_classes]
        sage = [SageLayer(start, end) for start, end in zip(widths, ends, strict=True)]
        return BlockModel(sage, activation=functional.relu, dropout=dropout)
    if hidden % heads:
        raise ConfigError.for_field("heads", value=heads, allowed=f"a divisor of hidden ({hidden})")
    gat = [GatLayer(width, hidden // heads, heads, last=False) for width in widths[:-1]]
    gat.append(GatLayer(widths[-1], num_classes, heads, last=True))
    return BlockModel(gat, activation=functional.elu, dropout=dropout)


def make_loss(*, multilabel: bool) -> Loss:
    """Mean loss of (n, classes) outputs.

    Multi-label targets are (n, classes) of 0 and 1, single-label targets (n,) class numbers.
    """
    return _multilabel_loss if multilabel else _single_label_loss


def _multilabel_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype))


def _single_label_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets.long())
