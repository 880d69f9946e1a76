"""Estimates how often nodes will be used, those included that were never used so far.

Every training node is a seed once an epoch. So a node has a number of chances an epoch, one for
each seed that may reach it, and takes each of them with some probability: its uses of an epoch are
binomial. They vary less than those of a Poisson process, and a node that was used in the first half
of an epoch is used less in the second. How many nodes there are of which kind (chances and
probability) is fitted to the uses that were seen, by expectation maximization (Laird, JASA 1978);
of which kind a node is follows from its own uses by Bayes' rule.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.policy import IntArray
from rudder.training.compiled import compiled

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
_PROBABILITIES = (0.04, 0.15, 0.35, 0.65, 0.92)
_EXPECTED = (0.4, 0.3, 0.2, 0.05, 0.05)
"""Shares of these where nothing tells them apart, as in the first epoch. By hand: a fan-out of 5,10
takes most chances seldom (community-200k), one that takes all neighbours takes them always."""
_CHANCES = (1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64)
_OFTEN = 0.5
"""Probability of nodes with more chances, which no buffer misses."""
_MOST_OFTEN = 0.99
"""Of batches: a node that is in more of them is taken to be in so many."""
_SHORT_EPOCH = 32
"""Batches: shorter epochs are taken together, so that few have to be drawn."""
_ROUNDS = 60
"""Of the fit. By hand: with 120 it follows what was chance."""
_UNEVEN = 1.5
"""Between 1, nodes that are equally popular, and 2, exponential rates."""
_LEAST = 1e-60
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class SeenUses:
    """Uses of all nodes in four stretches of batches, any of which may be empty: of the oldest
    epoch, if a part of it was seen; of the older and the newer half of whole epochs; of the epoch
    that goes on.

    uses: int64[4, nodes]; num_epochs: int64[4], whole epochs of each, or 1; shares: float64[4], of
    the epoch that was seen; epoch_steps: of an epoch, or of a few short ones; steps_left: of the
    epoch that goes on.
    """

    uses: IntArray
    num_epochs: IntArray
    shares: Floats
    epoch_steps: int
    steps_left: int

    @classmethod
    def of(
        cls, nodes: IntArray, *, steps: IntArray, widths: IntArray, num_nodes: int, epoch_steps: int
    ) -> SeenUses:
        """nodes: int64, of all batches, one after the other; steps, widths: int64[batches] of each
        of them, some may be missing in between; num_nodes: with those that were not used."""
        epoch_steps *= -(-_SHORT_EPOCH // epoch_steps)
        now = int(steps[-1] + 1) // epoch_steps
        numbers, places, seen = np.unique(
            steps // epoch_steps, return_inverse=True, return_counts=True
        )
        whole = np.flatnonzero((seen == epoch_steps) & (numbers < now))
        stretch_of = np.full(len(numbers), -1)
        stretch_of[0] = 0
        stretch_of[whole], stretch_of[whole[len(whole) // 2 :]] = 1, 2
        stretch_of[numbers == now] = 3
        stretches = stretch_of[places]
        batches = np.bincount(stretches[stretches >= 0], minlength=4)
        of_uses = np.repeat(stretches, widths)
        found = (of_uses * num_nodes + nodes)[of_uses >= 0]
        uses = np.bincount(found, minlength=4 * num_nodes).reshape(4, num_nodes)
        part = np.minimum(uses / np.maximum(batches, 1)[:, None], _MOST_OFTEN)
        uses = np.round(-np.log1p(-part) * batches[:, None]).astype(np.int64)  # there once of twice
        num_epochs = np.maximum(np.bincount(stretch_of[stretch_of >= 0], minlength=4), 1)
        shares = batches / epoch_steps / num_epochs
        left = epoch_steps - int(steps[-1] + 1) % epoch_steps
        return cls(uses, num_epochs, shares, epoch_steps, left)


@dataclass(frozen=True)
class Popularity:
    """Kinds of nodes, the first of which are out of reach, and what is known of each node's kind.

    chances, probabilities: int64[kinds], float64[kinds]; kinds: int64[nodes], drawn for each node.
    """

    seen: SeenUses
    chances: IntArray
    probabilities: Floats
    kinds: IntArray

    @classmethod
    def of(cls, seen: SeenUses, *, random: np.random.Generator) -> Popularity:
        """At least one node was used."""
        chances, probabilities, weights = _kinds(seen)
        keys = np.ravel_multi_index(tuple(seen.uses), tuple(seen.uses.max(axis=1) + 1))
        keys, first, places, counts = np.unique(
            keys, return_index=True, return_inverse=True, return_counts=True
        )
        likely = np.ones((len(keys), len(chances)))
        for stretch, uses in enumerate(seen.uses[:, first]):
            numbers, lines = np.unique(uses, return_inverse=True)
            tries = (chances * seen.num_epochs[stretch]).astype(np.float64)
            likely *= _binomial(numbers, tries, probabilities * seen.shares[stretch])[lines]
        weights = _fitted(likely, counts.astype(np.float64), weights, _ROUNDS)
        so_far = np.cumsum(likely * weights, axis=1)
        spread = np.empty(len(places))  # over nodes of like uses evenly (Weyl's sequence)
        spread[np.argsort(places, kind="stable")] = (
            random.random() + _GOLDEN * np.arange(len(places))
        ) % 1.0
        return cls(seen, chances, probabilities, _chosen(so_far, places, spread))

    def batches_to_come(
        self, count: int, *, random: np.random.Generator
    ) -> tuple[IntArray, IntArray]:
        """So many batches after the last one seen: (nodes int64, bounds int64[count + 1]), those of
        a batch distinct."""
        seen = self.seen
        begins = np.arange(seen.steps_left - seen.epoch_steps, count, seen.epoch_steps)
        uses = _uses_to_come(
            self.chances[self.kinds],
            self.probabilities[self.kinds],
            seen.uses[3],
            seen.shares[3],
            seen.steps_left / seen.epoch_steps,
            random.random((len(self.kinds), len(begins))),
        )
        places = random.random(int(uses.sum()), dtype=np.float32)
        return _sorted_by_batch(uses, begins, seen.epoch_steps, places, count)


def load_ahead() -> None:
    """Load what a first fit needs, compiled loops and scipy: half a second of a core, in which
    nobody should be training yet."""
    random = np.random.default_rng(0)
    one_each = np.ones(_SHORT_EPOCH + 1, dtype=np.int64)
    seen = SeenUses.of(
        np.zeros_like(one_each),
        steps=np.arange(len(one_each)), widths=one_each, num_nodes=2, epoch_steps=_SHORT_EPOCH,
    )  # fmt: skip
    Popularity.of(seen, random=random).batches_to_come(1, random=random)


def _kinds(seen: SeenUses) -> tuple[IntArray, Floats, Floats]:
    """Chances, probabilities and weights before the fit. Nodes in reach that were not used are as
    many as those used once and twice tell: once**2 / (2 * twice) if all were equally popular (Chao,
    Scandinavian Journal of Statistics 1984), twice as many if rates were exponential."""
    often = [_CHANCES[-1]]
    while often[-1] * _OFTEN < seen.uses.max() / max(seen.shares.max(), 1 / seen.epoch_steps):
        often.append(often[-1] * 3 // 2)
    chances = [0, *_CHANCES * len(_PROBABILITIES), *often[1:]]
    few = len(_CHANCES)
    probabilities = [0.0, *np.repeat(_PROBABILITIES, few), *[_OFTEN] * (len(often) - 1)]
    uses = seen.uses.sum(axis=0)
    once, twice = np.count_nonzero(uses == 1), np.count_nonzero(uses == 2)
    in_reach = np.count_nonzero(uses) + _UNEVEN * once**2 / (2 * max(twice, 1))
    share = min(in_reach / len(uses), _MOST_OFTEN)
    weights = np.array([0.0, *np.repeat(_EXPECTED, few), *[max(_EXPECTED)] * (len(often) - 1)])
    weights *= share / weights.sum()
    weights[0] = 1 - share
    return np.array(chances), np.array(probabilities), weights


def _binomial(numbers: IntArray, tries: Floats, probabilities: Floats) -> Floats:
    """float64[numbers, kinds]: probabilities of so many uses."""
    from scipy.special import gammaln, xlog1py, xlogy  # half a second, and few commands need it

    uses = numbers[:, None].astype(np.float64)
    missed = np.maximum(tries - uses, 0.0)
    ways = gammaln(tries + 1) - gammaln(uses + 1) - gammaln(missed + 1)
    chance = np.exp(ways + xlogy(uses, probabilities) + xlog1py(missed, -probabilities))
    return np.maximum(np.where(uses <= tries, chance, 0.0), _LEAST)


@compiled
def _fitted(likely: Floats, counts: Floats, weights: Floats, rounds: int) -> Floats:
    """Weights of the kinds; likely: float64[patterns, kinds]; counts: nodes of each pattern."""
    for _ in range(rounds):
        added = np.zeros(len(weights))
        for pattern in range(len(counts)):
            total = 0.0
            for kind in range(len(weights)):
                total += likely[pattern, kind] * weights[kind]
            for kind in range(len(weights)):
                added[kind] += likely[pattern, kind] * (counts[pattern] / total)
        weights = weights * added / counts.sum()
    return weights


@compiled
def _chosen(so_far: Floats, patterns: IntArray, spread: Floats) -> IntArray:
    """The kind of each node, whose pattern has these cumulated weights."""
    last = so_far.shape[1] - 1
    kinds = np.empty(len(patterns), dtype=np.int64)
    for node in range(len(patterns)):
        line = so_far[patterns[node]]
        kinds[node] = min(np.searchsorted(line, spread[node] * line[last]), last)
    return kinds


@compiled
def _uses_to_come(
    chances: IntArray, probabilities: Floats, used: IntArray, seen: float, left: float,
    quantiles: Floats,
) -> IntArray:  # fmt: skip
    """int64[nodes, epochs]: uses in what is left of the epoch that goes on, and in those after it.

    used: so far in that epoch, of which a share was seen, and a share is left.
    """
    uses = np.zeros(quantiles.shape, dtype=np.int64)
    for node in range(len(chances)):
        p = probabilities[node]
        if p == 0:
            continue
        chances_left = max(chances[node] - used[node], 0)
        uses[node, 0] = _quantile(chances_left, p * left / (1 - p * seen), quantiles[node, 0])
        for epoch in range(1, quantiles.shape[1]):
            uses[node, epoch] = _quantile(chances[node], p, quantiles[node, epoch])
    return uses


@compiled
def _quantile(tries: int, p: float, quantile: float) -> int:
    """Of a binomial distribution."""
    chance = (1 - p) ** tries
    odds = p / (1 - p)
    count = 0
    while quantile >= chance and count < tries:
        quantile -= chance
        chance *= odds * (tries - count) / (count + 1)
        count += 1
    return count


@compiled
def _sorted_by_batch(
    uses: IntArray, begins: IntArray, epoch_steps: int, places: Singles, count: int
) -> tuple[IntArray, IntArray]:
    """begins: int64[epochs], the first batch of each; below 0 where a part of it is over. places:
    0 to 1, where in its epoch each use is. A batch holds each node once."""
    batches = np.empty(len(places), dtype=np.int32)
    latest = np.full(count, -1, dtype=np.int64)
    bounds = np.zeros(count + 1, dtype=np.int64)
    place = 0
    for node in range(uses.shape[0]):
        for epoch in range(uses.shape[1]):
            begin = max(begins[epoch], 0)
            length = begins[epoch] + epoch_steps - begin
            for _ in range(uses[node, epoch]):
                batch = begin + min(int(places[place] * length), length - 1)
                is_new = batch < count and latest[min(batch, count - 1)] != node
                if is_new:
                    latest[batch] = node
                    bounds[batch + 1] += 1
                batches[place] = batch if is_new else -1
                place += 1
    bounds = np.cumsum(bounds)
    free = bounds.copy()
    found = np.empty(bounds[-1], dtype=np.int64)
    place = 0
    for node in range(uses.shape[0]):
        for _ in range(uses[node].sum()):
            batch = batches[place]
            place += 1
            if batch >= 0:
                found[free[batch]] = node
                free[batch] += 1
    return found, bounds
