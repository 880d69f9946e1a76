"""Compiled loops of neighbour sampling.

Random numbers are SplitMix64 (Steele, Lea and Flood, 2014). Each node of a layer has a stream of
its own, which starts at a hash of the layer's key and the node's id. What is drawn for a node
depends neither on the nodes drawn before it nor on the process that draws.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rudder.training.compiled import compiled, inlined

Int64s = NDArray[np.int64]

SCAN_LIMIT = 64
"""Up to this fan-out, Floyd's choice looks its picks up by a scan; above, one pass over the row."""


_GAMMA = np.uint64(0x9E3779B97F4A7C15)
"""SplitMix64's step from one state to the next: odd, 2^64 over the golden ratio."""


@inlined
def _mixed(state: np.uint64) -> np.uint64:
    """SplitMix64's output for a state: a hash that maps 64 bits to 64 bits one to one."""
    z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@inlined
def _number_below(bound: int, state: np.uint64) -> np.int64:
    """A number from 0 to bound - 1, at a state of a stream."""
    return np.int64((_mixed(state) >> np.uint64(32)) * np.uint64(bound) >> np.uint64(32))


@compiled
def count_picks(nodes: Int64s, first: int, indptr: Int64s, fanout: int, counts: Int64s) -> int:
    """Fill `counts[i]` with the in-edges that node i yields; a node of elsewhere yields 0.

    nodes: int64[n] global ids; first: global id of the partition's first inner node;
    indptr: int64[inner + 1 or more]; fanout: -1 for all; counts: int64[n]. Returns the total.
    """
    total = 0
    num_inner = indptr.shape[0] - 1
    for i in range(nodes.shape[0]):
        local = nodes[i] - first
        picks = 0
        if 0 <= local < num_inner:
            degree = indptr[local + 1] - indptr[local]
            picks = degree if fanout < 0 or degree < fanout else fanout
        counts[i] = picks
        total += picks
    return total


@compiled
def pick_edges(
    nodes: Int64s, first: int, indptr: Int64s, fanout: int, key: np.uint64, picked: Int64s
) -> None:
    """Draw in-edges without replacement, each subset of a row equally likely.

    key: of the layer; equal keys give a node equal in-edges, whatever the other nodes are.
    Writes positions in the partition's CSC to `picked`, node by node, as many as `count_picks`
    counted. Floyd's algorithm (Bentley and Floyd, 1987) for small fan-outs, selection sampling
    (Knuth, TAOCP 2, 3.4.2 S) for large ones.
    """
    num_inner = indptr.shape[0] - 1
    at = 0
    for i in range(nodes.shape[0]):
        local = nodes[i] - first
        if not 0 <= local < num_inner:
            continue
        start = indptr[local]
        degree = indptr[local + 1] - start
        if fanout < 0 or degree <= fanout:
            for j in range(degree):
                picked[at + j] = start + j
            at += degree
            continue
        state = _mixed(key + np.uint64(nodes[i]) * _GAMMA)
        if fanout <= SCAN_LIMIT:
            for j in range(fanout):
                top = degree - fanout + j
                state += _GAMMA
                choice = start + _number_below(top + 1, state)
                for k in range(at, at + j):
                    if picked[k] == choice:
                        choice = start + top
                        break
                picked[at + j] = choice
            at += fanout
        else:
            needed = fanout
            for j in range(degree):
                state += _GAMMA
                if needed and _number_below(degree - j, state) < needed:
                    picked[at] = start + j
                    at += 1
                    needed -= 1


@compiled
def gather_sources(
    picked: Int64s, indices: Int64s, first: int, num_inner: int, halo: Int64s, sources: Int64s
) -> None:
    """Global source ids of picked CSC positions.

    Local ids below `num_inner` are inner nodes, numbered from global id `first`; the others index
    `halo`.
    """
    for e in range(picked.shape[0]):
        local = indices[picked[e]]
        sources[e] = first + local if local < num_inner else halo[local - num_inner]


@inlined
def _find(table: Int64s, mask: int, generation: int, key: int) -> np.int64:
    """Cell of `key`, or of the free cell where it belongs."""
    cell = (np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)
    at = np.int64(cell) & mask
    while table[at, 1] >> 32 == generation and table[at, 0] != key:
        at = (at + 1) & mask
    return at


@compiled
def renumber(
    nodes: Int64s, num_nodes: int, sources: Int64s, table: Int64s, generation: int, indices: Int64s
) -> int:
    """Give every distinct id a number: the first `num_nodes` of `nodes` in order, then new sources.

    nodes: int64, holds `num_nodes` distinct destination ids and room for len(sources) more;
    sources: int64[e]; table: int64[2^k, 2] with 2^k > 2 (num_nodes + e), reused from call to call
    with a new `generation`; indices: int64[e], filled with each source's number.
    Returns how many ids `nodes` then holds.
    """
    mask = table.shape[0] - 1
    stamp = np.int64(generation) << 32
    for i in range(num_nodes):
        at = _find(table, mask, generation, nodes[i])
        table[at, 0] = nodes[i]
        table[at, 1] = stamp | i
    total = num_nodes
    for e in range(sources.shape[0]):
        key = sources[e]
        at = _find(table, mask, generation, key)
        if table[at, 1] >> 32 == generation:
            indices[e] = table[at, 1] & 0xFFFFFFFF
        else:
            table[at, 0] = key
            table[at, 1] = stamp | total
            nodes[total] = key
            indices[e] = total
            total += 1
    return total


@compiled
def scatter_groups(
    groups: Int64s, counts: Int64s, offsets: Int64s, values: Int64s, out: Int64s
) -> None:
    """Put consecutive runs of `values` where their destinations' edges belong.

    groups: int64[m] destination numbers; counts: int64[m] length of each run;
    offsets: int64[n + 1] first edge of each destination; values, out: int64[edges].
    """
    at = 0
    for i in range(groups.shape[0]):
        start = offsets[groups[i]]
        for j in range(counts[i]):
            out[start + j] = values[at]
            at += 1


@compiled
def count_runs(wanted: Int64s, destinations: Int64s, counts: Int64s) -> bool:
    """Lengths of the runs of `destinations`, which follow the order of `wanted`.

    Returns False where they do not (then the caller must sort them first).
    """
    at = 0
    for i in range(wanted.shape[0]):
        start = at
        while at < destinations.shape[0] and destinations[at] == wanted[i]:
            at += 1
        counts[i] = at - start
    return at == destinations.shape[0]
