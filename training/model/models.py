"""The model of a run: one that Rudder knows by name, or what a person's own factory returns."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parameter import UninitializedParameter

from rudder.training.config import RunConfig
from rudder.training.errors import ConfigError
from rudder.training.model.aggregation import Block
from rudder.training.model.layers import GatLayer, GcnLayer, GinLayer, Layer, SageLayer
from rudder.training.model.own import OwnModel


@dataclass(frozen=True)
class ModelOptions:
    """The options of a run that describe its model, as a person's own factory gets them.

    hidden: width of a layer's output, over all heads; num_layers: one for each block; dropout:
    probability.
    """

    hidden: int = 64
    num_layers: int = 2
    heads: int = 4
    dropout: float = 0.5

    @classmethod
    def of(cls, config: RunConfig) -> ModelOptions:
        """Those of a run."""
        return cls(
            hidden=config.hidden,
            num_layers=config.layers,
            heads=config.heads,
            dropout=config.dropout,
        )


class BlockModel(nn.Module):
    """A stack of layers, one per block; between two layers an activation and dropout."""

    def __init__(
        self,
        layers: Sequence[Layer],
        *,
        activation: Callable[[Tensor], Tensor],
        dropout: float,
    ) -> None:
        """Take layers whose widths fit each other; `dropout` is a probability."""
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.num_layers: int = len(layers)
        self.activation = activation
        self.dropout = dropout

    def forward(self, blocks: Sequence[Block], x: Tensor) -> Tensor:
        """(num input nodes, in_dim) of any float dtype -> (num seeds, num_classes) float32."""
        h = x.float()
        for index, block in enumerate(blocks):
            h = self._finish(index, self.layers[index](block, h))
        return h

    def messages(self, index: int, h: Tensor) -> Tensor:
        """What nodes send to their neighbours in layer `index`."""
        messages: Tensor = self.layers[index].messages(h)
        return messages

    def update(self, index: int, block: Block, messages: Tensor, h_dst: Tensor) -> Tensor:
        """What they make of it, and what follows the layer."""
        return self._finish(index, self.layers[index].update(block, messages, h_dst))

    def _finish(self, index: int, h: Tensor) -> Tensor:
        """Activation and dropout after a layer; the last layer's output stays as it is."""
        if index == len(self.layers) - 1:
            return h
        return functional.dropout(self.activation(h), self.dropout, self.training)


def build_model(spec: str, *, in_dim: int, num_classes: int, options: ModelOptions) -> nn.Module:
    """Build the model that `--model` names, on the CPU; num_classes: width of its output.

    It is called with blocks, input layer first, and the input nodes' rows [n, in_dim]; it returns
    [seeds, num_classes]. It has an attribute `num_layers`. Raises ConfigError where a person's own
    file or factory fails.
    """
    own = OwnModel.parse(spec)
    if own is None:
        return _known_model(spec, in_dim=in_dim, num_classes=num_classes, options=options)
    model = own.build(in_dim, num_classes, options)
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"model = {spec!r} returns {type(model).__name__}, not a torch.nn.Module",
            remedy="have the factory return the module itself",
        )
    if any(isinstance(each, UninitializedParameter) for each in model.parameters()):
        raise ConfigError(
            f"model = {spec!r} has lazy layers, whose widths are not known yet",
            remedy="give its layers their widths: the factory gets in_dim and num_classes",
        )
    if not hasattr(model, "num_layers"):
        object.__setattr__(model, "num_layers", options.num_layers)
    return model


def _known_model(spec: str, *, in_dim: int, num_classes: int, options: ModelOptions) -> BlockModel:
    widths = [in_dim, *[options.hidden] * (options.num_layers - 1), num_classes]
    pairs = list(itertools.pairwise(widths))
    if spec == "gat":
        heads, head_dim = options.heads, options.hidden // options.heads
        layers: list[Layer] = [
            GatLayer(start, head_dim, heads, last=False) for start, _ in pairs[:-1]
        ]
        layers.append(GatLayer(pairs[-1][0], num_classes, heads, last=True))
    else:
        kind = {"sage": SageLayer, "gcn": GcnLayer, "gin": GinLayer}[spec]
        layers = [kind(start, end) for start, end in pairs]
    activation = functional.elu if spec == "gat" else functional.relu
    return BlockModel(layers, activation=activation, dropout=options.dropout)
