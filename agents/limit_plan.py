"""The plan that nobody is asked for: a buffer over its limit shrinks to it."""

from __future__ import annotations

from rudder.memory.records import Plan
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import Change

LIMITS = "limits"
"""Stands for the planner in episodes of this kind."""
REASON = "the buffer is larger than its limit"


def limit_plan(toolbox: Toolbox) -> Plan | None:
    """What keeps the buffer to the limits in force; None where it does, or nothing was seen yet."""
    window, most = toolbox.history.latest, toolbox.limits.max_capacity_rows
    if window is None or window.settings.capacity_rows <= most:
        return None
    change = Change(capacity_rows=most)
    return Plan(planner=LIMITS, change=change, expected=None, reason=REASON)
