"""Runs a job: makes its hosts, starts its processes, and returns the reports of its trainers."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import JsonValue

from rudder.training.config import CONFIG_FILE, RunConfig, write_config
from rudder.training.control.steering import SWITCH_FILES
from rudder.training.errors import ConfigError, MachineError
from rudder.training.events import Event
from rudder.training.hosts.control import control_over
from rudder.training.hosts.host import Cluster
from rudder.training.hosts.local import open_cluster
from rudder.training.hosts.machines import MachineCluster
from rudder.training.hosts.names import Machine
from rudder.training.hosts.on_ray import by_ray
from rudder.training.hosts.starters import by_environment, by_slurm, over_ssh
from rudder.training.job import DEFAULT_PROGRAM, Job
from rudder.training.launch.hours import keeping_to
from rudder.training.launch.preflight import (
    check_import_pair,
    check_parts,
    require_disk,
    require_memory,
)
from rudder.training.launch.rehearsal import check_training
from rudder.training.launch.relay import Relay
from rudder.training.launch.supervise import Interruption, Supervisor
from rudder.training.launch.worker import WorkerGroup
from rudder.training.local_disk import control_folder_of
from rudder.training.metrics import RankReport
from rudder.training.partitioned_graph import PartitionedGraph


def launch(
    config: RunConfig,
    *,
    graph: PartitionedGraph,
    run_dir: Path,
    on_event: Callable[[Event], None],
    program: str = DEFAULT_PROGRAM,
    program_options: JsonValue = None,
    resume_from: Path | None = None,
) -> list[RankReport]:
    """Train once, on hosts of this machine; returns the reports in the order of ranks.

    program: module that the trainers execute, see `rudder.training.process.program`; the default
    trains. program_options: what this module reads from the job. resume_from: a checkpoint of
    `run_dir` that the run goes on from.

    Otherwise `run_dir` is created, or must be empty; it receives job.json, ip_config.txt and logs/.
    Every event of every process is handed to `on_event`, in this thread. In every case all
    processes, shared memory and sockets are removed at the end; the logs stay.
    Raises ConfigError or DataError if config and data do not fit, MachineError if the machine
    lacks something, RunError (with host and rank) if a process fails, is killed or stalls,
    and after Ctrl-C or SIGHUP, and StoppedError after SIGTERM or SIGUSR1.
    """
    run_dir = run_dir.absolute()
    check_import_pair()
    check_parts(config, graph)
    check_training(config, graph)
    with Interruption() as interruption, _disk_of(run_dir):
        if resume_from is None:
            _make_run_dir(run_dir)
        else:
            _clear_run_dir(run_dir)
        with (
            _sockets_in(run_dir / "control") as control,
            keeping_to(config.hours, folder=control),
            _open_cluster(config, run_dir, control) as cluster,
        ):
            for room in cluster.rooms():
                require_memory(config, graph, room)
            job = _make_job(config, graph, run_dir, cluster)
            own = {"program": program, "program_options": program_options}
            elsewhere = control if control != run_dir / "control" else None
            job = job.model_copy(
                update={**own, "resume_from": resume_from, "control_dir": elsewhere}
            )
            job.file.write_text(job.model_dump_json(indent=2) + "\n")
            jobs = cluster.hand_over(job)
            with (
                _way_to_model(job),
                control_over(job, cluster.hosts),
                WorkerGroup(jobs, cluster.hosts, logs=run_dir / "logs") as group,
            ):
                return Supervisor(
                    servers=group.servers,
                    trainers=group.trainers,
                    on_event=on_event,
                    interruption=interruption,
                    start_timeout=config.start_timeout,
                    stall_timeout=config.stall_timeout,
                    writes_checkpoints=config.checkpoint_every.unit != "none",
                ).run()


def _make_run_dir(run_dir: Path) -> None:
    if run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
        raise ConfigError(
            f"run_dir = {str(run_dir)!r} exists and is not an empty folder",
            remedy="choose a new folder with --run-dir; Rudder overwrites no run",
        )
    require_disk(run_dir)
    (run_dir / "logs").mkdir(parents=True)


def _clear_run_dir(run_dir: Path) -> None:
    """Remove what an earlier launcher, which was killed, would have removed itself."""
    require_disk(run_dir)
    (run_dir / "rendezvous").unlink(missing_ok=True)
    _remove_sockets(run_dir / "control")


def _make_job(config: RunConfig, graph: PartitionedGraph, run_dir: Path, cluster: Cluster) -> Job:
    """The job of this run; its config and the addresses of its servers are written down."""
    port = cluster.reserve_ports(config.servers_per_host + 1, first=config.port)
    addresses = tuple(host.address for host in cluster.hosts)
    job = Job(
        config=config,
        graph=graph,
        run_dir=run_dir,
        ip_config=run_dir / "ip_config.txt",
        addresses=addresses,
        hosts=tuple(host.name for host in cluster.hosts),
        network=cluster.network,
        shm_prefix=cluster.shm_prefix,
        master_port=port + config.servers_per_host,
    )
    job.ip_config.write_text("".join(f"{address} {port}\n" for address in addresses))
    write_config(config, run_dir / CONFIG_FILE)
    return job


def _open_cluster(
    config: RunConfig, run_dir: Path, control: Path
) -> AbstractContextManager[Cluster]:
    """The hosts of the run: here, or on other machines."""
    if config.launcher == "local":
        return open_cluster(config.network, num_hosts=config.hosts, rate=config.rate)
    machines = [Machine.parse(each) for each in config.machines]
    start = {
        "ssh": lambda: over_ssh(machines, command=config.ssh, python=config.remote_python),
        "slurm": lambda: by_slurm(config.hosts, timeout_s=config.start_timeout),
        "env": lambda: by_environment(config.hosts, timeout_s=config.start_timeout),
        "ray": lambda: by_ray(config.hosts, timeout_s=config.start_timeout),
    }[config.launcher]
    return MachineCluster(
        num_hosts=config.hosts,
        start=start,
        run_dir=run_dir,
        control=control,
        machines=machines,
        timeout_s=config.start_timeout,
        may_be_public=config.allow_public_addresses,
    )


@contextmanager
def _way_to_model(job: Job) -> Iterator[None]:
    """A relay to the language model, if the hosts' own networks do not reach it."""
    if job.llm_socket is None or job.config.llm is None:
        yield
        return
    url = urlsplit(job.config.llm)
    port = url.port or (443 if url.scheme == "https" else 80)
    with Relay(job.llm_socket, host=url.hostname or "", port=port):
        yield


@contextmanager
def _sockets_in(folder: Path) -> Iterator[Path]:
    """A folder for the control sockets of the trainers, removed at the end.

    It is on the local disk where `folder` can be neither it nor a link to it.
    """
    control = control_folder_of(folder.parent)
    try:
        yield control
    finally:
        _remove_sockets(control)


def _remove_sockets(folder: Path) -> None:
    """Remove the folder; what a user has switched off or limited stays so if the run goes on."""
    for path in folder.glob("*"):
        if path.name not in SWITCH_FILES:
            path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.resolve().rmdir()
        if folder.is_symlink():
            folder.unlink()


@contextmanager
def _disk_of(run_dir: Path) -> Iterator[None]:
    """Turn the errors of a full or read-only disk into a MachineError with a remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        raise MachineError(
            f"the run folder {run_dir} cannot be written: {error.strerror}",
            remedy="free some space, or choose another folder with --run-dir",
        ) from error
