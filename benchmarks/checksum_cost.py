"""What comparing the checksums of a partition costs, as a share of loading it.

    python -m benchmarks.checksum_cost --repeats 7 PARTS

A process imports DGL and loads part 0, structure and tensors, as a graph server does (without its
copy to shared memory, so the shares are on the high side); then it compares the checksums of the
part's files, which are in the page cache. A graph server compares them in a thread while it imports
DGL, so that nobody waits for them where a core is free. Processor time is told, which says the same
on a machine that does other work: `share` is that of the comparison over import and load,
`share_of_load` over the load alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from statistics import median

from benchmarks.shared import run_study
from rudder.training.errors import DataError
from rudder.training.manifest import read_contents
from rudder.training.partition.layout import find_part_config

_LOAD = """
import json, sys, time
from pathlib import Path
from rudder.training.manifest import read_contents
part_config = Path(sys.argv[1])
contents = read_contents(part_config.parent)
import dgl.distributed
imported = time.process_time()
local, *_ = dgl.distributed.load_partition(str(part_config), 0)
local.formats("csc").create_formats_()
loaded = time.process_time()
contents.verify_content(part_config.parent, part=0)
times = (imported, loaded - imported, time.process_time() - loaded)
print(json.dumps(times), file=sys.stderr)
"""


def measure(options: Namespace, folder: Path) -> dict[str, float]:
    part_config = find_part_config(options.data)
    contents = read_contents(part_config.parent)
    if contents is None:
        raise DataError("there are no checksums", remedy="rudder data DIR --write-checksums")
    argv = [sys.executable, "-W", "ignore", "-c", _LOAD, str(part_config)]
    runs = []
    for _ in range(options.repeats + 1):
        done = subprocess.run(argv, check=True, capture_output=True, text=True)
        runs.append(json.loads(done.stderr.splitlines()[-1]))
    imports, loads, checks = (list(times) for times in zip(*runs[1:], strict=True))
    sizes = [file.num_bytes for file in contents.files if file.path.startswith("part0/")]
    return {
        "mebibytes": round(sum(sizes) / 2**20, 1),
        "import_seconds": round(median(imports), 3),
        "load_seconds": round(median(loads), 3),
        "check_seconds": round(median(checks), 3),
        "share": round(median(c / (i + w) for i, w, c in runs[1:]), 4),
        "share_of_load": round(median(c / w for _, w, c in runs[1:]), 4),
    }


if __name__ == "__main__":
    run_study(__doc__, measure, positional=("data", None), repeats=7)
