from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rudder.cli.commands.train import slurm_hosts
from rudder.training.config import run_config
from rudder.training.errors import ConfigError, MachineError
from rudder.training.hosts.host import reserve_ports
from rudder.training.hosts.link import HostLink, Stream
from rudder.training.hosts.names import Machine, hosts_in
from rudder.training.hosts.starters import AgentListener, NodePlace, by_environment
from tests.waiting import WAIT_SECONDS

PLACE = {"RUDDER_HEAD": "10.0.0.1:29400", "RUDDER_TOKEN": "secret"}
NO_CHOICE = {"hosts": None, "launcher": None, "network": None}


@pytest.fixture
def head() -> Iterator[AgentListener]:
    with closing(AgentListener(token="secret")) as head:
        yield head


def test_names_of_machines_are_hosts_over_ssh() -> None:
    config = run_config(hosts="node1, me@node2 10.0.0.2")
    assert (config.hosts, config.launcher) == (2, "ssh")
    machines = [Machine.parse(each) for each in config.machines]
    assert machines == [Machine("node1"), Machine("me@node2", "10.0.0.2")]


@pytest.mark.parametrize("hosts", [3, "3"])
def test_number_of_hosts_is_that_of_local_ones(hosts: object) -> None:
    config = run_config(hosts=hosts)
    assert (config.hosts, config.launcher, config.machines) == (3, "local", ())


@pytest.mark.parametrize("hosts", ["node1,,node2", "-o ProxyCommand=x,b", "a;b", "", "node1 here"])
def test_name_that_is_none_is_refused(hosts: str) -> None:
    with pytest.raises(ConfigError, match="hosts = "):
        run_config(hosts=hosts)


def test_hosts_file_has_a_machine_a_line(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("# all\nnode1 10.0.0.1  # first\n\n  node2\n")
    assert run_config(hosts=hosts_in(file)).machines == ("node1 10.0.0.1", "node2")


def test_hosts_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hosts_file .*none cannot be read"):
        hosts_in(tmp_path / "none")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"launcher": "ssh"}, "names of machines"),
        ({"hosts": 3, "machines": ["a", "b"], "launcher": "ssh"}, "hosts is 3"),
        ({"launcher": "slurm", "rate": "1gbit"}, "local hosts only"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        run_config(**options)


def test_slurm_allocation_gives_a_host_on_each_node() -> None:
    found = slurm_hosts({"SLURM_JOB_NUM_NODES": "4"}, NO_CHOICE)
    assert found == {"hosts": 4, "launcher": "slurm"}


@pytest.mark.parametrize(
    ("variables", "options"),
    [
        ({}, {}),
        ({"SLURM_JOB_NUM_NODES": "1"}, {}),
        ({"SLURM_JOB_NUM_NODES": "4"}, {"hosts": "2"}),
        ({"SLURM_JOB_NUM_NODES": "4"}, {"launcher": "local"}),
        ({"SLURM_JOB_NUM_NODES": "4"}, {"network": "loopback"}),
    ],
)
def test_choice_of_the_user_wins_over_slurm(
    variables: dict[str, str], options: dict[str, str]
) -> None:
    assert slurm_hosts(variables, NO_CHOICE | options) == {}


@pytest.mark.parametrize(
    "name", ["RUDDER_NODE_RANK", "JOB_COMPLETION_INDEX", "OMPI_COMM_WORLD_RANK", "SLURM_NODEID"]
)
def test_place_is_read_from_what_schedulers_set(name: str) -> None:
    place = NodePlace.from_environment(PLACE | {name: "3"})
    assert place == NodePlace(rank=3, head="10.0.0.1:29400", token="secret")


def test_without_a_head_there_is_no_place() -> None:
    assert NodePlace.from_environment({"JOB_COMPLETION_INDEX": "1"}) is None


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"RUDDER_HEAD": "node1"}, "RUDDER_HEAD"),
        ({"RUDDER_NODE_RANK": "-1"}, "RUDDER_NODE_RANK"),
        ({}, "RUDDER_NODE_RANK"),
        ({"RUDDER_NODE_RANK": "1", "RUDDER_TOKEN": ""}, "RUDDER_TOKEN"),
    ],
)
def test_place_that_is_incomplete_is_refused_by_name(change: dict[str, str], name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} = "):
        NodePlace.from_environment(PLACE | change)


def said_to(head: AgentListener, text: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", head.port))
    client.sendall(text)
    return client


def close(stream: Stream) -> None:
    stream.writer.close()
    stream.reader.close()
    stream.close()


def test_head_takes_only_who_says_the_token(head: AgentListener) -> None:
    with said_to(head, b"guess\n") as wrong, said_to(head, b"secret\nhello\n") as right:
        (stream,) = head.accept(1, timeout_s=WAIT_SECONDS)
        assert stream.reader.readline() == b"hello\n"
        assert wrong.recv(1) == b""
        close(stream)
        assert right.recv(1) == b""


def test_head_says_how_many_hosts_have_come(head: AgentListener) -> None:
    with pytest.raises(MachineError, match=r"0 of 2 hosts have come within 0\.1 s"):
        head.accept(2, timeout_s=0.1)


def test_agents_of_a_scheduler_find_the_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = reserve_ports(1, addresses=["127.0.0.1"], first=None)
    for name, value in {"RUDDER_HEAD": f"127.0.0.1:{port}", "RUDDER_TOKEN": "secret",
                        "RUDDER_NODE_RANK": "0"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "rudder.training.hosts.agent", "--head", f"127.0.0.1:{port}"]
    with subprocess.Popen(command) as further, by_environment(2, timeout_s=WAIT_SECONDS) as streams:
        links = [
            HostLink(each, name=f"n{k}", run_dir=tmp_path, control=tmp_path / "control")
            for k, each in enumerate(streams)
        ]
        assert {link.report(timeout_s=WAIT_SECONDS).name for link in links} == {
            socket.gethostname()
        }
        for link in links:
            link.close()
        assert further.wait(WAIT_SECONDS) == 0


def test_agent_with_another_token_says_so() -> None:
    with closing(AgentListener(token="secret")) as head:
        command = [sys.executable, "-m", "rudder.training.hosts.agent",
                   "--head", f"127.0.0.1:{head.port}"]  # fmt: skip
        variables = os.environ | {"RUDDER_TOKEN": "guess"}
        agent = subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True)
        with ThreadPoolExecutor() as pool:
            accepting = pool.submit(head.accept, 1, timeout_s=WAIT_SECONDS)
            _, complaint = agent.communicate(timeout=WAIT_SECONDS)
            with said_to(head, b"secret\n"):
                close(accepting.result()[0])
    assert agent.returncode == 1
    assert "did not take this host" in complaint
    assert "RUDDER_TOKEN" in complaint
