"""`rudder doctor --hosts`: here each machine is this one, behind a stand-in for ssh."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rudder.cli.main import make_app
from rudder.training.hosts.inspection import inspect
from rudder.training.hosts.names import Machine

HERE = Path(__file__).parent / "ssh_here.sh"


def test_machines_are_inspected_side_by_side_and_reach_each_other() -> None:
    machines = [Machine("node1", "127.0.0.1"), Machine("node2", "127.0.0.2")]
    found = inspect(machines, ssh=f"sh {HERE}", python=None)
    assert [each.machine for each in found] == ["node1", "node2"]
    for each in found:
        assert each.worst != "fail"
        assert each.found("reached") == "by ssh"
        assert each.found("import dgl") == "works"
        assert each.found("network") == "1 of 1 machines reached"


def test_all_problems_of_all_machines_are_told_at_once(tmp_path: Path) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(f"""
case "$*" in *node2*) echo "Host key verification failed." >&2; exit 255 ;; esac
exec sh {HERE} "$@"
""")
    hosts = "node1 8.8.8.8,node2 127.0.0.2"
    done = CliRunner().invoke(
        make_app(["doctor"]), ["doctor", "--hosts", hosts, "--ssh", f"sh {ssh}", "--json"]
    )
    assert done.exit_code == 4
    checks = {each["machine"]: each["checks"] for each in json.loads(done.stdout)}
    failed = {name: [c for c in of if c["state"] == "fail"] for name, of in checks.items()}
    assert [each["name"] for each in failed["node1"]] == ["address"]
    assert "run code as you" in failed["node1"][0]["found"]
    assert [each["name"] for each in failed["node2"]] == ["reached"]
    assert "`ssh node2`" in failed["node2"][0]["remedy"]


@pytest.mark.parametrize("hosts", ["3", "a;b"])
def test_hosts_that_are_no_machines_are_refused(hosts: str) -> None:
    done = CliRunner().invoke(make_app(["doctor"]), ["doctor", "--hosts", hosts])
    assert done.exit_code != 0
    assert "hosts" in str(done.exception)
