"""What a loader goes through, nodes or edges, and how a batch of it begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import dgl
import numpy as np
import torch

from rudder.training.errors import ConfigError
from rudder.training.loading import arguments
from rudder.training.loading.batch import InFlightBatch, Pairs
from rudder.training.loading.sampling_stage import uniform_fanouts
from rudder.training.loading.seed_order import SeedBatch
from rudder.training.partition_view import IntArray
from rudder.training.sampling.edge_filter import EdgeFilter, pair_keys
from rudder.training.sampling.edge_split import EdgeSplit
from rudder.training.sampling.negatives import Ends, Negatives, PerSourceNegatives

NegativeSampler = Callable[[Any, torch.Tensor], Any]
"""Takes a DistGraph and int64[n] edges, returns sources and destinations."""


class Seeds(Protocol):
    """The seeds of one trainer; `SeedBatch`es have some of `ids`."""

    @property
    def ids(self) -> IntArray:
        """int64[n]: what batches are made of."""

    @property
    def nodes(self) -> IntArray:
        """int64: the nodes whose representation is wanted in an epoch."""

    @property
    def uses_rpc(self) -> bool:
        """Whether `begin` waits for DGL's servers, so that nothing may be under way."""

    def begin(self, number: int, batch: SeedBatch) -> InFlightBatch:
        """The batch `number` of the run, before it is sampled."""


@dataclass(frozen=True)
class NodeSeeds:
    """Nodes, by global id."""

    ids: IntArray
    uses_rpc = False

    @property
    def nodes(self) -> IntArray:
        """The seeds."""
        return self.ids

    def begin(self, number: int, batch: SeedBatch) -> InFlightBatch:
        """A batch whose seeds are these nodes."""
        return InFlightBatch(number, batch.seeds, draw_key=batch.draw_key)


@dataclass(frozen=True)
class EdgeRules:
    """How neighbourhoods and negative edges of a batch of edges are made; see EdgeLoader."""

    exclude: Literal["self", "reverse_id", "ends"] | IntArray | Callable[..., Any] | None = None
    reverse_eids: IntArray | None = None
    negatives: Negatives | NegativeSampler | None = None
    held_out: EdgeSplit | None = None

    @classmethod
    def of(cls, *, exclude: Any, reverse_eids: Any, negatives: Any, held_out: Any) -> EdgeRules:
        """Check what a script passes; raises ConfigError."""
        is_name = exclude is None or isinstance(exclude, str)
        if is_name and exclude not in (None, "self", "reverse_id", "ends"):
            raise ConfigError.for_field(
                "exclude", value=exclude,
                allowed="None, self, reverse_id, ends, edge ids, or a function of a batch's edges",
            )  # fmt: skip
        if exclude == "reverse_id" and reverse_eids is None:
            raise ConfigError.for_field(
                "reverse_eids", value=None, allowed="the reverse edge of each edge of the graph",
                remedy="pass reverse_eids=, or exclude='ends', which needs none",
            )  # fmt: skip
        if not is_name and not callable(exclude):
            exclude = np.sort(arguments.one_dimensional("exclude", exclude))
        if reverse_eids is not None:
            reverse_eids = arguments.one_dimensional("reverse_eids", reverse_eids)
        if held_out is not None and not isinstance(held_out, EdgeSplit):
            raise ConfigError.for_field("held_out", value=held_out, allowed="an EdgeSplit or None")
        return cls(exclude, reverse_eids, _negatives_of(negatives), held_out)

    def check(self, sampler: Any) -> None:
        """Raise ConfigError for edges that this sampler would sample all the same."""
        drops = self.exclude is not None or self.held_out is not None
        is_own = not type(sampler).__module__.startswith("dgl.")
        may_pass_ids = is_own and self.held_out is None and not _is(self.exclude, "ends")
        if drops and uniform_fanouts(sampler) is None and not may_pass_ids:
            raise ConfigError(
                "this sampler does not leave out edges on a DistGraph (DGL ignores its"
                " exclude_edges)",
                remedy="use a NeighborSampler that draws uniformly without replacement, or exclude"
                " nothing",
            )

    @property
    def is_by_id(self) -> bool:
        """Whether edges are excluded by their ids, which must then be drawn along."""
        return self.exclude is not None and not _is(self.exclude, "ends")


