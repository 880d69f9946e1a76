"""What a host's memory budget comes to, in words for people."""

from __future__ import annotations


def why_no_buffer(budget_bytes: int | None, *, trainers: int, row_bytes: int) -> str | None:
    """Why no trainer of the host can have a buffer, and what would do; None where each can.

    budget_bytes: of all buffers of the host, None: no limit; row_bytes: of one node's inputs.
    """
    least = max(trainers, 1) * row_bytes
    if budget_bytes is None or budget_bytes >= least:
        return None
    sharers = "one trainer" if trainers <= 1 else f"{trainers} trainers"
    return (
        f"a memory budget of {budget_bytes} bytes holds not one row ({row_bytes} bytes) for"
        f" {sharers}: once it is kept to, there is no buffer; give {least} bytes or more"
    )
