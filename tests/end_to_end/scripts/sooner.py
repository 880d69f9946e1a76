"""Runs a script as it is, but for the seconds that DGL sleeps while it connects and leaves.

`python sooner.py SCRIPT ARGUMENTS`: servers and trainers are retried in short steps.
"""

import runpy
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from dgl.distributed import dist_context, rpc_client, rpc_server

LONGEST_SLEEP_S = 0.2


def main() -> None:
    shortened = SimpleNamespace(sleep=lambda seconds: time.sleep(min(seconds, LONGEST_SLEEP_S)))
    for module in (dist_context, rpc_client, rpc_server):
        module.time = shortened
    del sys.argv[0]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
