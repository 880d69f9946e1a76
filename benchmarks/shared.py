"""What the studies share: options, and spreads of what was measured."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def parser_of(doc: str | None, **defaults: float) -> argparse.ArgumentParser:
    """A parser with the module's docstring as its help, and an option per default value."""
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=doc, formatter_class=shape)
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    return parser


def spread(values: Sequence[float]) -> dict[str, float]:
    """The median, the 99th percentile and the largest value."""
    ranked = sorted(values)
    return {
        "p50": round(ranked[len(ranked) // 2], 3),
        "p99": round(ranked[int(len(ranked) * 0.99)], 3),
        "max": round(ranked[-1], 3),
    }
