"""The process group that this trainer belongs to, if it has one."""

from __future__ import annotations

from torch import distributed

from rudder.training import distdgl
from rudder.training.control.endpoint import ProcessGroup


def process_group() -> ProcessGroup:
    """This trainer among the others; without torch's process group they do not hear of it."""
    rank = distdgl.trainer_rank()
    if not (distributed.is_available() and distributed.is_initialized()):
        return ProcessGroup(store=None, rank=rank, world_size=distdgl.num_trainers())
    from torch.distributed.distributed_c10d import _get_default_store

    store = _get_default_store()  # type: ignore[no-untyped-call]
    return ProcessGroup(store=store, rank=rank, world_size=distributed.get_world_size())
