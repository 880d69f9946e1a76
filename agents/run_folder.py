"""Where runs go."""

from __future__ import annotations

import itertools
import re
import time
from pathlib import Path


def new_run_dir(dataset: str, *, parent: Path = Path("runs")) -> Path:
    """A path that does not exist yet: runs/<date>-<time>-<dataset>."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", dataset).strip("-")
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    candidates = itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2)))
    return next(path for name in candidates if not (path := parent / name).exists())
