"""Machines made of namespaces: each has its own network, processes, disk, /dev/shm and sshd.

They need root. All of them are child processes, and the kernel ends them with the tests, however
these end. Nothing outside their folder is changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.waiting import until

HERE = Path(__file__).parent
WHY_VARIABLE = "RUDDER_NO_CLUSTER"
"""Environment variable that says why the machines cannot be had, if somebody knows."""
_NETWORK = "10.87.0"
_TRY = """mount --make-rprivate / && mount -t tmpfs tmpfs /run && mount -t proc proc /proc \
&& ip link add try type bridge && ip link add one type veth peer name two \
&& tc qdisc add dev one root tbf rate 200mbit burst 256kb latency 200ms && hostname try"""
_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
_OF_THE_MACHINE = {"sh", "sleep", "sshd", "munged", "slurmd", "slurmctld", "slurmstepd", "sshfs"}
_BOOT_SECONDS = 120


def why_not() -> str | None:
    """Why there can be no machines here; None if there can be."""
    if why := os.environ.get(WHY_VARIABLE):
        return why
    needs = subprocess.run(["sh", HERE / "needs.sh"], capture_output=True, text=True, check=True)
    if missing := needs.stdout.strip():
        return f"not installed: apt-get install {missing}"
    if os.getuid():
        return "machines are made by root only"
    unshare = ("unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork")
    tried = subprocess.run([*unshare, "sh", "-c", _TRY], capture_output=True, text=True)
    if tried.returncode:
        return f"namespaces are forbidden here: {tried.stderr.strip()}"
    return None


class Machine:
    """One of the machines; `disk` is its own, under a path that all of them have."""

    def __init__(self, name: str, address: str, folder: Path, variables: Mapping[str, str]) -> None:
        self.name, self.address = name, address
        self.folder, self._own = folder, folder / "machines" / name
        self._variables = variables
        self._first: psutil.Process | None = None

    @property
    def disk(self) -> Path:
        """Its own disk, as the machine sees it."""
        return self.folder / "disk"

    def outside(self, path: Path) -> Path:
        """Where a path on its disk is for the tests, which run on none of the machines."""
        return self._own / "disk" / path.relative_to(self.disk)

    def boot(self, switch: int) -> None:
        """Start it, and plug its cable into the switch."""
        self._prepare()
        command = ("unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork",
                   "--kill-child", "sh", HERE / "machine.sh", self.name, self.folder)  # fmt: skip
        with (self._own / "log" / "boot").open("w") as log:
            self._unshare = subprocess.Popen([*_DIES_WITH_US, *command], stdout=log, stderr=log)
        until((self._own / "ready").exists, within_s=_BOOT_SECONDS)
        (self._first,) = psutil.Process(self._unshare.pid).children()
        cable = f"c{self.name}"
        _in_network(switch, f"ip link add {cable} type veth peer name eth0 netns {self._first.pid}")
        _in_network(switch, f"ip link set {cable} master br0 up")
        _in_network(self._first.pid, f"ip addr add {self.address}/24 dev eth0")
        self.plug()

    def halt(self) -> None:
        """End all that runs there."""
        self._unshare.kill()
        self._unshare.wait()

    def _prepare(self) -> None:
        for name in ("disk/tmp", "disk/cache", "disk/data", "log"):
            (self._own / name).mkdir(parents=True)
        _key(self._own / "host_key")
        variables = " ".join(f"{name}={value}" for name, value in self._variables.items())
        (self._own / "sshd_config").write_text(
            f"HostKey {self._own}/host_key\nAuthorizedKeysFile {self.folder}/keys/own.pub\n"
            "StrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nPidFile none\n"
            f"Subsystem sftp internal-sftp\nMaxStartups 100:30:200\nSetEnv {variables}\n"
        )

    def start(self, *argv: object, **options: Any) -> subprocess.Popen[str]:
        """Start a command there; see `Popen` for the options."""
        assert self._first is not None
        enter = ("nsenter", "-t", str(self._first.pid), "-n", "-m", "-p", "-u", "-i")
        return subprocess.Popen(
            [*_DIES_WITH_US, *enter, f"--wd={self.disk}", *map(str, argv)],
            env=dict(self._variables),
            text=True,
            **options,
        )

    def run(self, *argv: object, timeout_s: float = 300) -> str:
        """What a command prints there, with its complaints; fails if the command does."""
        output, exit_code = self.told(*argv, timeout_s=timeout_s)
        assert exit_code == 0, output
        return output

    def told(self, *argv: object, timeout_s: float = 300) -> tuple[str, int]:
        """What a command prints there, with its complaints, and its exit code."""
        done = self.start(*argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.communicate(timeout=timeout_s)[0], done.returncode

    def processes(self, text: str = "") -> list[psutil.Process]:
        """What runs there beside the machine's own services, and has `text` in its command."""
        assert self._first is not None
        network = Path(f"/proc/{self._first.pid}/ns/net").readlink()
        return [each for each in psutil.process_iter() if _is_in(each, network, text)]

    def leftovers(self) -> list[str]:
        """Processes, shared memory and temporary folders of runs."""
        assert self._first is not None
        root = Path(f"/proc/{self._first.pid}/root")
        found = [f"{each.pid}: {' '.join(_command(each))}" for each in self.processes("python")]
        found += [str(path.name) for path in (root / "dev" / "shm").iterdir()]
        runs = (self._own / "disk" / "tmp").glob("rudder-*/run-*")
        return found + [str(path) for path in runs]

    def pull_cable(self) -> None:
        """Nothing reaches the machine any more."""
        self._net("ip link set eth0 down")

    def plug(self) -> None:
        """It is reached again."""
        self._net("ip link set eth0 up")

    def limit_link(self, rate: str) -> None:
        """Limit what it sends, as to `200mbit`."""
        self._net(f"tc qdisc replace dev eth0 root tbf rate {rate} burst 256kb latency 200ms")

    def free_link(self) -> None:
        """Lift the limit."""
        self._net("tc qdisc del dev eth0 root")

    def _net(self, command: str) -> None:
        assert self._first is not None
        _in_network(self._first.pid, command)

    def log(self, name: str) -> str:
        """A log of one of its services, as `sshd`."""
        return (self._own / "log" / name).read_text()


