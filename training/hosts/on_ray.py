"""Agents as actors of a Ray cluster: one on each of its nodes."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from rudder.training.errors import MachineError
from rudder.training.hosts.link import Stream
from rudder.training.hosts.messages import PARENT_VARIABLE, TOKEN_VARIABLE
from rudder.training.hosts.starters import AGENT, AgentListener, own_addresses

_END_SECONDS = 10.0
"""Agents end by themselves when the run is over; then their actors are killed."""


class _Node:
    """An actor: the parent of one agent, which ends with it."""

    def run(self, command: Sequence[str], variables: Mapping[str, str]) -> int:
        """Run the agent to its end; returns its exit code."""
        own = {**os.environ, **variables, PARENT_VARIABLE: str(os.getpid())}
        return subprocess.call([sys.executable, *command], env=own)


@contextmanager
def by_ray(count: int, *, timeout_s: float) -> Iterator[list[Stream]]:
    """One actor on each of `count` nodes of the Ray cluster that RAY_ADDRESS or this node names.

    Raises MachineError where there is no Ray, no cluster, or too few free nodes.
    """
    ray = _connected()
    with ExitStack() as stack:
        stack.callback(ray.shutdown)
        head = AgentListener(token=None)
        stack.callback(head.close)
        group = _nodes(ray, count, timeout_s=timeout_s)
        stack.callback(ray.util.remove_placement_group, group)
        command = [*AGENT, "--head", f"{','.join(own_addresses())}:{head.port}"]
        ends: list[Any] = []
        for index in range(count):
            place = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(
                group, placement_group_bundle_index=index
            )
            actor = ray.remote(_Node).options(num_cpus=1, scheduling_strategy=place).remote()
            stack.callback(ray.kill, actor)
            ends.append(actor.run.remote(command, {TOKEN_VARIABLE: head.token}))
        stack.callback(ray.wait, ends, num_returns=count, timeout=_END_SECONDS)
        yield head.accept(count, timeout_s=timeout_s)


def _connected() -> Any:
    """Ray, connected to its cluster."""
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError:
        raise MachineError(
            "the launcher ray needs Ray, which is not installed",
            remedy="pip install 'rudder-gnn[ray]' on all nodes",
        ) from None
    try:
        address = os.environ.get("RAY_ADDRESS", "auto")
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except ConnectionError:
        raise MachineError(
            f"no Ray cluster is found at {address}",
            remedy="start one: `ray start --head` on a node, `ray start --address=HOST:6379` on the"
            " others; then run this on one of them, or as a job of Ray",
        ) from None
    return ray


def _nodes(ray: Any, count: int, *, timeout_s: float) -> Any:
    """A placement group with a place on each of `count` nodes."""
    group = ray.util.placement_group([{"CPU": 1}] * count, strategy="STRICT_SPREAD")
    if not group.wait(timeout_s):
        alive = sum(bool(node["Alive"]) for node in ray.nodes())
        ray.util.remove_placement_group(group)
        raise MachineError(
            f"{count} hosts need as many nodes of Ray with a free core; the cluster has {alive}"
            f" nodes, and gave no such places within {timeout_s:g} s",
            remedy="see `ray status`; use fewer hosts, or wait longer with --start-timeout",
        )
    return group
