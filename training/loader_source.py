"""What sources share that take their batches from Rudder's loader."""

from __future__ import annotations

import contextlib

from rudder.training.loader import NodeLoader
from rudder.training.metrics import Memory
from rudder.training.settings import BufferSettings


class LoaderSource:
    """Over a loader, which it closes."""

    def __init__(self, loader: NodeLoader) -> None:
        self._loader = loader

    def __len__(self) -> int:
        """Steps of an epoch."""
        return len(self._loader)

    def expect(self, epochs: int) -> None:
        """Let the loader run ahead into so many epochs, not further."""
        self._loader.expect(epochs)

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """Pause the loader's thread."""
        return self._loader.paused()

    @property
    def settings(self) -> BufferSettings:
        """Buffer settings in force."""
        return self._loader.settings

    @property
    def num_halo(self) -> int:
        """Nodes of other partitions within one hop."""
        return len(self._loader.view.halo)

    def memory(self) -> Memory:
        """Bytes that the loader takes."""
        return self._loader.memory()

    def close(self) -> None:
        """End the loader's thread."""
        self._loader.close()
