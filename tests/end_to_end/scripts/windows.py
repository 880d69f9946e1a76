"""Windows of a script of one's own, as its subscriber and its callback get them.

Runs as server and as trainer of a real job (see jobs.py). Prints one line of JSON per trainer.
"""

import argparse
import json
import threading
import time
from pathlib import Path
from typing import Any

import dgl
import pytest
import torch

from rudder.training.control import unix_socket
from rudder.training.control.messages import (
    SteeringState,
    Subscribe,
    read_message,
    send_command,
    to_line,
)
from rudder.training.control.steering import OFF_FILE
from rudder.training.errors import ConfigError
from rudder.training.loader import NodeLoader, RunOptions
from rudder.training.loading.batch import Batch
from rudder.training.metrics import RowCounts, Window
from rudder.training.settings import Change, Command
from rudder.training.workload import Workload

EPOCHS = 3
STEP_S = 0.01
PAUSE_S = 0.2


class Script:
    """A training script that only pretends to compute, and hears its own windows."""

    def __init__(self, g: Any, socket: Path) -> None:
        seeds = dgl.distributed.node_split(g.ndata["train_mask"], g.get_partition_book())
        self.told: list[Window] = []
        self.received: list[Any] = []
        self.batches: list[torch.Tensor] = []
        self.rows = RowCounts()
        self.switched_at = 0
        self.loop_seconds = 0.0
        self._socket = socket
        self._is_heard = threading.Event()
        self.loader = NodeLoader(
            g, seeds, dgl.dataloading.NeighborSampler([5, 10]), batch_size=32, inputs=["feat"],
            outputs=["label"], epochs=EPOCHS,
            run=RunOptions(control=socket, on_window=self.told.append),
        )  # fmt: skip

    def run(self) -> None:
        listener = threading.Thread(target=self._listen)
        listener.start()
        self._is_heard.wait(30)
        torch.distributed.barrier()
        for epoch in range(EPOCHS):
            started = time.perf_counter()
            for step, batch in enumerate(self.loader.batches()):
                self._step(batch)
                if step == 5:
                    with self.loader.paused():
                        time.sleep(PAUSE_S)
                if (epoch, step) == (1, 0):
                    self._switch_off()
            self.loop_seconds += time.perf_counter() - started
            with self.loader.paused():
                time.sleep(0.1)
        self.loader.close()
        listener.join()
        with pytest.raises(ConfigError, match="this loader is closed"):
            next(iter(self.loader))
        with self.loader.paused():
            self.loader.close()

    def _step(self, batch: Batch) -> None:
        self.batches.append(batch.input_nodes)
        self.rows += batch.accounts.rows
        time.sleep(STEP_S)

    def _switch_off(self) -> None:
        change = Change(capacity_rows=3)
        send_command(self._socket, Command(command_id="c", change=change, origin="controller"), 30)
        (self._socket.parent / OFF_FILE).touch()
        self.switched_at = len(self.batches)

    def _listen(self) -> None:
        with (
            unix_socket.connect(self._socket, timeout_s=30) as client,
            client.makefile("rb") as stream,
        ):
            client.sendall(to_line(Subscribe(subscribe="windows")))
            for line in stream:
                self.received.append(read_message(line))
                self._is_heard.set()

    def is_shown(self, window: Window) -> bool:
        """Whether a slice shows all remote nodes of each batch; of a small halo it does."""
        assert window.accesses is not None
        assert window.accesses.rate == 1
        view, first = self.loader.view, window.first_step
        batches = self.batches[first : first + window.num_steps]
        for nodes, shown in zip(batches, window.accesses.batches(), strict=True):
            ids = nodes.numpy()
            remote = view.to_remote(ids[(ids < view.first) | (ids >= view.last)])
            if sorted(shown.tolist()) != sorted(remote.tolist()):
                return False
        return True


def report(script: Script) -> dict[str, Any]:
    workload = script.received[0]
    assert isinstance(workload, Workload)
    windows = [message for message in script.received if isinstance(message, Window)]
    states = [message for message in script.received if isinstance(message, SteeringState)]
    with_accesses = [window for window in windows if window.accesses is not None]
    in_windows = sum((window.rows for window in windows), RowCounts())
    return {
        "workload": workload.model_dump(mode="json"),
        "told": len(script.told),
        "steps": len(script.batches),
        "first_steps": [window.first_step for window in windows],
        "adds_up": all(w.rows.hits + w.rows.rows_fetched.miss == w.rows.remote_rows
                       for w in windows),
        "remote_rows": in_windows.remote_rows,
        "all_remote_rows": script.rows.remote_rows,
        "pulled": sum(owner.rows for window in windows for owner in window.owners),
        "fetched": in_windows.rows_fetched.total,
        "owners": sorted({owner.part for window in windows for owner in window.owners}),
        "num_with_accesses": len(with_accesses),
        "are_shown": all(script.is_shown(window) for window in with_accesses),
        "peers": sum(len(window.peers) for window in windows),
        "step_ms": [1e3 * (w.wall_seconds or 0) / w.num_steps for w in windows],
        "compute_ms": [1e3 * w.seconds.compute / w.num_steps for w in windows],
        "wall_seconds": sum(window.wall_seconds or 0 for window in windows),
        "loop_seconds_without_pauses": script.loop_seconds - EPOCHS * PAUSE_S,
        "off_at": [state.step for state in states if not state.is_on],
        "switched_at": script.switched_at,
        "capacities": [window.settings.capacity_rows for window in windows],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--graph-name", "--part-config", "--ip-config", "--scratch"):
        parser.add_argument(name, required=True)
    args = parser.parse_args()
    dgl.distributed.initialize(args.ip_config)
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    g = dgl.distributed.DistGraph(args.graph_name, part_config=args.part_config)
    script = Script(g, Path(args.scratch) / f"control{rank}" / f"rank{rank}.sock")
    script.run()
    print(json.dumps(report(script)))
    torch.distributed.barrier()


if __name__ == "__main__":
    main()
