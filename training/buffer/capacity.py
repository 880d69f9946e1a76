"""How many rows a trainer's buffer holds at the start."""

from __future__ import annotations

from rudder.training.config import BUFFER_FORMS, BufferSize
from rudder.training.errors import ConfigError, MachineError
from rudder.training.partition_view import PartitionView


def capacity_of(
    buffer: str | float | BufferSize,
    view: PartitionView,
    *,
    row_bytes: int,
    max_rows: int,
    rank: int,
) -> int:
    """Rows, no more than there are remote nodes.

    max_rows: what the host has memory for. Raises ConfigError where `buffer` is none of the forms
    that BufferSize reads, MachineError where it is too large.
    """
    size = _buffer_size(buffer)
    rows = min(size.rows(num_halo=len(view.halo), row_bytes=row_bytes), view.num_remote)
    if rows > max_rows:
        raise MachineError(
            f"a buffer of {rows} rows takes {rows * row_bytes >> 20} MiB,"
            f" more than rank {rank}'s host has free",
            remedy=f"set buffer to at most {max_rows} rows",
        )
    return rows


def _buffer_size(buffer: str | float | BufferSize) -> BufferSize:
    if isinstance(buffer, BufferSize):
        return buffer
    try:
        return BufferSize.parse(str(buffer))
    except ValueError:
        raise ConfigError.for_field("buffer", value=buffer, allowed=BUFFER_FORMS) from None
