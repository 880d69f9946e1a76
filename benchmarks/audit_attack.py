"""What `rudder audit verify` finds of attacks on a run's record.

    python -m benchmarks.audit_attack                 10,000 attacks
    python -m benchmarks.audit_attack --attacks 300

Run it in the repository's root: the attacks are those of the tests (tests/memory/attacks.py).
Prints attacks by kind, and those that were missed. Exits 1 if one was missed with an anchor, or
one that is no forgery of all files without.
"""

from __future__ import annotations

import random
from argparse import Namespace
from pathlib import Path

from benchmarks.shared import run_study
from tests.memory.attacks import FORGERIES, campaign

Counts = dict[str, dict[str, int]]


def measure(options: Namespace, folder: Path) -> Counts:
    """Attacks, and those that were missed, by kind."""
    toll = campaign(options.attacks, folder=folder, draw=random.Random(options.seed))
    return {name: dict(+counts) for name, counts in vars(toll).items()}


def holds(found: Counts) -> bool:
    """Whether all but forgeries were found, and with an anchor all."""
    return set(found["missed"]) <= set(FORGERIES) and not found["missed_with_anchor"]


if __name__ == "__main__":
    run_study(__doc__, measure, holds=holds, attacks=10_000, seed=0)
