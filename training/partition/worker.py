"""The process that loads and cuts a graph: `python -m rudder.training.partition.worker`.

It is a process of its own so that METIS can be interrupted, its memory goes back to the machine
and what DGL prints goes to a log. On standard output it writes one Message a line and no more.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TextIO

from rudder.training.datasets.registry import load_dataset
from rudder.training.errors import ConfigError, DataError, MachineError, RudderError
from rudder.training.machine import die_with
from rudder.training.manifest import Recipe
from rudder.training.partition.metis import disk_full, write_partitions
from rudder.training.settings import Frozen

_ERRORS: dict[str, type[ConfigError | DataError | MachineError]] = {
    kind.__name__: kind for kind in (ConfigError, DataError, MachineError)
}


class Order(Frozen):
    """What to write and where; the only argument of the process, as JSON."""

    recipe: Recipe
    directory: Path
    parent_pid: int


class Failure(Frozen):
    """An error of the tree in `errors`, to be raised again in the parent."""

    kind: str
    message: str
    remedy: str

    @classmethod
    def of(cls, error: RudderError) -> Failure:
        """Describe an error."""
        return cls(kind=type(error).__name__, message=error.message, remedy=error.remedy)

    def as_error(self) -> RudderError:
        """The error again."""
        return _ERRORS[self.kind](self.message, remedy=self.remedy)


class Message(Frozen):
    """What the parent is told: progress, or the one failure."""

    progress: str | None = None
    failure: Failure | None = None


def main() -> int:
    """Do what the order says; the exit code is that of the error, if there is one."""
    order = Order.model_validate_json(sys.argv[1])
    die_with(order.parent_pid)
    with _own_standard_output() as out:
        try:
            _obey(order, out)
        except RudderError as error:
            _tell(out, Message(failure=Failure.of(error)))
            return error.exit_code
    return 0


def _obey(order: Order, out: TextIO) -> None:
    def progress(text: str) -> None:
        _tell(out, Message(progress=text))

    recipe = order.recipe
    try:
        graph = load_dataset(
            recipe.dataset, seed=recipe.seed, undirected=recipe.undirected, progress=progress
        )
        write_partitions(graph, recipe, order.directory, progress=progress)
    except MemoryError as error:
        raise MachineError(
            f"not enough memory for {recipe.dataset}: {error}",
            remedy="use a machine with more memory, or a smaller dataset",
        ) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(order.directory) from None
        raise MachineError(
            f"{error.filename or order.directory}: {error.strerror}",
            remedy="check that the folder can be read and written, or choose another one",
        ) from None


def _tell(out: TextIO, message: Message) -> None:
    out.write(message.model_dump_json(exclude_none=True) + "\n")
    out.flush()


def _own_standard_output() -> TextIO:
    """Standard output for messages alone; what libraries print goes to standard error."""
    messages = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(messages, "w")


if __name__ == "__main__":
    exit_code = main()
    sys.stdout.flush()
    os._exit(exit_code)  # taking torch and dgl apart in good order takes a second
