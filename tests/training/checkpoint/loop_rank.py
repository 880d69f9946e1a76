"""One of several ranks that train, stop, and go on: exits 1 if that made a difference."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.training.checkpoint.test_training_loop import outcome, stopped_and_resumed, whole
from tests.training.process_group import process_group


def main(rank: int, meeting: Path, model: str) -> int:
    """0: losses and weights are the same."""
    options: dict[str, Any] = {"model": model, "hidden": 64, "heads": 2, "fanout": (5, 5)}
    with process_group(rank, size=4, meeting=meeting):
        same = [
            outcome(stopped_and_resumed(stop, first_batch=100 * rank, **options))
            == outcome(whole(first_batch=100 * rank, **options))
            for stop in (1, 3)
        ]
        print(same, flush=True)
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
