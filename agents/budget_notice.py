"""Telling a person before a run that its memory budget leaves no buffer."""

from __future__ import annotations

from rudder.agents.progress import say
from rudder.training.config import RunConfig
from rudder.training.memory_budget import why_no_buffer


def tell_of_budget(config: RunConfig, *, row_bytes: int) -> None:
    """Tell where a steered run's memory budget leaves no buffer; the run goes on without one."""
    if config.steering is None:
        return
    budget = config.steering.memory_budget_bytes
    if problem := why_no_buffer(budget, trainers=config.trainers_per_host, row_bytes=row_bytes):
        say(problem)
