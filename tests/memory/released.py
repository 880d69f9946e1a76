"""Makes a small database of the present schema, kept as test data when the schema is released.

    python -m tests.memory.released

writes run-N.db and memory-N.db, N the number of the schema's last step, into released/ beside this
file. A released file is never made again: that it still opens is the point.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path

from rudder.memory.past.transfer import fill
from rudder.memory.sample import write_sample_run

FOLDER = Path(__file__).parent / "released"
VERSIONS = {"run": "0004", "memory": "0003"}
"""Numbers of the last steps."""


def make() -> None:
    """Write the files that are not there yet."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        run, memory = Path(folder) / "run", Path(folder) / "memory.db"
        first = write_sample_run(run, num_episodes=2)[0]
        fill(memory, run)
        for name, path in (("run", first), ("memory", memory)):
            target = FOLDER / f"{name}-{VERSIONS[name]}.db"
            if target.exists():
                continue
            connection = sqlite3.connect(path)
            connection.execute("PRAGMA page_size = 1024")
            connection.execute("VACUUM")
            connection.close()
            shutil.copy(path, target)


if __name__ == "__main__":
    make()
