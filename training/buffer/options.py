"""What a script may set of a loader's buffer."""

from __future__ import annotations

from pydantic import Field, field_validator

from rudder.training.buffer.registry import PolicyOptions, parse_variant
from rudder.training.config import AUTO, BufferSize, to_buffer_size
from rudder.training.options import Options
from rudder.training.settings import DEFAULT_LOOKAHEAD_BATCHES, MAX_LOOKAHEAD_BATCHES

__all__ = ["BufferOptions"]


class BufferOptions(Options):
    """How many remote rows a loader keeps, which ones, and how far it looks ahead."""

    size: str | float | BufferSize = AUTO
    """`"auto"` takes as many rows as the memory budget holds, at most all remote rows. Else a share
    of the halo (0.25), a number of rows (`"20000"`) or of bytes (`"64MiB"`)."""
    memory_budget_bytes: int | None = Field(None, ge=0)
    """Bytes for the buffers of all trainers of this host. None: what the steering options say, else
    half of the memory that the host has left."""
    policy: str = "lookahead"
    """Decides which remote rows stay: `lookahead`, `lfu`, `static`, `score` or `none`, with options
    after a colon, such as `score:interval=32+alpha=0.05` (docs/policies.md). A package may add
    policies (docs/plugins.md)."""
    lookahead: int = Field(DEFAULT_LOOKAHEAD_BATCHES, ge=0, le=MAX_LOOKAHEAD_BATCHES)
    """Batches that are sampled ahead."""
    eviction_threshold: float | None = Field(None, ge=0, le=1)
    """Rows with more predicted uses per batch stay in the buffer. None: the policy's default."""

    @field_validator("size", mode="before")
    @classmethod
    def _read_size(cls, size: object) -> object:
        return to_buffer_size(size)

    @field_validator("policy")
    @classmethod
    def _check_policy(cls, policy: str) -> str:
        parse_variant(policy)
        return policy

    @property
    def buffer_size(self) -> BufferSize:
        """The size, read."""
        assert isinstance(self.size, BufferSize)
        return self.size

    @property
    def policy_and_options(self) -> tuple[str, PolicyOptions]:
        """The policy's name, and its options without the facts of a run."""
        return parse_variant(self.policy)
