"""The names that prepared graphs give their data."""

from __future__ import annotations

from typing import Any

import torch

FEATURE, LABEL, PHASE = "feat", "label", "seed_phase"


def phases(graph: Any, seeds: torch.Tensor) -> torch.Tensor | None:
    """int64[n]: when in an epoch each seed is visited, for data sets that say so."""
    return graph.ndata[PHASE][seeds] if PHASE in graph.ndata else None
