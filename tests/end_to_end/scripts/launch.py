"""Launches a run as `rudder train` does; prints its events, and its error, as JSON lines."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rudder.training.checkpoint.reader import find_checkpoint
from rudder.training.config import run_config
from rudder.training.errors import RudderError
from rudder.training.events import Event
from rudder.training.job import DEFAULT_PROGRAM
from rudder.training.launch.run import launch
from rudder.training.partition.prepare import data_of


def show(event: Event) -> None:
    print(event.model_dump_json(), flush=True)


def main(data: Path, run_dir: Path, options: str) -> int:
    try:
        chosen = {"controller": "none"} | json.loads(options)  # a controller takes seconds to start
        program, is_resumed = chosen.pop("program", DEFAULT_PROGRAM), chosen.pop("resume", False)
        graph = data_of(run_config(data=data, **chosen), progress=lambda text: None)
        config = run_config(hosts=graph.num_parts, **chosen)
        launch(
            config,
            graph=graph,
            run_dir=run_dir,
            on_event=show,
            program=program,
            resume_from=find_checkpoint(run_dir, config, graph).folder if is_resumed else None,
        )
    except RudderError as error:
        fields = {"kind": "error", "type": type(error).__name__, "message": error.message,
                  "remedy": error.remedy}  # fmt: skip
        print(json.dumps(fields), flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