class Machines:
    """`count` machines on one switch, and what they share: `shared` is a folder that all see."""

    def __init__(self, folder: Path, *, count: int) -> None:
        self.folder, self.shared = folder, folder / "shared"
        for name in ("shared", "keys", "bin", "disk", "machines"):
            (folder / name).mkdir(parents=True)
        self._write_ssh()
        self.all = tuple(
            Machine(f"node{k}", f"{_NETWORK}.{k}", folder, self._variables())
            for k in range(1, count + 1)
        )
        lines = [f"{each.address} {each.name}" for each in self.all]
        (folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
        switch = ("unshare", "--net", "--mount", "sleep", "infinity")
        self._switch = subprocess.Popen([*_DIES_WITH_US, *switch])
        until(self._has_own_network, within_s=_BOOT_SECONDS)
        _in_network(self._switch.pid, "ip link add br0 type bridge")
        _in_network(self._switch.pid, "ip link set br0 up")
        for machine in self.all:
            machine.boot(self._switch.pid)
        for machine in self.all:
            _await_sshd(self.all[0], machine)

    def _has_own_network(self) -> bool:
        with suppress(OSError):
            own, other = (
                Path(f"/proc/{pid}/ns/net").readlink() for pid in ("self", self._switch.pid)
            )
            return own != other
        return False

    def _variables(self) -> dict[str, str]:
        disk = self.folder / "disk"
        return {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin",
            "HOME": str(disk),
            "TMPDIR": str(disk / "tmp"),
            "XDG_CACHE_HOME": str(disk / "cache"),
            "XDG_DATA_HOME": str(disk / "data"),
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PYTHONWARNINGS": "ignore",
        }

    def _write_ssh(self) -> None:
        """`ssh` of the machines: the key is accepted, and nothing is asked."""
        _key(self.folder / "keys" / "own")
        config = self.folder / "ssh_config"
        config.write_text(
            f"IdentityFile {self.folder}/keys/own\nStrictHostKeyChecking no\n"
            "UserKnownHostsFile /dev/null\nLogLevel ERROR\n"
        )
        ssh = self.folder / "bin" / "ssh"
        ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {config} "$@"\n')
        ssh.chmod(0o755)

    def workplace(self) -> Path:
        """A shared folder with an environment in .venv, as the job scripts expect it."""
        with suppress(FileExistsError):
            (self.shared / ".venv").symlink_to(sys.prefix)
        return self.shared

    def leftovers(self) -> dict[str, list[str]]:
        """By machine, what runs have left."""
        found = {machine.name: machine.leftovers() for machine in self.all}
        return {name: left for name, left in found.items() if left}

    def close(self) -> None:
        """End all machines."""
        for machine in self.all:
            machine.halt()
        self._switch.kill()
        self._switch.wait()


def start_slurm(machines: Machines) -> None:
    """Slurm on all machines, with the controller on the first."""
    key, conf = machines.folder / "munge.key", machines.folder / "slurm.conf"
    key.touch(0o600)
    key.write_bytes(os.urandom(1024))
    count, first = len(machines.all), machines.all[0]
    template = (HERE / "slurm.conf").read_text()
    conf.write_text(
        template.format(disk=first.disk, address=first.address, count=count, network=_NETWORK)
    )
    for machine in machines.all:
        disk = machine.disk
        machine.run("munged", "--force", f"--key-file={key}", f"--log-file={disk}/munged.log",
                    "--pid-file=/run/munge/pid", f"--seed-file={disk}/munge.seed")  # fmt: skip
    first.run("slurmctld")
    for machine in machines.all:
        machine.run("slurmd", "-N", machine.name)
    until(lambda: _are_idle(first, count), within_s=_BOOT_SECONDS)


def _are_idle(first: Machine, count: int) -> bool:
    with suppress(AssertionError):
        return first.run("sinfo", "-h", "-N", "-o", "%T").split() == ["idle"] * count
    return False


def _await_sshd(source: Machine, target: Machine) -> None:
    end = time.monotonic() + _BOOT_SECONDS
    while True:
        try:
            source.run("ssh", target.name, "true")
            return
        except AssertionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def _key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)


def _in_network(pid: int, command: str) -> None:
    subprocess.run(["nsenter", "-t", str(pid), "-n", *command.split()], check=True)


def _is_in(process: psutil.Process, network: Path, text: str) -> bool:
    with suppress(OSError, psutil.Error):
        command = _command(process)
        return (
            Path(f"/proc/{process.pid}/ns/net").readlink() == network
            and process.name() not in _OF_THE_MACHINE
            and process.status() != psutil.STATUS_ZOMBIE
            and text in " ".join(command)
        )
    return False


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
