"""Whether the sampled accesses of a replay are those that the decision was made on."""

from __future__ import annotations

import zlib

import numpy as np

from rudder.tools.history import History


def fingerprint(history: History) -> int | None:
    """CRC-32 of what the estimator replays; None where nothing was sampled.

    Uses before the trace count as nodes and a rounded sum, for their last digits depend on the
    machine.
    """
    trace = history.trace
    if trace is None:
        return None
    used_before = np.packbits(trace.heat.of_nodes > 0)
    plain = f"{trace.first_step} {trace.num_batches} {trace.rate} {trace.heat.total:.6g}"
    crc = zlib.crc32(plain.encode())
    for part in (trace.nodes.astype("<i8"), trace.bounds.astype("<i8"), used_before):
        crc = zlib.crc32(part.tobytes(), crc)
    return crc
