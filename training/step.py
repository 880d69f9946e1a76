"""What one training step needs, by the names that prepared graphs give their data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dgl
import torch

from rudder.training.metrics import RowCounts, Seconds

FEATURE, LABEL, PHASE = "feat", "label", "seed_phase"


@dataclass(frozen=True)
class Step:
    """What one training step needs, and what it took to get it."""

    blocks: list[dgl.DGLGraph]
    features: torch.Tensor
    labels: torch.Tensor
    rows: RowCounts
    seconds: Seconds


def phases(graph: Any, seeds: torch.Tensor) -> torch.Tensor | None:
    """int64[n]: when in an epoch each seed is visited, for data sets that say so."""
    return graph.ndata[PHASE][seeds] if PHASE in graph.ndata else None