def _is(exclude: Any, name: str) -> bool:
    return isinstance(exclude, str) and exclude == name


def _negatives_of(sampler: Any) -> Negatives | NegativeSampler | None:
    """Rudder's form of DGL's negative samplers; raises ConfigError."""
    samplers = dgl.dataloading.negative_sampler
    if type(sampler) is samplers.PerSourceUniform:
        return PerSourceNegatives(int(sampler.k))
    if isinstance(sampler, samplers.GlobalUniform):
        raise ConfigError.for_field(
            "negative_sampler", value="GlobalUniform",
            allowed="what works on a DistGraph, which GlobalUniform does not",
            remedy="use UniformNegatives(k) of rudder.training.loader",
        )  # fmt: skip
    if sampler is not None and not callable(sampler):
        raise ConfigError.for_field(
            "negative_sampler", value=sampler, allowed="a function of graph and edges, or None"
        )
    return sampler  # type: ignore[no-any-return]  # of a script


class EdgeSeeds:
    """Edges by global id, whose ends are looked up once, for all epochs."""

    def __init__(self, graph: Any, edges: IntArray, rules: EdgeRules) -> None:
        """Asks DGL's servers for the ends of edges of other partitions."""
        self._graph, self._edges, self._rules = graph, edges, rules
        sources, destinations = graph.find_edges(torch.from_numpy(edges))
        self._ends = Ends(sources.numpy(), destinations.numpy())
        self._num_nodes = int(graph.num_nodes())
        self.ids: IntArray = np.arange(len(edges))
        negatives, exclude = rules.negatives, rules.exclude
        self.uses_rpc = callable(exclude) or not isinstance(negatives, Negatives | None)

    @property
    def nodes(self) -> IntArray:
        """Distinct ends of the edges."""
        return _distinct(self._ends)

    def begin(self, number: int, batch: SeedBatch) -> InFlightBatch:
        """A batch whose seeds are the ends of its edges and of its negative edges."""
        edges = self._edges[batch.seeds]
        ends = Ends(self._ends.sources[batch.seeds], self._ends.destinations[batch.seeds])
        pairs = Pairs.of(edges, ends, self._negatives(edges, ends, batch.draw_key))
        return InFlightBatch(
            number,
            pairs.nodes,
            draw_key=batch.draw_key,
            pairs=pairs,
            edge_filter=self._filter(edges, ends),
        )

    def _negatives(self, edges: IntArray, ends: Ends, key: int) -> Ends | None:
        negatives = self._rules.negatives
        if negatives is None:
            return None
        if isinstance(negatives, Negatives):
            random = np.random.default_rng(key)
            return negatives.draw(ends, num_nodes=self._num_nodes, random=random)
        sources, destinations = negatives(self._graph, torch.from_numpy(edges))
        return Ends(sources.numpy(), destinations.numpy())

    def _filter(self, edges: IntArray, ends: Ends) -> EdgeFilter | None:
        rules, exclude = self._rules, self._rules.exclude
        if exclude is None and rules.held_out is None:
            return None
        pairs = ids = num_ends = None
        if _is(exclude, "ends") or _is(exclude, "self"):
            num_ends = len(_distinct(ends))  # ids that a script names may end anywhere
        if _is(exclude, "ends"):
            pairs = np.sort(pair_keys(ends.sources, ends.destinations, self._num_nodes))
        elif _is(exclude, "self"):
            ids = np.sort(edges)
        elif _is(exclude, "reverse_id"):
            assert rules.reverse_eids is not None
            ids = np.sort(np.concatenate([edges, rules.reverse_eids[edges]]))
        elif exclude is not None:
            found = exclude(torch.from_numpy(edges)) if callable(exclude) else exclude
            ids = np.sort(arguments.one_dimensional("exclude", found))
        return EdgeFilter(self._num_nodes, ids, num_ends, pairs, rules.held_out)


def _distinct(ends: Ends) -> IntArray:
    return np.asarray(np.unique(np.concatenate([ends.sources, ends.destinations])))
