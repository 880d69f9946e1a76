"""The model of a run: one that Rudder knows by name, or what a person's own factory returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import dgl
from torch import Tensor, nn
from torch.nn import functional

from rudder.training.errors import ConfigError
from rudder.training.model.layers import GatLayer, SageLayer

ModelKind = Literal["sage", "gat"]


@dataclass(frozen=True)
class ModelOptions:
    """The options of a run that describe its model.

    hidden: width of a layer's output, over all heads; num_layers: one for each block; dropout:
    probability.
    """

    hidden: int = 64
    num_layers: int = 2
    heads: int = 4
    dropout: float = 0.5


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


def build_model(spec: str, *, in_dim: int, num_classes: int, options: ModelOptions) -> BlockModel:
    """Build the model that `--model` names, on the CPU; num_classes: width of its output.

    Raises ConfigError where gat's heads do not divide `hidden`.
    """
    widths = [in_dim, *[options.hidden] * (options.num_layers - 1)]
    if spec == "sage":
        ends = [*widths[1:], num_classes]
        sage = [SageLayer(start, end) for start, end in zip(widths, ends, strict=True)]
        return BlockModel(sage, activation=functional.relu, dropout=options.dropout)
    heads = options.heads
    if options.hidden % heads:
        allowed = f"a divisor of hidden ({options.hidden})"
        raise ConfigError.for_field("heads", value=heads, allowed=allowed)
    head_dim = options.hidden // heads
    gat = [GatLayer(width, head_dim, heads, last=False) for width in widths[:-1]]
    gat.append(GatLayer(widths[-1], num_classes, heads, last=True))
    return BlockModel(gat, activation=functional.elu, dropout=options.dropout)
