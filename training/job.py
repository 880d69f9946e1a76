"""What the launcher tells every process of a run: what to run, and where everything is."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from rudder.training.config import RunConfig
from rudder.training.partitioned_graph import PartitionedGraph
from rudder.training.settings import Frozen
from rudder.training.steering_options import SteeringOptions

JOB_VARIABLE = "RUDDER_JOB"
"""Environment variable with the path of the job file."""
HOST_VARIABLE = "RUDDER_HOST"
"""Environment variable with the index of the host that a process runs on."""
DEFAULT_PROGRAM = "rudder.training.process.program"
"""The program that trains."""


class Job(Frozen):
    """One run, as its processes need to know it; written to `job.json` in the run folder."""

    config: RunConfig
    graph: PartitionedGraph
    run_dir: Path
    ip_config: Path
    addresses: tuple[str, ...]
    """Address of each host, in the order of partitions."""
    hosts: tuple[str, ...] = ()
    """Name of each host, in the same order: of a machine, where hosts are machines."""
    network: Literal["namespace", "loopback", "machines"]
    shm_prefix: str = ""
    """Prefix of shared-memory names; set where hosts share one /dev/shm."""
    control_dir: Path | None = None
    """Where sockets and switches are; None: in the run folder."""
    master_port: int
    """Port of torch's rendezvous, on the first host."""
    resume_from: Path | None = None
    """Checkpoint that the run goes on from; None: it begins."""
    program: str = DEFAULT_PROGRAM
    """Module that the trainers execute; see `rudder.training.process.program`."""
    program_options: JsonValue = None
    """Options of the program, which only the program reads."""

    def host_of(self, rank: int) -> str:
        """Name of a trainer's host."""
        index = rank // self.config.trainers_per_host
        return self.hosts[index] if self.hosts else f"host{index}"

    @property
    def graph_name(self) -> str:
        """What DistDGL calls the graph."""
        return self.graph.graph_name

    @property
    def part_config(self) -> Path:
        """DistDGL's JSON of the partitioned graph."""
        return self.graph.part_config

    @property
    def file(self) -> Path:
        """Where the processes of a host find this."""
        return self.run_dir / "job.json"

    def socket_of(self, rank: int) -> Path:
        """Control socket of a trainer (a path: network namespaces share it)."""
        return self.control / f"rank{rank}.sock"

    @property
    def control(self) -> Path:
        """Folder of the control sockets and switches."""
        return self.control_dir or self.run_dir / "control"

    def trace_of(self, rank: int) -> Path | None:
        """File for the trace of a trainer; None where none is recorded."""
        if not self.config.record_trace:
            return None
        since = "" if self.resume_from is None else f"-{self.resume_from.name}"
        return self.run_dir / "traces" / f"rank{rank}{since}.trace"

    @property
    def llm_socket(self) -> Path | None:
        """Socket through which controllers reach the language model; None: they reach it alone."""
        if self.network == "loopback" or self.config.llm is None:
            return None
        return self.control / "llm.sock"

    @property
    def steering(self) -> SteeringOptions | None:
        """What this run's controllers are told; None where it has none."""
        options = self.config.steering
        if options is None or self.llm_socket is None:
            return options
        return options.model_copy(update={"llm_socket": self.llm_socket})

    @classmethod
    def read(cls, path: Path) -> Job:
        """Read a job file."""
        return cls.model_validate_json(path.read_text())
