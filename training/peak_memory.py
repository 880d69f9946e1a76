"""How much memory this process has taken."""

from __future__ import annotations

import resource


def peak_rss_bytes() -> int:
    """Largest resident memory of this process so far, shared memory that it touched included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
